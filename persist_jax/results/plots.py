"""Plot the losses of the best runs, and the density of their deaths during training."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy.ndimage import gaussian_filter1d

from persist_jax.results.selection import Table
from persist_jax.results.style import (
    BLUE,
    MUTED,
    PALE,
    PAPER,
    Panels,
    panels,
    plain_numbers,
    say,
)
from persist_jax.store import Record, read_history
from persist_jax.store.history import HISTORY_FILE

REFERENCE = "#e69f00"
SMOOTHED_POINTS = 60
ON_PAPER = {"facecolor": PAPER, "alpha": 0.7, "edgecolor": "none", "pad": 1}
TOP = {"ha": "right", "va": "top", "bbox": ON_PAPER}
RIDGES = 12
DENSITY_POINTS = 256
PLACES = (np.arange(DENSITY_POINTS) + 0.5) / DENSITY_POINTS
BANDWIDTH = 0.022  # of the densities; distances lie in [0, 1]
# From initial to trained; both ends are visible on white and black.
COLOURS = LinearSegmentedColormap.from_list("training", ["#a8b4c0", BLUE])

Histories = dict[tuple[str, str], dict[str, np.ndarray]]


def read_histories(table: Table) -> Histories:
    """Read the histories of the best runs by (network, regulariser); empty if a run has none.

    Raises:
        ValueError: a file is damaged, or its number of epochs is not that of the run's record; one
            line that names the file.
    """
    return {cell: _history(choice.best) for cell, choice in table.choices.items()}


def _history(record: Record) -> dict[str, np.ndarray]:
    history = read_history(record.folder)
    epochs = len(history.get("validation_loss", ()))
    if history and epochs != record.epochs:
        path = record.folder / HISTORY_FILE
        raise ValueError(f"{path}: {epochs} epochs, but result.json beside it has {record.epochs}")
    return history


def has_deaths(history: dict) -> bool:
    """Return whether a history has deaths."""
    return "deaths" in history and history["deaths"].size > 0


def plot_losses(table: Table, histories: Histories) -> Panels | None:
    """Plot smoothed training cross-entropy and validation loss per epoch of the best runs.

    Returns:
        A panel per network and regulariser; `None` if no run has a history.
    """
    if not any(histories.values()):
        return None
    grid = panels(table.networks, table.regularisers, _loss_keys(table), sharey=True)
    for cell, panel in grid.axes.items():
        _draw_loss_panel(panel, table, histories, cell)
    for network in table.networks:
        _scale([grid.axes[network, name] for name in table.regularisers])
    return grid


def plot_deaths(table: Table, histories: Histories) -> Panels | None:
    """Plot the density of the deaths during training as ridges, the initial one at the back.

    Returns:
        A panel per network and regulariser, for its best run; `None` if no run has deaths.
    """
    if not any(map(has_deaths, histories.values())):
        return None
    keys = [
        Line2D([], [], color=COLOURS(end), lw=4, label=label)
        for end, label in ((0.0, "initial, at the back"), (1.0, "trained, in front"))
    ]
    grid = panels(table.networks, table.regularisers, keys)
    for cell, panel in grid.axes.items():
        panel.set_yticks([])
        panel.spines["left"].set_visible(False)
        panel.set_xlim(0, 1)
        panel.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        panel.set_xlabel("death")
        if has_deaths(histories.get(cell, {})):
            _draw_ridges(panel, histories[cell])
        else:
            say(panel, "no deaths" if histories.get(cell) else _reason(table, cell))
    return grid


def death_density(deaths: Float[np.ndarray, " n"]) -> Float[np.ndarray, " points"]:
    """Estimate the density of deaths at midpoints of equal bins of [0, 1], reflected at both ends.

    Args:
        deaths: values in [0, 1]; all others, also infinite ones, are ignored.

    Returns:
        The density, which integrates to 1; zeros if there is no value.

    Example:
        >>> float(death_density(np.array([0.0, 0.2, 1.0])).mean().round(6))
        1.0
    """
    counts, _ = np.histogram(deaths, bins=DENSITY_POINTS, range=(0, 1))
    density = counts * (DENSITY_POINTS / max(counts.sum(), 1))
    return gaussian_filter1d(density, BANDWIDTH * DENSITY_POINTS, mode="reflect")


def smooth(values: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the midpoints of at most 60 equal parts, as fractions of the whole, and the means."""
    edges = np.linspace(0, len(values), min(len(values), SMOOTHED_POINTS) + 1).astype(int)
    means = np.add.reduceat(values, edges[:-1]) / np.diff(edges)
    return (edges[:-1] + edges[1:]) / (2 * len(values)), means


