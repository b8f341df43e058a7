"""Plot the share of constant neurons during the training of the best runs."""

import numpy as np

from persist_jax.results.plots import Histories
from persist_jax.results.selection import Table
from persist_jax.results.style import Panels, keys, lines, panels, say


def plot_constant(table: Table, histories: Histories) -> Panels | None:
    """Plot the share of sampled neurons that are constant on a batch, per epoch of the best runs.

    Returns:
        A panel per network; `None` if no run has counts, or none of its neurons is constant.
    """
    shares = {cell: _share(table, histories, cell) for cell in table.choices}
    if not any(share is not None and share.any() for share in shares.values()):
        return None
    grid = panels([""], table.networks, keys(table.regularisers), size=(2.6, 1.9), sharey=True)
    for (_, network), panel in grid.axes.items():
        panel.set_xlabel("epoch")
        for name, style in lines(table.regularisers).items():
            share = shares.get((network, name))
            if share is not None:
                drawn = {"color": style.colour, "ls": style.dashes, "lw": 1.3}
                panel.plot(np.arange(1, len(share) + 1), share, **drawn)
        if not panel.lines:
            say(panel, "no counts")
    panel.set_ylim(bottom=0)
    return grid


def _share(table: Table, histories: Histories, cell: tuple[str, str]) -> np.ndarray | None:
    history = histories.get(cell, {})
    if not len(history.get("constant_neurons", ())):
        return None
    points = table.choices[cell].best.points
    return None if points is None else 100 * history["constant_neurons"] / points
