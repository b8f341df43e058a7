"""Critical difference diagrams: laid out once, drawn by Matplotlib and by TikZ."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from persist_jax.results.escape import latex
from persist_jax.results.statistics import Comparison
from persist_jax.results.style import INK, MUTED

ACCENT = "#0072b2"
AXIS_WIDTH = 11.0  # cm between the first and the last rank
LABEL_WIDTH = 4.0  # cm on either side, for names
ROW = 0.62  # cm between labels
BAR = 0.26  # cm between group bars


class Item(NamedTuple):
    """A regulariser: its place on the axis, and its label's side (-1 left, 1 right) and depth."""

    label: str
    rank: float
    x: float
    side: int
    depth: float


class Bar(NamedTuple):
    """A group that is not significantly different, from `start` to `stop` at `depth`.

    A group that skips a regulariser ranked between its members has the `places` of its members.
    """

    start: float
    stop: float
    depth: float
    places: tuple[float, ...] = ()


class Diagram(NamedTuple):
    """Everything that is drawn, in cm; `x` from the axis' start, depths down from the axis."""

    title: str
    ticks: tuple[int, ...]
    items: tuple[Item, ...]
    bars: tuple[Bar, ...]
    distance: float | None
    distance_label: str
    note: str
    depth: float


def lay_out(title: str, comparison: Comparison) -> Diagram:
    """Place the parts of a diagram so that no label meets another one or a bar."""
    c = comparison
    k = len(c.ranks)
    scale = AXIS_WIDTH / max(k - 1, 1)
    places = dict(zip(c.regularisers, [(rank - 1) * scale for rank in c.ranks], strict=False))
    bars = _stack([_span(group, c, places) for group in c.groups if len(group) > 1])
    top = 0.45 + BAR * (1 + max((round(bar.depth / BAR) for bar in bars), default=0))
    left = (k + 1) // 2
    items = []
    for index, (name, rank) in enumerate(zip(c.regularisers, c.ranks, strict=False)):
        side, row = (-1, index) if index < left else (1, k - 1 - index)
        items.append(Item(name, rank, places[name], side, top + row * ROW))
    distance = None if c.critical_distance is None else c.critical_distance * scale
    label = "" if distance is None else f"critical distance {c.critical_distance:.2f}"
    depth = max((item.depth for item in items), default=0.0) + 0.5
    ticks = tuple(range(1, k + 1)) if k > 1 else ()
    note = _note(c)
    return Diagram(title, ticks, tuple(items), bars, distance, label, note, depth)


def draw(comparisons: Sequence[tuple[str, Comparison]]) -> Figure:
    """Draw diagrams one below the other.

    Args:
        comparisons: each with its title, "" for none.

    Returns:
        The figure; a diagram without tests says why.
    """
    diagrams = [lay_out(title, comparison) for title, comparison in comparisons]
    heights = [_height(diagram) for diagram in diagrams]
    width = AXIS_WIDTH + 2 * LABEL_WIDTH
    figure = Figure(figsize=(width / 2.54, sum(heights) / 2.54))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-LABEL_WIDTH, AXIS_WIDTH + LABEL_WIDTH)
    axes.set_ylim(-sum(heights), 0)
    offset = 0.0
    for diagram, height in zip(diagrams, heights, strict=True):
        _draw_one(axes, diagram, offset - _head(diagram))
        offset -= height
    return figure


def tikz(comparisons: Sequence[tuple[str, Comparison]]) -> str:
    """The same diagrams as a LaTeX document that compiles by itself."""
    lines = [
        r"\documentclass[border=4pt]{standalone}",
        r"\usepackage{tikz}",
        r"\begin{document}",
        r"\begin{tikzpicture}[x=1cm, y=1cm, font=\small]",
    ]
    offset = 0.0
    for title, comparison in comparisons:
        diagram = lay_out(title, comparison)
        lines.append(rf"\begin{{scope}}[yshift={offset - _head(diagram):.3f}cm]")
        lines.extend(_tikz_lines(diagram))
        lines.append(r"\end{scope}")
        offset -= _height(diagram)
    return "\n".join([*lines, r"\end{tikzpicture}", r"\end{document}", ""])


def _note(comparison: Comparison) -> str:
    if comparison.problem:
        return f"No test: {comparison.problem}."
    if not comparison.rejected:
        p_value = comparison.friedman.p_value
        return f"Friedman's test finds no difference (p = {p_value:.2g}): one group."
    return ""


def _span(group: tuple[str, ...], comparison: Comparison, places: dict[str, float]) -> Bar:
    """A bar not yet put on a level."""
    members = tuple(places[name] for name in group)
    first, last = (comparison.regularisers.index(name) for name in (group[0], group[-1]))
    skips = last - first >= len(group)
    return Bar(members[0], members[-1], 0.0, members if skips else ())


def _stack(spans: Sequence[Bar]) -> tuple[Bar, ...]:
    """Put every bar on the first level where it does not touch another one."""
    ends: list[float] = []
    bars = []
    for span in sorted(spans):
        free = [level for level, end in enumerate(ends) if end + 0.4 < span.start]
        level = free[0] if free else len(ends)
        ends[level : level + 1] = [span.stop]
        bars.append(span._replace(depth=BAR * (level + 1)))
    return tuple(bars)


def _head(diagram: Diagram) -> float:
    """Space over the axis: tick labels, critical distance, title."""
    return 0.9 + (0.75 if diagram.distance else 0) + (0.7 if diagram.title else 0)