def _reason(table: Table, cell: tuple[str, str]) -> str:
    if cell in table.choices:
        return "no history"
    if table.diverged[cell]:
        return f"no completed run,\n{table.diverged[cell]} diverged"
    return "no run yet"


def _draw_loss_panel(
    panel: Axes, table: Table, histories: Histories, cell: tuple[str, str]
) -> None:
    history = histories.get(cell, {})
    if not history:
        say(panel, _reason(table, cell))
        return
    panel.set_xlabel("epoch")
    panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    if cell[1] == "none":
        _draw_losses(panel, history, {})
    else:
        _draw_losses(panel, history, histories.get((cell[0], "none"), {}))
    choice = table.choices[cell]
    words = [] if cell[1] == "none" else [f"weight {choice.weight:g}"]
    words += [choice.verdict_in_words] if choice.suspect else []
    if words:
        text = "\n".join(words)
        panel.text(1, 0.96, text, size=7, color=MUTED, transform=panel.transAxes, **TOP)


def _loss_keys(table: Table) -> list[Line2D]:
    keys = [
        Line2D([], [], color=PALE, lw=2, label="training cross-entropy, smoothed"),
        Line2D([], [], color=BLUE, lw=1.6, label="validation loss"),
        Line2D([], [], color=BLUE, marker="o", ms=4, lw=0, label="lowest validation loss"),
    ]
    if "none" in table.regularisers and len(table.regularisers) > 1:
        label = "validation loss of none"
        keys.append(Line2D([], [], color=REFERENCE, lw=1.1, ls="--", label=label))
    return keys


def _draw_losses(axes: Axes, history: dict, baseline: dict) -> None:
    validation = history["validation_loss"]
    if len(baseline.get("validation_loss", ())):
        reference = baseline["validation_loss"]
        axes.plot(np.arange(1, len(reference) + 1), reference, color=REFERENCE, lw=0.9, ls="--")
    if len(history.get("train_loss", ())):
        # Without the term, which may dwarf it and is not in the validation loss.
        entropy = history["train_loss"].astype(float) - history.get("train_term", 0)
        places, loss = smooth(entropy)
        axes.plot(places * len(validation), loss, color=PALE, lw=1.6)
    axes.plot(np.arange(1, len(validation) + 1), validation, color=BLUE, lw=1.2)
    if np.isfinite(validation).any():
        best = int(np.nanargmin(validation))
        axes.plot(best + 1, validation[best], "o", color=BLUE, ms=3.5)


def _scale(row: Sequence[Axes]) -> None:
    """Use a logarithmic axis if the losses of a row span more than a factor of 30."""
    values = [np.asarray(line.get_ydata(), float) for panel in row for line in panel.lines]
    values = np.concatenate([np.zeros(0), *values])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() / values.min() > 30:
        row[0].set_yscale("log")
        plain_numbers(row[0].yaxis)


def _draw_ridges(axes: Axes, history: dict) -> None:
    deaths = history["deaths"]
    chosen = np.unique(np.linspace(0, len(deaths) - 1, RIDGES).round().astype(int))
    densities = np.stack([death_density(deaths[i]) for i in chosen])
    shares = np.arange(len(chosen)) / max(len(chosen) - 1, 1)
    bases = 1 - shares if len(chosen) > 1 else np.zeros(1)
    curves = bases[:, None] + 0.45 * densities / max(densities.max(), 1e-9)
    ridges = [
        np.column_stack([np.r_[0, PLACES, 1], np.r_[base, curve, base]])
        for base, curve in zip(bases, curves, strict=True)
    ]
    style = {"facecolors": COLOURS(shares), "edgecolors": PAPER, "linewidths": 0.7, "zorder": 3}
    axes.add_collection(PolyCollection(ridges, **style), autolim=False)
    axes.set_ylim(-0.02, 1.5)
