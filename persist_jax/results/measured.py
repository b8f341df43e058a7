"""What was measured of the sampled neurons while the best runs train."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from persist_jax.results.plots import Histories
from persist_jax.results.selection import Table
from persist_jax.results.style import FONT, GRID, legend, lines, panels, say
from persist_jax.store.history import MEASURES

# The measures that are drawn, as the columns are called.
_COLUMNS = {
    "dormant share": f"{MEASURES}dormant",
    "mean |corr|": f"{MEASURES}mean_correlation",
    "median death": f"{MEASURES}deaths_median",
    "effective rank": f"{MEASURES}effective_rank",
}


def was_measured(histories: Histories) -> bool:
    """Whether any run has a measure to draw."""
    return any(name in history for history in histories.values() for name in _COLUMNS.values())


def plot_measures(table: Table, histories: Histories) -> Figure:
    """Measures of the sampled neurons on a batch, per epoch of the best runs."""
    with rc_context(FONT):
        figure, axes = panels(table.networks, list(_COLUMNS), height=1.6, sharex="row")
        styles = lines(table.regularisers)
        for (network, column), panel in axes.items():
            panel.grid(color=GRID, lw=0.6)
            for name in table.regularisers:
                values = histories.get((network, name), {}).get(_COLUMNS[column], ())
                if len(values):
                    style = {"color": styles[name].colour, "ls": styles[name].dashes}
                    panel.plot(np.arange(1, len(values) + 1), values, lw=1.3, label=name, **style)
            if panel.lines:
                panel.set_ylim(bottom=0)
            else:
                say(panel, "not measured")
        for column in _COLUMNS:
            axes[table.networks[-1], column].set_xlabel("epoch")
        legend(figure, table.regularisers)
    return figure
