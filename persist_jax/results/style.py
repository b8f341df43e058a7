"""Colours and panels of all pictures; the palette is Okabe and Ito's, safe for colour blindness."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogFormatter

INK = "#1f2933"
MUTED = "#5b6773"
GRID = "#d8dee4"
PAPER = "#ffffff"
BLUE = "#0072b2"
PALE = "#9db4c8"
# Without black, the colour of the text, and yellow, which is hard to see on white.
PALETTE = (BLUE, "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#e69f00")
DASHES = ("-", (0, (1, 1.3)), (0, (6, 1.5, 1, 1.5)), (0, (8, 3)))
FONT = {
    "font.size": 8.5,
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
# Inches around the axes of a panel, and (NAMES, LEGEND) left of and above all panels.
LEFT, RIGHT, BOTTOM, TOP = 0.42, 0.12, 0.4, 0.27
NAMES, LEGEND = 0.3, 0.45


@contextmanager
def own_style() -> Iterator[None]:
    """Use Matplotlib's defaults and `FONT`, and ignore the user's matplotlibrc."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(FONT)
        yield


def plain_numbers(axis: Axis) -> None:
    """Label a logarithmic axis by 0.01 instead of a power of 10, which needs mathematical text."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(LogFormatter())


class Line(NamedTuple):
    """A regulariser's line: its colour and Matplotlib's line style."""

    colour: str
    dashes: str | tuple[int, tuple[float, ...]]


NONE = Line(MUTED, (0, (4, 2)))


def lines(regularisers: Sequence[str]) -> dict[str, Line]:
    """Return each regulariser's line, by its position; `none` always has the same line.

    Example:
        >>> [line.colour for line in lines(("t1", "none", "t2")).values()]
        ['#0072b2', '#5b6773', '#56b4e9']
    """
    styles = itertools.cycle(Line(colour, dashes) for dashes in DASHES for colour in PALETTE)
    return {name: NONE if name == "none" else next(styles) for name in regularisers}


def keys(regularisers: Sequence[str]) -> list[Line2D]:
    """Return legend entries for the regularisers' lines."""
    return [
        Line2D([], [], color=style.colour, ls=style.dashes, lw=1.5, label=name)
        for name, style in lines(regularisers).items()
    ]


@dataclass(frozen=True)
class Panels:
    """A grid of panels of one size.

    Attributes:
        figure: the figure of all panels, with a legend.
        axes: the panels, by row and column.
        size: size of a panel with its labels, in inches.
        keys: the entries of the legend.
    """

    figure: Figure
    axes: dict[tuple[str, str], Axes]
    size: tuple[float, float]
    keys: Sequence[Line2D]

    def window(self, cell: tuple[str, str]) -> tuple[float, float, float, float]:
        """Return left, top, width and height of a panel with its labels, in inches."""
        left, bottom = self.axes[cell].get_position().p0 * self.figure.get_size_inches()
        width, height = self.size
        return left - LEFT, self.figure.get_figheight() - bottom + BOTTOM - height, width, height


def panels(
    rows: Sequence[str],
    columns: Sequence[str],
    keys: Sequence[Line2D] = (),
    *,
    size: tuple[float, float] = (1.9, 1.55),
    sharey: bool = False,
) -> Panels:
    """Make a grid of panels, each with its column's name and its labels, to be shown alone too.

    Args:
        rows: names of the rows.
        columns: names of the columns.
        keys: the entries of the legend.
        size: size of a panel with its labels, in inches.
        sharey: whether the panels of a row share one scale.
    """
    width, height = size
    whole = (max(NAMES + width * len(columns), 6.0), LEGEND + height * len(rows))
    figure = Figure(figsize=whole)
    axes: dict[tuple[str, str], Axes] = {}
    for i, row in enumerate(rows):
        bottom = (len(rows) - 1 - i) * height
        middle = (bottom + (BOTTOM + height - TOP) / 2) / whole[1]
        figure.text(
            0.5 * NAMES / whole[0], middle, row.replace("/", "/\n", 1), size=9, weight="bold",
            rotation=90, ha="center", va="center",
        )  # fmt: skip
        for j, column in enumerate(columns):
            place = (NAMES + j * width + LEFT, bottom + BOTTOM)
            extent = (width - LEFT - RIGHT, height - BOTTOM - TOP)
            box = [inches / whole[k % 2] for k, inches in enumerate((*place, *extent))]
            shared = axes[row, columns[0]] if sharey and j else None
            panel = axes[row, column] = figure.add_axes(box, sharey=shared)
            panel.set_title(column, pad=4)
            panel.grid(True)
    if keys:
        columns_of_keys = max(1, min(len(keys), int(whole[0] / 1.6)))
        figure.legend(handles=keys, loc="upper center", ncols=columns_of_keys, frameon=False)
    return Panels(figure, axes, size, keys)


def say(axes: Axes, text: str) -> None:
    """Write into a panel why it is empty."""
    axes.set_axis_off()
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", size=8, color=MUTED,
        style="italic",
    )  # fmt: skip
