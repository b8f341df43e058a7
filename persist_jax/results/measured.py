"""Plot measures of the sampled neurons during the training of the best runs."""

import numpy as np

from persist_jax.results.plots import Histories
from persist_jax.results.selection import Table
from persist_jax.results.style import Panels, keys, lines, panels, say
from persist_jax.store.history import MEASURES

# The measures to draw, by the name of their column.
_COLUMNS = {
    "dormant share": f"{MEASURES}dormant",
    "mean |corr|": f"{MEASURES}mean_correlation",
    "median death": f"{MEASURES}deaths_median",
    "effective rank": f"{MEASURES}effective_rank",
}


def plot_measures(table: Table, histories: Histories) -> Panels | None:
    """Plot measures of the sampled neurons on a batch, per epoch of the best runs.

    Returns:
        A panel per network and measure; `None` if no run has measures.
    """
    if not any(name in history for history in histories.values() for name in _COLUMNS.values()):
        return None
    grid = panels(table.networks, list(_COLUMNS), keys(table.regularisers), size=(2.2, 1.7))
    for (network, column), panel in grid.axes.items():
        panel.set_xlabel("epoch")
        for name, style in lines(table.regularisers).items():
            values = histories.get((network, name), {}).get(_COLUMNS[column], ())
            if len(values):
                drawn = {"color": style.colour, "ls": style.dashes, "lw": 1.3}
                panel.plot(np.arange(1, len(values) + 1), values, **drawn)
        if panel.lines:
            panel.set_ylim(bottom=0)
        else:
            say(panel, "not measured")
    return grid
