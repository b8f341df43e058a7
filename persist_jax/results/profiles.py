"""Plot performance profiles: the share of runs above each accuracy."""

from persist_jax.results.seeds import performance_profiles
from persist_jax.results.selection import Table
from persist_jax.results.style import Panels, keys, lines, panels


def plot_profiles(table: Table) -> Panels | None:
    """Plot the share of runs that are more accurate than a threshold.

    Returns:
        One panel for all networks, which have equal weights; `None` with fewer than three runs of
        each regulariser.
    """
    found = performance_profiles(table)
    if not found:
        return None
    drawn_keys = [key for key in keys(table.regularisers) if key.get_label() in found]
    grid = panels([""], ["runs above, in %"], drawn_keys, size=(5.0, 2.6))
    (panel,) = grid.axes.values()
    styles = lines(table.regularisers)
    for name, (thresholds, shares) in found.items():
        drawn = {"color": styles[name].colour, "ls": styles[name].dashes, "lw": 1.3}
        panel.step(100 * thresholds, 100 * shares, where="post", **drawn)
    panel.set_xlabel("test accuracy in %")
    panel.set_ylim(0, 102)
    return grid
