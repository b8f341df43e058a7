"""The figure of a `Redundancy`."""

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from persist_jax.redundancy.found import name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from persist_jax.redundancy.found import Redundancy

# The colours of Okabe and Ito that stand out on white and on black.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MUTED = "#8793a0"
_LEAVES = 30
_FONT = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "text.parse_math": False,
}


def plot(found: "Redundancy") -> "Figure":
    """A dendrogram of the most redundant neurons, and the histogram of the deaths."""
    from matplotlib import rc_context

    leaves, merges = linkage_of_the_first(found.tree.edges, found.deaths, _LEAVES)
    with rc_context(_FONT):
        figure = _figure(figsize=(7.2, max(2.4, 0.6 + 0.13 * len(leaves))), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        _draw_tree(left, found, leaves, merges)
        _draw_deaths(right, found)
    return figure


def _figure(**how: Any) -> "Figure":
    """A figure that a notebook shows as a picture, whether or not it has imported pyplot."""
    from matplotlib.figure import Figure

    class NotebookFigure(Figure):
        def _repr_png_(self) -> bytes:
            picture = io.BytesIO()
            self.savefig(picture, format="png")
            return picture.getvalue()

    return NotebookFigure(**how)


def linkage_of_the_first(
    edges: np.ndarray, deaths: np.ndarray, most: int
) -> tuple[list[int], np.ndarray]:
    """SciPy's single linkage of the vertices that the tree joins first.

    Args:
        edges: the edges of the tree, ascending by death.
        deaths: the death of each edge. From death 1 on, edges join uncorrelated neurons and are
            left out.
        most: about how many vertices to include.

    Returns:
        The vertices, and the merges `(k - 1, 4)` of `scipy.cluster.hierarchy` among them.
    """
    chosen: dict[int, int] = {}
    for edge, death in zip(edges.tolist(), deaths, strict=True):
        if len(chosen) >= most or death >= 1:
            break
        for vertex in edge:
            chosen.setdefault(vertex, len(chosen))
    parent: dict[int, int] = {}
    node = {vertex: (k, 1) for vertex, k in chosen.items()}  # each root's node and its leaf count

    def root(vertex):
        while vertex in parent:
            if parent[vertex] in parent:
                parent[vertex] = parent[parent[vertex]]
            vertex = parent[vertex]
        return vertex

    merges = []
    for edge, death in zip(edges.tolist(), deaths.tolist(), strict=True):
        if len(merges) + 1 >= len(chosen):
            break
        one, other = map(root, edge)
        parent[one] = other
        inside = node.get(one), node.get(other)
        if None not in inside:
            (a, size), (b, more) = inside
            merges.append([min(a, b), max(a, b), death, size + more])
            node[other] = len(chosen) + len(merges) - 1, size + more
        elif inside[0] is not None:
            node[other] = inside[0]
    return list(chosen), np.array(merges, float).reshape(-1, 4)


def _draw_tree(axes: "Axes", found: "Redundancy", leaves: list[int], merges: np.ndarray) -> None:
    from scipy.cluster.hierarchy import dendrogram

    axes.set_title(f"the {len(leaves)} neurons that join first", loc="left")
    axes.set_xlabel(f"1 - {found.likeness}")
    if not len(merges):
        axes.text(0.5, 0.5, "no two neurons are correlated", ha="center", color=_MUTED)
        axes.set_axis_off()
        return
    colours = _colours(merges, 1 - found.threshold)
    dendrogram(
        merges,
        ax=axes,
        orientation="left",
        labels=[name(found.neurons[leaf]) for leaf in leaves],
        link_color_func=lambda node: colours[node],
        leaf_font_size=6.5,
    )
    for collection in axes.collections:
        collection.set_linewidth(1.3)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(max(merges[-1, 2], 1 - found.threshold) * 1.06, 0)
    # Above the lines, which lie close to one another.
    _mark(axes, found, va="bottom", ha="center", shift=(0, 2))


def _colours(merges: np.ndarray, cut: float) -> dict[int, str]:
    """A colour per cluster, by the number of the node; muted above the cut."""
    n = len(merges) + 1
    colours: dict[int, str] = {}
    count = 0

    def paint(node, colour):
        stack = [node]
        while stack:
            node = stack.pop()
            if node >= n:
                colours[node] = colour
                stack += [int(child) for child in merges[node - n, :2]]

    for row in range(len(merges) - 1, -1, -1):
        if n + row in colours:
            continue
        if merges[row, 2] > cut:
            colours[n + row] = _MUTED
        else:
            paint(n + row, _COLOURS[count % len(_COLOURS)])
            count += 1
    return colours


def _draw_deaths(axes: "Axes", found: "Redundancy") -> None:
    axes.set_title(f"deaths of all {found.n} neurons", loc="left")
    axes.set_xlabel(f"1 - {found.likeness}")
    largest = 2 if found.geometry.signed else 1
    axes.set_xlim(0, largest)
    dead = len(found.constant)
    counts, _, _ = axes.hist(found.deaths, bins=40, range=(0, largest), color=_COLOURS[0])
    of_constant = counts[min(40 // largest, 39)]  # constant neurons have distance 1 to all others
    axes.yaxis.get_major_locator().set_params(integer=True)
    _mark(axes, found, va="top", ha="left", shift=(3, -1))
    if dead:
        axes.annotate(
            f"{dead} constant", (1, of_constant), (0, 3), textcoords="offset points",
            ha="right", va="bottom", size=7, color=_MUTED,
        )  # fmt: skip


def _mark(
    axes: "Axes", found: "Redundancy", *, va: str, ha: str, shift: tuple[int, int]
) -> None:
    axes.axvline(1 - found.threshold, color=_MUTED, lw=0.9, ls=(0, (4, 2)))
    axes.annotate(
        f"{found.likeness} = {found.threshold:g}", (1 - found.threshold, 1), shift,
        xycoords=("data", "axes fraction"), textcoords="offset points",
        ha=ha, va=va, size=7, color=_MUTED,
    )  # fmt: skip
