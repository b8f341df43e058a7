"""The critical difference diagram: nothing overlaps, and its bars are the groups."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from persist_jax.results.diagram import draw
from persist_jax.results.selection import Choice, Table
from persist_jax.results.statistics import compare
from persist_jax.store import ReportOptions

ROWS = ("none", "t1", "t2", "min_corr", "l1", "l2")


def comparison(cells, **options):
    networks = tuple(f"net_{i}" for i in range(np.shape(cells)[1]))
    choices = {
        (network, row): Choice(0.1, value, 0.5, value, 0.1, 10.0, (0,), None)
        for row, line in zip(ROWS, cells, strict=False)
        for network, value in zip(networks, line, strict=True)
    }
    table = Table("t", ROWS[: len(cells)], networks, choices, Counter())
    return compare(table, ReportOptions(**options))


def cases():
    generator = np.random.default_rng(0)
    spread = np.array([0.9, 0.93, 0.935, 0.92, 0.85, 0.87])[:, None]
    return {
        "eight": comparison(spread + 0.01 * generator.normal(size=(6, 8))),
        "wilcoxon": comparison(spread + 0.01 * generator.normal(size=(6, 30)), test="wilcoxon"),
        "ties": comparison(np.round(spread + 0.001 * generator.normal(size=(6, 30)), 2)),
        "none differ": comparison(generator.random((5, 3))),
        "two": comparison(generator.random((3, 2))),
        "all alike": comparison(np.full((6, 3), 0.5)),
        "one network": comparison(generator.random((6, 1))),
        "one row": comparison(generator.random((1, 3))),
        "nothing": comparison(np.zeros((0, 0))),
    }


CASES = cases()


TESTED = [name for name, case in CASES.items() if case.friedman is not None]


@pytest.mark.parametrize("name", TESTED)
def test_no_text_overlaps_another_or_leaves_its_panel(name):
    panels = draw([("First & second_sweep", CASES[name]), ("", CASES[name])])
    renderer = FigureCanvasAgg(panels.figure).get_renderer()
    for cell, axes in panels.axes.items():
        shown = [text for text in axes.texts + axes.get_xticklabels() if text.get_text().strip()]
        boxes = [text.get_window_extent(renderer) for text in shown]
        left, top, width, height = (inches * panels.figure.dpi for inches in panels.window(cell))
        bottom = panels.figure.bbox.y1 - top - height
        assert len(boxes) > len(CASES[name].ranks)
        for i, box in enumerate(boxes):
            assert left <= box.x0 and box.x1 <= left + width
            assert bottom <= box.y0 and box.y1 <= bottom + height
            assert not any(box.overlaps(other) for other in boxes[i + 1 :])


@pytest.mark.parametrize("name", TESTED)
def test_bars_are_the_groups_at_their_ranks(name):
    case = CASES[name]
    axes = draw([("", case)]).axes["", ""]
    ranks = dict(zip(case.regularisers, case.ranks, strict=True))
    found = [sorted(line.get_xdata()) for line in axes.lines if line.get_marker() == "o"]
    groups = [sorted(ranks[name] for name in group) for group in case.groups if len(group) > 1]
    assert sorted(found) == sorted(groups)


def test_a_bar_has_no_dot_at_what_it_skips():
    """Rows 0 and 2 are alike, row 1 differs from both."""
    p_values = np.ones((3, 3))
    p_values[1, [0, 2]] = p_values[[0, 2], 1] = 0.01
    skipping = replace(
        CASES["wilcoxon"], regularisers=ROWS[:3], ranks=(1.0, 1.5, 2.5), p_values=p_values
    )
    (bar,) = [
        line for line in draw([("", skipping)]).axes["", ""].lines if line.get_marker() == "o"
    ]
    assert sorted(bar.get_xdata()) == [1.0, 2.5]


def test_without_a_significant_friedman_test_one_bar_joins_all():
    case = CASES["eight"]
    assert case.rejected
    weak = replace(case, friedman=case.friedman._replace(p_value=0.5))
    (bar,) = [line for line in draw([("", weak)]).axes["", ""].lines if line.get_marker() == "o"]
    assert sorted(bar.get_xdata()) == list(case.ranks)


def test_the_critical_distance_is_to_scale():
    (arrow,) = [t for t in draw([("", CASES["eight"])]).axes["", ""].texts if not t.get_text()]
    assert arrow.xy[0] == 1
    assert arrow.xyann[0] - 1 == pytest.approx(CASES["eight"].critical_distance)


def test_what_has_no_test_has_no_diagram():
    untested = [(name, case) for name, case in CASES.items() if name not in TESTED]
    assert {name for name, _ in untested} == {"all alike", "one network", "one row", "nothing"}
    assert draw(untested) is None
    assert list(draw([*untested, ("t", CASES["two"])]).axes) == [("t", "")]
