"""The best weight of every network and regulariser, and the table of their test accuracies."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from persist_jax.results.escape import printable
from persist_jax.results.verdict import COLLAPSED, COMPLETED, DIVERGED, VERDICTS, WORSE, verdict
from persist_jax.store import Record, SweepFolder

# Accuracies are multiples of 1 / examples, stored as float32 or averaged over seeds: values that
# differ by less than this are equal accuracies and share a rank.
ROUNDING = 2e-7

Cell = tuple[str, str]  # network, regulariser


class Choice(NamedTuple):
    """The weight with the best validation accuracy, and the results of its runs.

    `validation`, `validation_loss`, `test`, `initial_test`, `best_iteration` and `train` are means
    over the completed seeds of the weight. `best` is the run with the best validation accuracy,
    `verdicts` has the verdict on each seed, `tests` the test accuracy by seed, and `diverged` is
    the number of other seeds of the weight that diverged.
    """

    weight: float
    validation: float
    validation_loss: float
    test: float
    initial_test: float
    best_iteration: float
    seeds: tuple[int, ...]
    best: Record
    verdicts: tuple[str, ...] = (COMPLETED,)
    train: float = math.nan
    tests: Mapping[int, float] = MappingProxyType({})
    diverged: int = 0

    @property
    def gap(self) -> float:
        """Train accuracy minus test accuracy."""
        return self.train - self.test

    @property
    def verdict(self) -> str:
        """The worst of its seeds' verdicts."""
        return min(self.verdicts, key=VERDICTS.index)

    @property
    def suspect(self) -> bool:
        """Whether a seed collapsed or is worse than untrained."""
        return self.verdict in (COLLAPSED, WORSE)

    @property
    def verdict_in_words(self) -> str:
        """The verdict, with its number of seeds if there are several; "" if nothing is wrong."""
        if not self.suspect:
            return ""
        count, seeds = self.verdicts.count(self.verdict), len(self.seeds)
        return self.verdict if seeds == 1 else f"{count} of {seeds} {self.verdict}"


@dataclass(frozen=True)
class Table:
    """Test accuracies of regularisers (rows) on networks (columns).

    Attributes:
        title: title of the table.
        regularisers: the rows.
        networks: the columns.
        choices: the best weight by (network, regulariser); missing where no run completed.
        diverged: number of diverged runs by (network, regulariser).
        collapsed: number of collapsed runs, likewise.
        worse: number of runs that are worse than untrained, likewise.
        records: all runs, likewise.
    """

    title: str
    regularisers: tuple[str, ...]
    networks: tuple[str, ...]
    choices: dict[Cell, Choice]
    diverged: Counter[Cell]
    collapsed: Counter[Cell] = field(default_factory=Counter)
    worse: Counter[Cell] = field(default_factory=Counter)
    records: dict[Cell, tuple[Record, ...]] = field(default_factory=dict)

    def accuracies(self) -> Float[np.ndarray, "rows columns"]:
        """Return test accuracies as fractions, NaN where no run completed."""
        cells = np.full((len(self.regularisers), len(self.networks)), np.nan)
        for (network, regulariser), choice in self.choices.items():
            row, column = self.regularisers.index(regulariser), self.networks.index(network)
            cells[row, column] = choice.test
        return cells

    def fewer_seeds(self) -> set[Cell]:
        """Return the cells whose mean lacks a seed that another regulariser has on the network."""
        seeds: dict[str, set[int]] = {}
        for (network, _), choice in self.choices.items():
            seeds.setdefault(network, set()).update(choice.seeds)
        return {cell for cell, c in self.choices.items() if set(c.seeds) < seeds[cell[0]]}

    def comparable(self) -> Float[np.ndarray, "rows columns"]:
        """Return the accuracies to rank: NaN where a mean lacks seeds that others have."""
        cells = without_rounding(self.accuracies())
        for network, regulariser in self.fewer_seeds():
            cells[self.regularisers.index(regulariser), self.networks.index(network)] = np.nan
        return cells

    def weight_wins(self) -> dict[str, dict[float, int]]:
        """Count, by regulariser, the networks on which each weight was the best."""
        wins: dict[str, Counter[float]] = {name: Counter() for name in self.regularisers}
        for (_, regulariser), choice in self.choices.items():
            wins[regulariser][choice.weight] += 1
        return {name: dict(sorted(counts.items())) for name, counts in wins.items()}


