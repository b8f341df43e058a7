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

from persist_jax.results.verdict import COLLAPSED, COMPLETED, DIVERGED, VERDICTS, WORSE, verdict
from persist_jax.store import Record, SweepFolder

# Accuracies are multiples of 1 / examples, stored as float32 or averaged over seeds: what differs
# by less than this is one accuracy, and one rank.
ACCURACY_DECIMALS = 7

Cell = tuple[str, str]  # network, regulariser


class Choice(NamedTuple):
    """The weight that is best on the validation set, and what its runs reached.

    `validation`, `validation_loss`, `test`, `initial_test`, `best_iteration` and `train` are means
    over the completed seeds of the weight; `best` is its seed with the best validation accuracy,
    `verdicts` says what became of each seed, and `tests` is the test accuracy by seed.
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

    @property
    def gap(self) -> float:
        """How much more accurate it is on the train examples than on the test examples."""
        return self.train - self.test

    @property
    def verdict(self) -> str:
        """The worst of its seeds' verdicts."""
        return min(self.verdicts, key=VERDICTS.index)

    @property
    def suspect(self) -> bool:
        """Whether a seed of it collapsed or is worse than untrained."""
        return self.verdict in (COLLAPSED, WORSE)

    @property
    def verdict_in_words(self) -> str:
        """The same with how many of several seeds it holds for; empty where nothing is wrong."""
        if not self.suspect:
            return ""
        count, seeds = self.verdicts.count(self.verdict), len(self.seeds)
        return self.verdict if seeds == 1 else f"{count} of {seeds} {self.verdict}"


@dataclass(frozen=True)
class Table:
    """Test accuracies of regularisers (rows) on networks (columns).

    Attributes:
        title: what the table is about.
        regularisers: the rows.
        networks: the columns.
        choices: the best weight by (network, regulariser); missing where no run completed.
        diverged: how many runs diverged, by (network, regulariser).
        collapsed: how many runs collapsed, likewise.
        worse: how many runs are worse than untrained, likewise.
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
        """Test accuracies as fractions, NaN where no run completed."""
        cells = np.full((len(self.regularisers), len(self.networks)), np.nan)
        for (network, regulariser), choice in self.choices.items():
            row, column = self.regularisers.index(regulariser), self.networks.index(network)
            cells[row, column] = choice.test
        return cells

    def weight_wins(self) -> dict[str, dict[float, int]]:
        """On how many networks each weight was the best, by regulariser."""
        wins: dict[str, Counter[float]] = {name: Counter() for name in self.regularisers}
        for (_, regulariser), choice in self.choices.items():
            wins[regulariser][choice.weight] += 1
        return {name: dict(sorted(counts.items())) for name, counts in wins.items()}


def choose(records: Sequence[Record]) -> Choice | None:
    """Choose among the runs of one network and regulariser.

    The weight with the best validation accuracy, averaged over its completed seeds; on a tie the
    one with the smaller validation loss, then the smaller weight. Diverged runs never count;
    those that collapsed do, as in the paper.

    Args:
        records: runs that differ in weight and seed only.

    Returns:
        The choice; None when no run completed.
    """
    by_weight: dict[float, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.run):
        if record.status == "completed":
            by_weight.setdefault(record.weight, []).append(record)
    candidates = [_summary(weight, group) for weight, group in by_weight.items()]
    return min(candidates, key=_preference, default=None)


def tabulate(sweep: SweepFolder) -> Table:
    """The table of one sweep."""
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
    return Table(sweep.title, sweep.regularisers, sweep.networks, found, *wrong, runs)


def combine(tables: Sequence[Table]) -> Table:
    """The tables side by side; a column is named `table/network`, rows come as first met."""
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


def _preference(choice: Choice) -> tuple[float, float, float]:
    accuracy = round(choice.validation, ACCURACY_DECIMALS)
    return -accuracy, choice.validation_loss, choice.weight
