"""The critical difference diagram: nothing overlaps, and the TikZ source is well formed."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from persist_jax.results.diagram import draw, lay_out, tikz
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


@pytest.mark.parametrize("name", CASES)
def test_no_text_overlaps_another_or_leaves_the_picture(name):
    figure = draw([("First & second_sweep", CASES[name]), ("", CASES[name])])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in texts]
    assert boxes
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        for other in boxes[i + 1 :]:
            assert not box.overlaps(other)


@pytest.mark.parametrize("name", CASES)
def test_bars_lie_over_the_labels_and_apart_from_each_other(name):
    diagram = lay_out("", CASES[name])
    for i, bar in enumerate(diagram.bars):
        assert bar.depth < min(item.depth for item in diagram.items)
        for other in diagram.bars[i + 1 :]:
            assert bar.depth != other.depth or bar.stop < other.start or other.stop < bar.start


def test_bars_are_the_groups_and_the_distance_is_to_scale():
    result = CASES["eight"]
    diagram = lay_out("", result)
    unit = diagram.items[-1].x / (diagram.items[-1].rank - 1)
    assert diagram.distance == pytest.approx(unit * result.critical_distance)
    ranks = dict(zip(result.regularisers, result.ranks, strict=True))
    groups = [group for group in result.groups if len(group) > 1]
    expected = [[(ranks[n] - 1) * unit for n in (group[0], group[-1])] for group in groups]
    np.testing.assert_allclose([[bar.start, bar.stop] for bar in diagram.bars], expected)


@pytest.mark.parametrize("name", ["all alike", "one network", "one row", "nothing"])
def test_a_picture_without_a_test_says_why(name):
    figure = draw([("", CASES[name])])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert f"No test: {CASES[name].problem}." in texts
    assert CASES[name].problem.split(",")[0] in tikz([("", CASES[name])])


@pytest.mark.parametrize("name", CASES)
def test_tikz_is_well_formed(name):
    source = tikz([("50% of #1 & a_b ~ {x} \\y ^", CASES[name])])
    depth = 0
    for sign in re.sub(r"\\[\\{}]", "", source):
        depth += (sign == "{") - (sign == "}")
        assert depth >= 0
    assert depth == 0
    stack = []
    for kind, room in re.findall(r"\\(begin|end)\{(\w+)\}", source):
        stack.append(room) if kind == "begin" else None
        assert kind == "begin" or stack.pop() == room
    assert not stack
    assert source.startswith(r"\documentclass[border=4pt]{standalone}")
    drawing = source.split(r"\begin{tikzpicture}")[1]
    assert not re.search(r"(?<!\\)[&%#_^~]", drawing.replace(r"\textasciitilde{}", ""))
    paths = [
        line for line in drawing.splitlines() if line.startswith((r"\draw", r"\fill", r"\node"))
    ]
    assert all(line.endswith(";") for line in paths)


def test_a_group_that_skips_a_regulariser_is_a_thin_bar_with_dots():
    skipping = replace(CASES["wilcoxon"], groups=(CASES["wilcoxon"].regularisers[:3:2],))
    diagram = lay_out("", skipping)
    (bar,) = diagram.bars
    assert bar.places == (diagram.items[0].x, diagram.items[2].x)
    dots = [line for line in draw([("", skipping)]).axes[0].lines if len(line.get_xdata()) == 2]
    assert any(line.get_marker() == "o" and tuple(line.get_xdata()) == bar.places for line in dots)
    thick = r"\draw[line width=3pt"
    assert thick not in tikz([("", skipping)]) and thick in tikz([("", CASES["eight"])])
