"""The checker reads points of any kind in blocks, and names the argument that makes no sense."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import persist_jax as pj
from persist_jax.check import answer, paths

sys.path.insert(0, str(Path(__file__).parent / "kernels"))
from oracles import exact_distances, kruskal, neurons  # noqa: E402


def _random(n=60, b=16, seed=0):
    return np.random.default_rng(seed).normal(size=(n, b)).astype(np.float32)


def _exact_tree(points):
    """Edges and deaths of Kruskal's algorithm in float64."""
    distances = exact_distances(np.asarray(points))
    edges = kruskal(distances)
    return edges, distances[tuple(edges.T)]


def test_the_seed_chooses_the_rows():
    points = _random(300)
    star = np.array([(0, k) for k in range(1, 300)])
    tree = star, exact_distances(points)[tuple(star.T)]

    def first(seed):
        return pj.check_tree(points, tree, rows=1, seed=seed).violation

    assert first(0) == first(0) and len({first(seed) for seed in range(8)}) > 3


def test_many_points_are_sampled_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(answer, "_ALL_PAIRS", 59)
    points = _random(100)
    tree = _exact_tree(points)
    assert pj.check_tree(points, tree).rows == 64
    assert pj.check_tree(points, tree, rows=100).pairs == 4950


@pytest.mark.parametrize("rows", [None, 17])
@pytest.mark.parametrize("numbers", [1, 16 * 5, 60 * 7])
def test_blocks_do_not_matter(numbers, rows, monkeypatch):
    points = neurons(np.random.default_rng(1), 60, 16)
    edges, deaths = _exact_tree(points)
    star = np.array([(3, k) for k in range(60) if k != 3])
    trees = (edges, deaths), (star, exact_distances(points)[tuple(star.T)])
    whole = [pj.check_tree(points, tree, rows=rows) for tree in trees]
    assert whole[0] and not whole[1]
    monkeypatch.setattr(paths, "_BLOCK_BYTES", 8 * numbers)
    for tree, expected in zip(trees, whole, strict=True):
        check = pj.check_tree(points, tree, rows=rows)
        assert check.largest_excess == pytest.approx(expected.largest_excess, abs=1e-14)
        assert str(check) == str(expected)


def test_a_file_is_read_in_blocks(tmp_path, monkeypatch):
    points = _random(500, 32)
    file = np.lib.format.open_memmap(tmp_path / "points.npy", "w+", np.float32, points.shape)
    file[:] = points
    file.flush()
    read = np.load(tmp_path / "points.npy", mmap_mode="r")
    monkeypatch.setattr(paths, "_BLOCK_BYTES", 8 * 32 * 50)
    sizes, unit = [], paths._unit

    def counted(cloud, index):
        sizes.append(len(cloud.points[index]))
        return unit(cloud, index)

    monkeypatch.setattr(paths, "_unit", counted)
    tree = jax.jit(pj.correlation_tree)(points)
    assert pj.check_tree(read, tree)
    assert max(sizes) <= 50 < sum(sizes)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float64, np.int32])
def test_points_of_any_dtype(dtype):
    points = np.asarray(np.round(_random() * 8)).astype(dtype)
    before = points.copy()
    edges, deaths = _exact_tree(points)
    assert pj.check_tree(points, (edges, deaths))
    np.testing.assert_array_equal(points, before)
    assert pj.check_tree(jnp.asarray(points), (edges, deaths), tolerance=1e-6)


def test_a_constant_row_is_at_distance_1_from_every_other():
    """Of any value: its mean is rounded, and what is left of it is no correlation."""
    points = np.random.default_rng(0).normal(size=(40, 23))
    points[::2] = points[::2, :1]
    edges = np.array([(k, k + 1) for k in range(39)])
    check = pj.check_tree(points, (edges, np.ones(39)))
    assert check.violation.startswith("points 1 and ") and check.pairs == 780


@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_rows_of_any_scale_and_offset(scale):
    points = np.random.default_rng(0).normal(size=(30, 16))
    tree = _exact_tree(points)
    assert pj.check_tree(points * scale, tree)
    assert pj.check_tree(points + 1e6, tree, tolerance=1e-9)
    rows = np.where(np.arange(30)[:, None] % 2, 1.0, scale)
    assert pj.check_tree(points * rows, tree)
    # At a mean of 1e15 a row keeps some bits, and these are what counts.
    high = np.round(points * 64) + 1e15
    assert pj.check_tree(high, _exact_tree(high - 1e15))


def _spoilt(row, value):
    points = _random()
    points[row, 7] = value
    return points


WRONG = [
    (dict(points=np.zeros((3, 2, 2))), "points must have shape (n, b)"),
    (dict(points=np.zeros((0, 4))), "points must have shape (n, b)"),
    (dict(points=np.zeros((60, 4), complex)), "points must hold real numbers, got dtype complex"),
    (dict(points=_spoilt(5, np.nan)), "points: row 5 has a value that is not finite"),
    (dict(points=_spoilt(59, np.inf)), "points: row 59 has a value that is not finite"),
    (dict(tree="tree"), "tree must be made of arrays of numbers, got str"),
    (dict(tree=None), "tree must be made of arrays of numbers, got NoneType"),
    (dict(tree=([[0, 1], [2]], [0.5])), "tree must be made of arrays of numbers, got list"),
    (dict(tree=np.zeros((59, 4))), "tree must have edges and deaths, be the pair of them, an "),
    (dict(rows=0), "rows: 0 is not between 1 and the 60 points"),
    (dict(rows=61), "rows: 61 is not between 1 and the 60 points"),
    (dict(rows=[3, 60]), "rows: 60 is no index of 60 points"),
    (dict(rows=[-1]), "rows: -1 is no index of 60 points"),
    (dict(rows=np.zeros(0, int)), "rows: there are none"),
    (dict(rows=np.zeros((2, 2), int)), "rows must be a number or a vector of indices"),
    (dict(rows=np.ones(60, bool)), "rows must be a number or a vector of indices, got bool"),
    (dict(tolerance=-1e-6), "tolerance: -1e-06 is not a finite number of at least 0"),
    (dict(tolerance=np.nan), "tolerance: nan is not a finite number"),
    (dict(tree=(np.zeros((59, 2), int), np.zeros(59, np.float16))), "tolerance has a default for"),
]


@pytest.mark.parametrize("arguments, message", WRONG)
def test_errors_name_the_argument(arguments, message):
    points = _random()
    given = {"points": points, "tree": _exact_tree(points)} | arguments
    with pytest.raises(ValueError) as error:
        pj.check_tree(given.pop("points"), given.pop("tree"), **given)
    assert message in str(error.value) and "\n" not in str(error.value)
