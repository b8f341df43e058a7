"""The best weight of every network and regulariser, and the table of their test accuracies."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from persist_jax.store import Record, SweepFolder

# Accuracies are multiples of 1 / examples, stored as float32 or averaged over seeds: what differs
# by less than this is one accuracy, and one rank.
ACCURACY_DECIMALS = 7


class Choice(NamedTuple):
    """The weight that is best on the validation set, and what its runs reached.

    `validation`, `validation_loss`, `test`, `initial_test` and `best_iteration` are means over the
    completed seeds of the weight; `best` is its seed with the best validation accuracy.
    """

    weight: float
    validation: float
    validation_loss: float
    test: float
    initial_test: float
    best_iteration: float
    seeds: tuple[int, ...]
    best: Record


@dataclass(frozen=True)
class Table:
    """Test accuracies of regularisers (rows) on networks (columns).

    Attributes:
        title: what the table is about.
        regularisers: the rows.
        networks: the columns.
        choices: the best weight by (network, regulariser); missing where no run completed.
        diverged: how many runs diverged, by (network, regulariser).
    """

    title: str
    regularisers: tuple[str, ...]
    networks: tuple[str, ...]
    choices: dict[tuple[str, str], Choice]
    diverged: Counter[tuple[str, str]]

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
    one with the smaller validation loss, then the smaller weight. Diverged runs never count.

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
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in sweep.grid_records:
        groups.setdefault((record.network, record.regulariser), []).append(record)
    choices = {cell: choose(group) for cell, group in groups.items()}
    diverged = Counter(
        cell for cell, group in groups.items() for record in group if record.status == "diverged"
    )
    found = {cell: choice for cell, choice in choices.items() if choice is not None}
    return Table(sweep.title, sweep.regularisers, sweep.networks, found, diverged)


def combine(tables: Sequence[Table]) -> Table:
    """The tables side by side; a column is named `table/network`, rows come as first met."""
    rows = dict.fromkeys(name for table in tables for name in table.regularisers)
    return Table(
        " + ".join(table.title for table in tables),
        tuple(rows),
        tuple(f"{table.title}/{name}" for table in tables for name in table.networks),
        {
            (f"{table.title}/{network}", regulariser): choice
            for table in tables
            for (network, regulariser), choice in table.choices.items()
        },
        Counter(
            {
                (f"{table.title}/{network}", regulariser): count
                for table in tables
                for (network, regulariser), count in table.diverged.items()
            }
        ),
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
    )


def _preference(choice: Choice) -> tuple[float, float, float]:
    accuracy = round(choice.validation, ACCURACY_DECIMALS)
    return -accuracy, choice.validation_loss, choice.weight
