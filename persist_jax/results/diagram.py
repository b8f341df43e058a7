"""Critical difference diagrams, drawn by scikit-posthocs."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from pandas import DataFrame
from scikit_posthocs import critical_difference_diagram

from persist_jax.results.statistics import Comparison
from persist_jax.results.style import BLUE, BOTTOM, INK, LEFT, RIGHT, TOP, Panels, panels
from persist_jax.store import ReportOptions

_AXIS = 2.4  # inches between the first and the last rank
_LEVEL = 0.22  # inches between bars, and between labels
_ABOVE = 2.4  # levels above the axis, for its ticks and the critical distance
_DISTANCE = {
    "arrowstyle": "|-|, widthA=0.25, widthB=0.25",
    "color": BLUE,
    "shrinkA": 0,
    "shrinkB": 0,
}


def draw(comparisons: Sequence[tuple[str, Comparison]]) -> Panels | None:
    """Draw one diagram below another.

    Args:
        comparisons: the title, or "", and the comparison.

    Returns:
        A panel per comparison with a test; `None` if there is none.
    """
    tested = {title: c for title, c in comparisons if c.friedman is not None}
    if not tested:
        return None
    below = max(map(_below, tested.values()))
    beside = _beside(max(tested.values(), key=_beside))
    size = (_AXIS + 2 * beside, BOTTOM + TOP + _LEVEL * (_ABOVE + below))
    grid = panels(list(tested), [""], size=size)
    for title, comparison in tested.items():
        axes, last = grid.axes[title, ""], len(comparison.ranks)
        _draw(axes, comparison)
        inch = (last - 1) / _AXIS
        axes.set_xlim(1 - (beside - LEFT) * inch, last + (beside - RIGHT) * inch)
        axes.set_ylim(-below, _ABOVE)
    return grid


def latex_figure(options: ReportOptions) -> str:
    """Return a LaTeX figure of the diagram's PDF, with a caption, for `\\input`.

    Example:
        >>> print(latex_figure(ReportOptions()).splitlines()[2])
        \\includegraphics{critical_difference.pdf}
    """
    test = options.test.capitalize()
    return rf"""% Needs \usepackage{{graphicx}}.
\begin{{figure}}\centering
\includegraphics{{critical_difference.pdf}}
\caption{{Average ranks; 1 is the best. The regularisers at the dots of one bar are not
significantly different ({test}'s test, $\alpha = {options.significance:g}$).}}
\end{{figure}}
"""


def _below(comparison: Comparison) -> float:
    """Return the levels below the axis: at most one per bar, and one for every two names."""
    bars = sum(len(group) > 1 for group in comparison.groups)
    return bars + (len(comparison.ranks) + 1) // 2 + 0.5


def _beside(comparison: Comparison) -> float:
    """Return the inches beside the axis, for the longest name and its rank."""
    return 0.5 + 0.08 * max(map(len, comparison.regularisers))


def _draw(axes: Axes, comparison: Comparison) -> None:
    names, ranks = comparison.regularisers, comparison.ranks
    alike = comparison.p_values if comparison.rejected else np.ones((len(ranks),) * 2)
    # Rank numbers, not names: the order of bars depends on hashes, which vary for text.
    drawn = critical_difference_diagram(
        dict(enumerate(ranks)),
        DataFrame(alike),
        alpha=comparison.options.significance,
        ax=axes,
        label_fmt_left="{label}",
        label_fmt_right="{label}",
        label_props={"size": 9},
        elbow_props={"color": INK, "linewidth": 0.9},
        marker_props={"s": 14},
        text_h_margin=0.02 * (len(ranks) - 1),
        crossbar_props={"color": INK, "linewidth": 2.2, "marker": "o", "markersize": 5},
    )
    for label in drawn["labels"]:
        index = int(label.get_text())
        label.set_text(f" {names[index]} ({ranks[index]:.2f}) ")
    axes.grid(False)
    axes.set_xticks(range(1, len(ranks) + 1))
    axes.spines["top"].set(visible=True, color=INK, bounds=(1, len(ranks)))
    axes.tick_params(colors=INK, labelsize=9)
    if comparison.critical_distance is not None:
        end = 1 + comparison.critical_distance
        axes.annotate("", (1, 1.5), (end, 1.5), arrowprops=_DISTANCE, annotation_clip=False)
        text = f"critical distance {comparison.critical_distance:.2f}"
        axes.text((1 + end) / 2, 1.7, text, ha="center", va="bottom", size=8, color=BLUE)
