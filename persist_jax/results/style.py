"""Colours and panels that the pictures share; the palette is Okabe and Ito's, safe for all eyes."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatter

INK = "#1f2933"
MUTED = "#6b7785"
GRID = "#e3e7eb"
# Without black and yellow: one is the text's, the other vanishes on white.
PALETTE = ("#0072b2", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#e69f00")
DASHES = ("-", (0, (1, 1.3)), (0, (6, 1.5, 1, 1.5)), (0, (8, 3)))
FONT = {
    "font.size": 8,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
}


@contextmanager
def own_style() -> Iterator[None]:
    """Matplotlib's defaults and `FONT`, whatever a person's matplotlibrc sets."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(FONT)
        yield


def plain_numbers(axis: Axis) -> None:
    """Label a logarithmic axis by 0.01 instead of a power of 10, which takes mathematical text."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(LogFormatter())


class Line(NamedTuple):
    """A regulariser's line: its colour and Matplotlib's line style."""

    colour: str
    dashes: str | tuple[int, tuple[float, ...]]


NONE = Line("#4d4d4d", (0, (4, 2)))


def lines(regularisers: Sequence[str]) -> dict[str, Line]:
    """Each regulariser's line, by its place in the order; `none` has its own wherever it stands.

    Example:
        >>> [line.colour for line in lines(("t1", "none", "t2")).values()]
        ['#0072b2', '#4d4d4d', '#56b4e9']
    """
    styles = itertools.cycle(Line(colour, dashes) for dashes in DASHES for colour in PALETTE)
    return {name: NONE if name == "none" else next(styles) for name in regularisers}


def panels(
    rows: Sequence[str], columns: Sequence[str], *, height: float, **shared: bool | str
) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """A grid of panels: networks down the side, regularisers along the top.

    Args:
        rows: networks.
        columns: regularisers.
        height: of a panel, in inches.
        **shared: `sharex`, `sharey` of Matplotlib's `subplots`.

    Returns:
        The figure and the panels by (network, regulariser).
    """
    width = max(1.8 * len(columns) + 0.9, 6.0)
    figure = Figure(figsize=(width, height * len(rows) + 0.9), layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False, **shared)
    axes = {
        (row, column): grid[i][j] for i, row in enumerate(rows) for j, column in enumerate(columns)
    }
    for column in columns:
        axes[rows[0], column].set_title(column, size=10, weight="bold", pad=8)
    for row in rows:
        axes[row, columns[0]].set_ylabel(_folded(row), size=9, weight="bold", labelpad=8)
    return figure, axes


def say(axes: Axes, text: str) -> None:
    """Write why a panel is empty."""
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", size=8, color=MUTED,
        style="italic",
    )  # fmt: skip


def empty_picture(text: str) -> Figure:
    """A picture that says why there is none."""
    figure = Figure(figsize=(6.5, 1.2))
    figure.text(0.5, 0.5, text, ha="center", va="center", size=10, color=MUTED, style="italic")
    return figure


def _folded(name: str) -> str:
    """A long network name on two lines, split where a sweep's name ends."""
    return name.replace("/", "/\n", 1) if len(name) > 14 else name


def legend(figure: Figure, names: Sequence[str]) -> None:
    """One legend above all panels, of the lines that any of them has, in the order of the names."""
    named = {line.get_label(): line for panel in figure.axes for line in panel.lines}
    if named:
        figure.legend(
            handles=[named[name] for name in names if name in named],
            loc="outside upper center",
            ncols=min(len(named), int(1.2 * figure.get_figwidth()) // 2),
            frameon=False,
        )
