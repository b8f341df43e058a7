"""Turn figures into SVG panels that follow the page's colour theme and width."""

import io
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from persist_jax.results.style import BLUE, GRID, INK, MUTED, PAPER, Panels

_SVG = "{http://www.w3.org/2000/svg}"
# Colours of the pictures that the page's style sheet sets by theme.
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "line", PAPER: "paper", BLUE: "blue"}
_POINTS = 72  # an inch

Definitions = dict[str, Markup]


class Picture(NamedTuple):
    """A figure for the page.

    Attributes:
        rows: each row's name and panels.
        width: width of a panel, in pixels.
        keys: the legend's lines and labels.
        definitions: SVG definitions of glyphs, markers and clip paths that the panels use, by id.
    """

    rows: dict[str, list[Markup]]
    width: float
    keys: list[tuple[Markup, str]]
    definitions: Definitions


def picture(panels: Panels, description: str) -> Picture:
    """Split a figure into its panels and legend entries.

    Args:
        panels: the figure.
        description: the alternative text of a panel.
    """
    found = Picture({}, 96 * panels.size[0], [], {})
    groups = _groups(panels.figure, "axes_", found.definitions)
    for (row, column), group in zip(panels.axes, groups, strict=True):
        named = escape(": ".join(part for part in (description, row, column) if part))
        shown = _svg(group, panels.window((row, column)), f'role="img" aria-label="{named}"')
        found.rows.setdefault(row, []).append(shown)
    found.keys.extend(_keys(panels.keys, found.definitions))
    return found


def figure_file(figure: Figure, kind: str) -> bytes:
    """Return the bytes of a "png", "svg" or "pdf" file; equal figures give equal bytes."""
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "persist_jax"}):
        figure.savefig(buffer, format=kind, dpi=150, metadata=undated)
    return buffer.getvalue()


def _keys(lines: Sequence[Line2D], definitions: Definitions) -> Iterator[tuple[Markup, str]]:
    """Yield each legend entry's line as SVG, with its marker in the middle, and its label."""
    if not lines:
        return
    width, height = 0.36, 0.14
    figure = Figure(figsize=(width, height * len(lines)))
    for row, line in enumerate(lines):
        middle = 1 - (row + 0.5) / len(lines)
        shown = Line2D([0.04, 0.5, 0.96], [middle] * 3, transform=figure.transFigure, markevery=[1])
        place, every = shown.get_transform(), shown.get_markevery()
        shown.update_from(line)
        shown.set(transform=place, markevery=every)
        figure.add_artist(shown)
    groups = _groups(figure, "line2d_", definitions)
    for row, (line, group) in enumerate(zip(lines, groups, strict=True)):
        window = (0.0, row * height, width, height)
        yield _svg(group, window, 'aria-hidden="true"'), line.get_label()


def _groups(figure: Figure, kind: str, definitions: Definitions) -> Iterator[str]:
    """Yield a figure's groups of a kind; collect their definitions for the whole page."""
    root = ElementTree.fromstring(figure_file(figure, "svg"))
    for parent in root.findall(f".//{_SVG}defs/.."):
        for defs in parent.findall(f"{_SVG}defs"):
            parent.remove(defs)
            for part in defs:
                if "id" in part.attrib:
                    definitions[part.attrib["id"]] = Markup(_text(part).strip())
    drawing = root.find(f"{_SVG}g")
    groups = [group for group in drawing if group.attrib["id"].startswith(kind)]
    for group in drawing.iter(f"{_SVG}g"):
        group.attrib.pop("id", None)  # other figures have the same ids
    return (re.sub(r"(\.\d{3})\d+", r"\1", _text(group)) for group in groups)


def _text(element: ElementTree.Element) -> str:
    """Return an element's text for the page: without namespaces, in the page's colours."""
    text = ElementTree.tostring(element, encoding="unicode")
    text = re.sub(r' xmlns:?\w*="[^"]*"', "", text)
    text = re.sub(r"\bns\d:", "", text)
    text = re.sub(r"\s+", " ", text).replace("> <", "><")
    for colour, name in _VARIABLES.items():
        text = text.replace(colour, f"var(--{name})")
    return text


def _svg(group: str, window: tuple[float, ...], attributes: str) -> Markup:
    """Return a group as an SVG cropped to a window: left, top, width and height, in inches."""
    box = " ".join(f"{_POINTS * side:.2f}" for side in window)
    return Markup(f'<svg viewBox="{box}" {attributes}>{group}</svg>')
