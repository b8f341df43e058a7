"""Judge a run by its record: completed, diverged, collapsed or worse than untrained."""

import functools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from scipy import stats

from persist_jax.store import Record
from persist_jax.store.record import Chance

DIVERGED, COLLAPSED, WORSE, COMPLETED = (
    "diverged",
    "collapsed",
    "worse than untrained",
    "completed",
)
VERDICTS = (DIVERGED, COLLAPSED, WORSE, COMPLETED)  # the worst first
# Share of guessing networks whose accuracy counts as chance.
CONFIDENCE = 0.999


class Verdict(NamedTuple):
    """The outcome of a run.

    Attributes:
        status: one of `VERDICTS`.
        reasons: the reasons, as text; for a completed run, what could not be judged.
    """

    status: str
    reasons: tuple[str, ...]


def verdict(record: Record) -> Verdict:
    """Judge a run by its record alone; missing fields are never held against it.

    A completed run has collapsed if the validation accuracy of its best weights is at most chance
    (see `highest_guess`), or if with these weights more than half of the sampled neurons are
    constant, and more than before training. It is worse than untrained if its validation accuracy
    is below that of the initial weights. If guessing may reach 100 %, the accuracy is not compared
    with chance, and a reason says so.

    Args:
        record: the run's record. A continued run starts from trained weights, so it is never worse
            than untrained.

    Returns:
        The worst verdict that applies, with the reasons of all that apply.
    """
    if record.status == "diverged":
        return Verdict(DIVERGED, (record.reason,) if record.reason else ())
    collapsed = (*_at_chance(record), *_dead(record))
    worse = tuple(_below_untrained(record))
    status = COLLAPSED if collapsed else WORSE if worse else COMPLETED
    return Verdict(status, collapsed + worse + tuple(_unknown(record)))


def highest_guess(chance: Chance) -> float:
    """Return the accuracy that a guessing network exceeds with a probability of 0.1 % at most.

    The number of right guesses is binomial, with the share of the most common class as its
    probability; the result is its 99.9 % quantile over the number of examples.

    Example:
        >>> round(highest_guess(Chance(share=0.1, examples=12000)), 4)
        0.1086
    """
    return _quantile(chance.share, chance.examples) / chance.examples


def judged(record: Record) -> bool:
    """Return whether the record has all fields that a verdict needs; before 0.2, none had."""
    return record.chance is not None and record.redundancy is not None


def notice(records: Iterable[Record]) -> str | None:
    """Return a line on the runs of the grid that collapsed or are worse than untrained, if any."""
    found = [verdict(record).status for record in records if not record.continued]
    bad = sum(status in (COLLAPSED, WORSE) for status in found)
    if not bad:
        return None
    return f"{bad} of {len(found)} runs collapsed or did worse than untrained: see the report"


@functools.cache
def _quantile(share: float, examples: int) -> int:
    return int(stats.binom.ppf(CONFIDENCE, examples, share))


def _at_chance(record: Record) -> Iterator[str]:
    accuracy, chance = record.accuracy.trained.validation, record.chance
    if chance is None or _untold(chance):
        return
    # Accuracies are whole numbers of examples, stored as float32.
    if round(accuracy * chance.examples) <= _quantile(chance.share, chance.examples):
        yield f"accuracy at chance (up to {100 * highest_guess(chance):.2f} %)"


def _untold(chance: Chance) -> bool:
    """Return whether guessing may be right on every example: no accuracy is then above chance."""
    return _quantile(chance.share, chance.examples) >= chance.examples


def _unknown(record: Record) -> Iterator[str]:
    if record.chance and _untold(record.chance):
        yield (
            "accuracy not compared with chance (guessing may be right on all "
            f"{record.chance.examples} validation examples)"
        )


def _dead(record: Record) -> Iterator[str]:
    found = record.redundancy
    if found is None or found.trained is None:
        return
    constant, neurons = found.trained.constant, found.trained.neurons
    before = 0 if found.initial is None else found.initial.constant
    if 2 * constant > neurons and constant > before:
        began = "" if found.initial is None else f"; untrained {before}"
        yield f"dead neurons ({constant} of {neurons}{began})"


def _below_untrained(record: Record) -> Iterator[str]:
    before, after = record.accuracy.initial.validation, record.accuracy.trained.validation
    if after < before and not record.continued:
        yield f"accuracy below untrained ({100 * before:.2f} %)"
