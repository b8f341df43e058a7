"""How many neurons are constant while the best runs train."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from persist_jax.results.plots import Histories
from persist_jax.results.selection import Table
from persist_jax.results.style import FONT, GRID, empty_picture, legend, lines, say


def plot_constant(table: Table, histories: Histories) -> Figure:
    """The share of the sampled neurons that are constant on a batch, per epoch of the best runs."""
    if not table.networks:
        return empty_picture("No run has ended yet: there are no neurons to count.")
    with rc_context(FONT):
        columns = min(3, len(table.networks))
        rows = -(-len(table.networks) // columns)
        size = (max(2.9 * columns, 6.0), 2.1 * rows + 0.7)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        styles = lines(table.regularisers)
        for network, panel in zip(table.networks, panels, strict=False):
            panel.set_title(network, size=9, weight="bold")
            panel.grid(color=GRID, lw=0.6)
            panel.set_xlabel("epoch")
            for name in table.regularisers:
                share = _share(table, histories, (network, name))
                if share is not None:
                    style = {"color": styles[name].colour, "ls": styles[name].dashes}
                    panel.plot(np.arange(1, len(share) + 1), share, lw=1.3, label=name, **style)
            if not panel.lines:
                say(panel, "no counts")
        for panel in panels[len(table.networks) :]:
            panel.set_axis_off()
        for panel in panels[::columns]:
            panel.set_ylabel("constant neurons in %")
        panels[0].set_ylim(bottom=0)
        legend(figure, table.regularisers)
    return figure


def _share(table: Table, histories: Histories, cell: tuple[str, str]) -> np.ndarray | None:
    history = histories.get(cell, {})
    if cell not in table.choices or not len(history.get("constant_neurons", ())):
        return None
    points = table.choices[cell].best.points
    return None if points is None else 100 * history["constant_neurons"] / points
