"""The accuracy of every weight, with its spread over seeds and the one that was chosen."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from persist_jax.results.seeds import BASELINE, spread
from persist_jax.results.selection import Table
from persist_jax.results.style import (
    FONT,
    GRID,
    MUTED,
    empty_picture,
    panels,
    plain_numbers,
    say,
)
from persist_jax.store import Record

TEST = "#0072b2"
VALIDATION = "#9db4c8"
WRONG = "#d55e00"
# Accuracy, in percent, that a panel shows below that of its highest point: a network at chance
# would press all others into a line.
_DEPTH = 3.0


def plot_weights(table: Table) -> Figure:
    """Validation and test accuracy against the weight: mean and standard deviation over seeds."""
    names = [name for name in table.regularisers if name != BASELINE and _has_weights(table, name)]
    if not names:
        return empty_picture("No regulariser has a run that has ended: there are no weights.")
    with rc_context(FONT):
        figure, axes = panels(table.networks, names, height=1.7, sharey="row")
        for cell, panel in axes.items():
            _draw(panel, table, cell)
        for name in names:
            axes[table.networks[-1], name].set_xlabel("weight")
        for network in table.networks:
            _limit([axes[network, name] for name in names])
        figure.legend(handles=_handles(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def _has_weights(table: Table, name: str) -> bool:
    return any(records for (_, row), records in table.records.items() if row == name)


def _draw(panel: Axes, table: Table, cell: tuple[str, str]) -> None:
    panel.grid(color=GRID, lw=0.6)
    panel.set_axisbelow(True)
    records = table.records.get(cell, ())
    weights = sorted({record.weight for record in records})
    _scale(panel, weights)
    if not records:
        say(panel, "no run yet")
        return
    baseline = table.choices.get((cell[0], BASELINE))
    if baseline is not None:
        level, band = 100 * baseline.test, 100 * (spread(list(baseline.tests.values())) or 0.0)
        panel.axhline(level, color=MUTED, lw=0.9, ls=(0, (4, 2)))
        panel.axhspan(level - band, level + band, color=MUTED, alpha=0.15, lw=0)
    by_weight = [[r for r in records if r.weight == weight] for weight in weights]
    _points(panel, weights, by_weight, "validation", VALIDATION, 0.94)
    _points(panel, weights, by_weight, "test", TEST, 1.06)
    for weight, group in zip(weights, by_weight, strict=True):
        if any(record.status == "diverged" for record in group):
            panel.plot(weight, 0.03, "x", color=WRONG, ms=4, transform=panel.get_xaxis_transform())
    if cell in table.choices:
        chosen = table.choices[cell]
        panel.plot(1.06 * chosen.weight, 100 * chosen.test, "o", mec=TEST, mfc="none", ms=9)


def _scale(panel: Axes, weights: Sequence[float]) -> None:
    """A logarithmic axis of weights; where some are below 0, of both signs with 0 between."""
    if any(weight < 0 for weight in weights):
        panel.set_xscale("symlog", linthresh=min(map(abs, weights)))
        ticks = [weights[0], 0.0, max(weights[-1], 0.0)]
        panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    else:
        panel.set_xscale("log")
        plain_numbers(panel.xaxis)
        panel.xaxis.set_major_locator(LogLocator(numticks=5))
    panel.xaxis.set_minor_locator(NullLocator())


def _points(
    panel: Axes,
    weights: Sequence[float],
    by_weight: Sequence[Sequence[Record]],
    part: str,
    colour: str,
    shift: float,
) -> None:
    """Means and spreads of the completed runs; a little aside, so that two do not cover another."""
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


def _limit(row: Sequence[Axes]) -> None:
    """Down to a little below the best, with a mark for what lies deeper."""
    lines = [line for panel in row for line in panel.lines if line.get_marker() == "o"]
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in lines] or [[]])
    if not len(values):
        return
    top = values.max()
    bottom = max(values.min(), top - _DEPTH)
    margin = 0.08 * (top - bottom) + 0.05
    row[0].set_ylim(bottom - margin, top + 2 * margin)
    for panel in row:
        deep = {
            float(x)
            for line in panel.lines
            if line.get_marker() == "o"
            for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
            if y < bottom
        }
        for x in deep:
            panel.plot(x, 0.06, "v", color=MUTED, ms=3.5, transform=panel.get_xaxis_transform())


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], color=TEST, marker="o", ms=3, lw=1, label="test %"),
        Line2D([], [], color=VALIDATION, marker="o", ms=3, lw=1, label="validation %"),
        Line2D([], [], color=TEST, marker="o", mfc="none", ms=9, lw=0, label="chosen"),
        Line2D([], [], color=MUTED, lw=0.9, ls=(0, (4, 2)), label="test % of none"),
        Line2D([], [], color=MUTED, marker="v", ms=3.5, lw=0, label="further below"),
        Line2D([], [], color=WRONG, marker="x", ms=4, lw=0, label="diverged"),
    ]