def without_rounding(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Make accuracies, or differences of accuracies, equal if they differ only by rounding.

    Absolute values closer than `ROUNDING` to each other become the smallest of them; those closer
    than that to 0 become 0. Rounding to decimals would not do: 1 / 256 lies between two numbers of
    seven decimals.

    Example:
        >>> without_rounding(np.array([0.9 - 0.8, 0.7 - 0.8, 0.1 + 0.2 - 0.3])).tolist()
        [0.09999999999999998, -0.09999999999999998, 0.0]
    """
    known = np.isfinite(values)
    amounts, places = np.unique(np.abs(values[known]), return_inverse=True)
    begins = np.diff(amounts, prepend=0.0) > ROUNDING
    equal = np.append(0.0, amounts[begins])[np.cumsum(begins)]
    made = np.array(values, float)
    made[known] = np.sign(values[known]) * equal[places]
    return made


def choose(records: Sequence[Record]) -> Choice | None:
    """Choose the weight for a network and regulariser.

    It is the weight with the best validation accuracy, averaged over its completed seeds; on a tie
    the one with the smaller validation loss, then the one nearer to 0. Diverged runs do not count;
    collapsed runs do, as in the paper.

    Args:
        records: runs that differ in weight and seed only.

    Returns:
        The choice; None if no run completed.
    """
    by_weight: dict[float, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.run):
        if record.status == "completed":
            by_weight.setdefault(record.weight, []).append(record)
    candidates = [_summary(weight, group) for weight, group in by_weight.items()]
    levels = without_rounding(np.array([choice.validation for choice in candidates]))
    ordered = sorted(
        zip(levels, candidates, strict=True),
        key=lambda entry: (
            -entry[0], entry[1].validation_loss, abs(entry[1].weight), entry[1].weight
        ),
    )
    if not ordered:
        return None
    choice = ordered[0][1]
    diverged = [r for r in records if r.weight == choice.weight and r.status == "diverged"]
    return choice._replace(diverged=len(diverged))


def tabulate(sweep: SweepFolder) -> Table:
    """Make the table of one sweep."""
    groups: dict[Cell, list[Record]] = {}
    for record in sweep.grid_records:
        groups.setdefault((record.network, record.regulariser), []).append(record)
    choices = {cell: choose(group) for cell, group in groups.items()}
    counts: dict[str, Counter[Cell]] = {status: Counter() for status in VERDICTS}
    for cell, group in groups.items():
        for record in group:
            counts[verdict(record).status][cell] += 1
    found = {cell: choice for cell, choice in choices.items() if choice is not None}
    wrong = (counts[status] for status in (DIVERGED, COLLAPSED, WORSE))
    runs = {cell: tuple(group) for cell, group in groups.items()}
    title = printable(sweep.title)
    regularisers = tuple(dict.fromkeys(printable(name) for name in sweep.regularisers))
    return Table(title, regularisers, sweep.networks, found, *wrong, runs)


def combine(tables: Sequence[Table]) -> Table:
    """Join tables side by side; columns are named `table/network`, rows keep their first order."""
    rows = dict.fromkeys(name for table in tables for name in table.regularisers)

    def joined(parts: Iterable[Mapping[Cell, Any]]) -> dict[Cell, Any]:
        return {
            (f"{table.title}/{network}", regulariser): value
            for table, part in zip(tables, parts, strict=True)
            for (network, regulariser), value in part.items()
        }

    return Table(
        " + ".join(table.title for table in tables),
        tuple(rows),
        tuple(f"{table.title}/{name}" for table in tables for name in table.networks),
        joined(table.choices for table in tables),
        Counter(joined(table.diverged for table in tables)),
        Counter(joined(table.collapsed for table in tables)),
        Counter(joined(table.worse for table in tables)),
        joined(table.records for table in tables),
    )


def _summary(weight: float, records: list[Record]) -> Choice:
    def mean(values: list[float | int | None]) -> float:
        return statistics.fmean(math.inf if value is None else value for value in values)

    trained = [record.accuracy.trained for record in records]
    return Choice(
        weight=weight,
        validation=mean([accuracy.validation for accuracy in trained]),
        validation_loss=mean([record.validation_loss for record in records]),
        test=mean([accuracy.test for accuracy in trained]),
        initial_test=mean([record.accuracy.initial.test for record in records]),
        best_iteration=mean([record.best_iteration for record in records]),
        seeds=tuple(record.seed for record in records),
        best=max(records, key=lambda record: record.accuracy.trained.validation),
        verdicts=tuple(verdict(record).status for record in records),
        train=mean([accuracy.train for accuracy in trained]),
        tests={record.seed: record.accuracy.trained.test for record in records},
    )