def _height(diagram: Diagram) -> float:
    return _head(diagram) + diagram.depth + (0.6 if diagram.note else 0) + 0.1


def _draw_one(axes: Axes, diagram: Diagram, y: float) -> None:
    """Draw a diagram whose axis lies at the height `y`."""
    _draw_head(axes, diagram, y)
    if diagram.ticks:
        axes.plot([0, AXIS_WIDTH], [y, y], color=INK, lw=1.2, solid_capstyle="projecting")
    for tick in diagram.ticks:
        x = _tick_place(diagram, tick)
        axes.plot([x, x], [y, y + 0.16], color=INK, lw=1.2)
        axes.text(x, y + 0.24, str(tick), ha="center", va="bottom", size=10, color=INK)
    for item in diagram.items:
        _draw_item(axes, item, y)
    for bar in diagram.bars:
        level = y - bar.depth
        if bar.places:
            axes.plot(bar.places, [level] * len(bar.places), color=INK, lw=0.9, marker="o", ms=5)
        else:
            ends = [bar.start - 0.12, bar.stop + 0.12]
            axes.plot(ends, [level] * 2, color=INK, lw=3.6, solid_capstyle="round")
    if diagram.note:
        axes.text(
            AXIS_WIDTH / 2, y - diagram.depth - 0.1, diagram.note, ha="center", va="center",
            size=9, style="italic", color=MUTED, parse_math=False,
        )  # fmt: skip


def _draw_head(axes: Axes, diagram: Diagram, y: float) -> None:
    if diagram.title:
        axes.text(
            AXIS_WIDTH / 2, y + _head(diagram) - 0.4, diagram.title, ha="center", va="center",
            size=11, weight="bold", color=INK, parse_math=False,
        )  # fmt: skip
    if diagram.distance:
        line = y + 1.0
        axes.plot([0, diagram.distance], [line, line], color=ACCENT, lw=1.4)
        for x in (0, diagram.distance):
            axes.plot([x, x], [line - 0.1, line + 0.1], color=ACCENT, lw=1.4)
        axes.text(
            diagram.distance / 2, line + 0.14, diagram.distance_label, ha="center", va="bottom",
            size=9, color=ACCENT,
        )  # fmt: skip


def _draw_item(axes: Axes, item: Item, y: float) -> None:
    edge = _edge(item)
    level = y - item.depth
    axes.plot([item.x, item.x, edge], [y, level, level], color=MUTED, lw=0.9)
    axes.plot([item.x], [y], "o", color=INK, ms=3.5)
    axes.text(
        edge + 0.12 * item.side, level, f"{item.label}  ({item.rank:.2f})",
        ha="right" if item.side < 0 else "left", va="center", size=10, color=INK,
        parse_math=False,
    )  # fmt: skip


def _tick_place(diagram: Diagram, tick: int) -> float:
    return (tick - 1) * AXIS_WIDTH / (len(diagram.ticks) - 1)


def _edge(item: Item) -> float:
    """Where the line from an item to its label ends."""
    return -0.45 if item.side < 0 else AXIS_WIDTH + 0.45


def _tikz_lines(diagram: Diagram) -> list[str]:
    lines = []
    if diagram.title:
        y = _head(diagram) - 0.4
        name = rf"\bfseries {latex(diagram.title)}"
        lines.append(rf"\node at ({AXIS_WIDTH / 2:.3f}, {y:.3f}) {{{name}}};")
    if diagram.distance:
        end = f"({diagram.distance:.3f}, 1)"
        label = rf"\footnotesize {latex(diagram.distance_label)}"
        lines.append(rf"\draw[|-|] (0, 1) -- node[above] {{{label}}} {end};")
    if diagram.ticks:
        lines.append(rf"\draw[thick] (0, 0) -- ({AXIS_WIDTH:.3f}, 0);")
    for tick in diagram.ticks:
        x = _tick_place(diagram, tick)
        lines.append(rf"\draw[thick] ({x:.3f}, 0) -- ({x:.3f}, 0.16) node[above] {{{tick}}};")
    for item in diagram.items:
        edge, anchor = _edge(item), "left" if item.side < 0 else "right"
        label = f"{latex(item.label)} ({item.rank:.2f})"
        lines.append(
            rf"\draw[gray] ({item.x:.3f}, 0) |- ({edge:.3f}, {-item.depth:.3f})"
            rf" node[{anchor}, black] {{{label}}};"
        )
        lines.append(rf"\fill ({item.x:.3f}, 0) circle[radius=0.06];")
    for bar in diagram.bars:
        wider = 0.0 if bar.places else 0.12
        line = "" if bar.places else "[line width=3pt, line cap=round]"
        ends = (bar.start - wider, bar.stop + wider)
        start, stop = (f"({x:.3f}, {-bar.depth:.3f})" for x in ends)
        lines.append(rf"\draw{line} {start} -- {stop};")
        for x in bar.places:
            lines.append(rf"\fill ({x:.3f}, {-bar.depth:.3f}) circle[radius=0.08];")
    if diagram.note:
        y = -diagram.depth - 0.1
        note = rf"\footnotesize\itshape {latex(diagram.note)}"
        lines.append(rf"\node at ({AXIS_WIDTH / 2:.3f}, {y:.3f}) {{{note}}};")
    return lines
