"""Redundant neurons of the best runs, as rows of a table."""

from collections.abc import Iterator
from typing import NamedTuple

from persist_jax.results.selection import Table
from persist_jax.store.record import RedundantCounts


class Row(NamedTuple):
    """Counts of one set of weights; None where the run's record has none."""

    network: str
    weights: str
    trained: bool
    counts: RedundantCounts | None


def redundant_rows(table: Table) -> list[Row]:
    """Per network its untrained weights, then those of the best run under each regulariser.

    Where the best runs of a network differ in their seeds, each seed's untrained weights have a
    row.

    Returns:
        The rows; none where no run has counts.
    """
    rows = [row for network in table.networks for row in _of_network(table, network)]
    return rows if any(row.counts for row in rows) else []


def threshold(table: Table) -> float | None:
    """The least |corr| within a cluster; None where no run has counts."""
    found = (choice.best.redundancy for choice in table.choices.values())
    return next((redundancy.threshold for redundancy in found if redundancy), None)


def _of_network(table: Table, network: str) -> Iterator[Row]:
    best = {
        name: table.choices[network, name].best
        for name in table.regularisers
        if (network, name) in table.choices
    }
    untrained = {
        record.seed: record.redundancy.initial for record in best.values() if record.redundancy
    }
    for seed, counts in sorted(untrained.items()):
        which = f", seed {seed}" if len(untrained) > 1 else ""
        yield Row(network, f"untrained{which}", False, counts)
    for name, record in best.items():
        yield Row(network, name, True, record.redundancy and record.redundancy.trained)
