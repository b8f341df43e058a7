"""Plot the accuracy of every weight, its spread over seeds, and the chosen weight."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from persist_jax.results.seeds import BASELINE, spread
from persist_jax.results.selection import Table
from persist_jax.results.style import BLUE, MUTED, PALE, Panels, panels, plain_numbers, say
from persist_jax.store import Record

WRONG = "#d55e00"
# Percentage points that a panel shows below the accuracies that it must show: with a network at
# chance in view, all other points would lie on one line.
_DEPTH = 3.0


def plot_weights(table: Table) -> Panels | None:
    """Plot validation and test accuracy against the weight: mean and deviation over seeds.

    Every panel shows the accuracies of the chosen weight and the test accuracy of `none`.

    Returns:
        A panel per network and regulariser; `None` if no regulariser has a finished run.
    """
    names = [name for name in table.regularisers if name != BASELINE and _has_weights(table, name)]
    if not names:
        return None
    grid = panels(table.networks, names, _keys(), sharey=True)
    for cell, panel in grid.axes.items():
        _draw(panel, table, cell)
    for network in table.networks:
        _limit(table, network, [grid.axes[network, name] for name in names])
    return grid


def at_the_edge(table: Table) -> list[str]:
    """Return a sentence on chosen weights that are the smallest tried, and one on the largest."""
    sentences = []
    for end, which, beyond in ((min, "smallest", "smaller"), (max, "largest", "larger")):
        found: dict[str, list[str]] = {}
        for (network, name), choice in table.choices.items():
            tried = {record.weight for record in table.records.get((network, name), ())}
            if len(tried) > 1 and choice.weight == end(tried):
                found.setdefault(name, []).append(network)
        if found:
            where = "; ".join(
                f"{name} on {', '.join(networks)}" for name, networks in found.items()
            )
            sentences.append(
                f"At the edge of the grid: the chosen weight is the {which} tried for {where}. A "
                f"{beyond} one may be more accurate."
            )
    return sentences


def _has_weights(table: Table, name: str) -> bool:
    return any(records for (_, row), records in table.records.items() if row == name)


def _draw(panel: Axes, table: Table, cell: tuple[str, str]) -> None:
    records = table.records.get(cell, ())
    if not records:
        say(panel, "no run yet")
        return
    weights = sorted({record.weight for record in records})
    _scale(panel, weights)
    panel.set_xlabel("weight")
    panel.yaxis.set_major_locator(MaxNLocator(5))
    baseline = table.choices.get((cell[0], BASELINE))
    if baseline is not None:
        level, band = 100 * baseline.test, 100 * (spread(list(baseline.tests.values())) or 0.0)
        panel.axhline(level, color=MUTED, lw=0.9, ls=(0, (4, 2)))
        panel.axhspan(level - band, level + band, color=MUTED, alpha=0.15, lw=0)
    by_weight = [[r for r in records if r.weight == weight] for weight in weights]
    _points(panel, weights, by_weight, "validation", PALE, 0.94)
    _points(panel, weights, by_weight, "test", BLUE, 1.06)
    for weight, group in zip(weights, by_weight, strict=True):
        if any(record.status == "diverged" for record in group):
            panel.plot(weight, 0.05, "x", color=WRONG, ms=4, transform=panel.get_xaxis_transform())
    if cell in table.choices:
        chosen = table.choices[cell]
        panel.plot(1.06 * chosen.weight, 100 * chosen.test, "o", mec=BLUE, mfc="none", ms=9)


def _scale(panel: Axes, weights: Sequence[float]) -> None:
    """Use a logarithmic axis of weights; a symmetric one if a weight is not above 0."""
    if weights[0] <= 0:
        panel.set_xscale("symlog", linthresh=min((abs(w) for w in weights if w), default=1.0))
        ticks = [weights[0], 0.0, max(weights[-1], 0.0)]
        panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    else:
        panel.set_xscale("log")
        plain_numbers(panel.xaxis)
        panel.xaxis.set_major_locator(LogLocator(numticks=4))
        panel.set_xlim(weights[0] / 2, 2 * weights[-1])
    panel.xaxis.set_minor_locator(NullLocator())


def _points(
    panel: Axes,
    weights: Sequence[float],
    by_weight: Sequence[Sequence[Record]],
    part: str,
    colour: str,
    shift: float,
) -> None:
    """Draw means and spreads of the completed runs, shifted so that two series do not overlap."""
    found = [
        (shift * weight, values)
        for weight, group in zip(weights, by_weight, strict=True)
        if (values := [100 * getattr(r.accuracy.trained, part) for r in group if _counts(r)])
    ]
    if found:
        places = [place for place, _ in found]
        means = [np.mean(values) for _, values in found]
        bars = [spread(values) or 0.0 for _, values in found]
        panel.errorbar(places, means, bars, color=colour, marker="o", ms=3, lw=1, elinewidth=1)


def _counts(record: Record) -> bool:
    return record.status == "completed"


def _limit(table: Table, network: str, row: Sequence[Axes]) -> None:
    """Limit a row's axis to a little below what it must show, and mark the points below."""
    chosen = [choice for (place, _), choice in table.choices.items() if place == network]
    always = [100 * level for choice in chosen for level in (choice.test, choice.validation)]
    lines = [(panel, line) for panel in row for line in panel.lines if line.get_marker() == "o"]
    values = np.concatenate([always, *(line.get_ydata() for _, line in lines)])
    if not len(values):
        return
    top = values.max()
    bottom = max(values.min(), min(always) - _DEPTH)
    margin = 0.08 * (top - bottom) + 0.05
    row[0].set_ylim(bottom - margin, top + 2 * margin)
    for panel, line in lines:
        for x in np.asarray(line.get_xdata())[np.asarray(line.get_ydata()) < bottom]:
            panel.plot(x, 0.15, "v", color=MUTED, ms=3.5, transform=panel.get_xaxis_transform())


def _keys() -> list[Line2D]:
    return [
        Line2D([], [], color=BLUE, marker="o", ms=3, lw=1, label="test %"),
        Line2D([], [], color=PALE, marker="o", ms=3, lw=1, label="validation %"),
        Line2D([], [], mec=BLUE, marker="o", mfc="none", ms=7, lw=0, label="chosen"),
        Line2D([], [], color=MUTED, lw=0.9, ls=(0, (4, 2)), label="test % of none"),
        Line2D([], [], color=MUTED, marker="v", ms=3.5, lw=0, label="further below"),
        Line2D([], [], color=WRONG, marker="x", ms=4, lw=0, label="diverged"),
    ]
