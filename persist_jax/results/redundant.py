"""The table of redundant neurons of the best runs."""

from collections.abc import Iterator
from typing import NamedTuple

from persist_jax.results.selection import Table
from persist_jax.store.record import RedundantCounts


class Row(NamedTuple):
    """Redundancy counts of one set of weights; None if the run's record has none."""

    network: str
    weights: str
    counts: RedundantCounts | None


def redundant_rows(table: Table) -> list[Row]:
    """Return, per network, a row for the untrained weights and one per regulariser's best run.

    If the best runs of a network have different seeds, the untrained weights of each have a row.

    Returns:
        The rows; empty if no run has counts.
    """
    rows = [row for network in table.networks for row in _of_network(table, network)]
    return rows if any(row.counts for row in rows) else []


def threshold(table: Table) -> float | None:
    """Return the smallest |corr| that joins neurons to a cluster; None if no run has counts."""
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
        yield Row(network, f"untrained{which}", counts)
    for name, record in best.items():
        yield Row(network, name, record.redundancy and record.redundancy.trained)
