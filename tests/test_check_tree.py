"""The checker passes right trees in every form, and finds every way to break one."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

import persist_jax as pj
from persist_jax.check import paths

sys.path.insert(0, str(Path(__file__).parent / "kernels"))
from oracles import exact_distances, kruskal, neurons  # noqa: E402


def _random(n=60, b=16, seed=0):
    return np.random.default_rng(seed).normal(size=(n, b)).astype(np.float32)


def _clusters(n=60, members=10, b=16):
    generator = np.random.default_rng(2)
    centres = np.repeat(generator.normal(size=(n // members, b)), members, 0)
    return (centres + 0.1 * generator.normal(size=(n, b))).astype(np.float32)


# Of one shape but two: a program for each.
CLOUDS = {
    "random": _random(),
    "neurons": neurons(np.random.default_rng(1), 60, 16),
    "clusters": _clusters(),
    "copies": np.repeat(_random(15), 4, 0),
    "constant": np.ones((60, 16), np.float32),
    "two points": _random(2),
    "one point": _random(1),
    "far from zero": _random() + 1000,
    "large": _random() * np.float32(1e30),
    "small": _random() * np.float32(1e-30),
}


_tree = jax.jit(pj.correlation_tree, static_argnames="algorithm")


def _exact_tree(points):
    """Edges and deaths of Kruskal's algorithm in float64."""
    distances = exact_distances(np.asarray(points))
    edges = kruskal(distances)
    return edges, distances[tuple(edges.T)]


def _deaths(points, edges):
    return exact_distances(points)[tuple(np.asarray(edges).T)]


@pytest.mark.parametrize("algorithm", ["prim", "boruvka", "matrix_free"])
@pytest.mark.parametrize("name", CLOUDS)
def test_our_trees_are_exact(name, algorithm):
    points = CLOUDS[name]
    n = len(points)
    check = pj.check_tree(points, _tree(points, algorithm=algorithm))
    assert check and check.exact and check.violation is None, check
    assert (check.pairs, check.rows, check.n) == (n * (n - 1) // 2, n, n)
    assert check.largest_excess <= 2e-6


@pytest.mark.parametrize(
    ("distance", "signed"), [("correlation", True), ("cosine", False), ("cosine", True)]
)
def test_trees_of_other_distances(distance, signed):
    """Each passes for what it is, and for nothing else."""
    points = _random() + 0.5
    tree = pj.cloud_tree(points, distance=distance, signed=signed)
    assert pj.check_tree(points, tree, distance=distance, signed=signed)
    for other in ("correlation", "cosine"):
        for sign in (False, True):
            if (other, sign) != (distance, signed):
                assert not pj.check_tree(points, tree, distance=other, signed=sign)


@pytest.mark.parametrize("name", CLOUDS)
def test_a_tree_in_float64_is_exact_to_its_precision(name):
    points = CLOUDS[name].astype(np.float64)
    if name != "one point":
        assert pj.check_tree(points, _exact_tree(points))


def test_the_largest_excess_is_that_of_all_pairs():
    """Of every tree, right or wrong: a path is found by walking, an excess by comparing."""
    points = _random(14)
    distances = exact_distances(points)
    generator = np.random.default_rng(5)
    for tree in (_exact_tree(points)[0], _random_tree(14, generator), _random_tree(14, generator)):
        highest = np.full((14, 14), -np.inf)
        for _ in range(14):  # one more edge of every path each time
            for i, j in tree:
                for a, b in ((i, j), (j, i)):
                    through = np.maximum(highest[:, a], distances[a, b])
                    through[a] = distances[a, b]
                    known = np.isfinite(highest[:, a]) | (np.arange(14) == a)
                    highest[:, b] = np.where(
                        known & np.isneginf(highest[:, b]), through, highest[:, b]
                    )
        outside = ~np.eye(14, dtype=bool)
        outside[tuple(tree.T)] = outside[tuple(tree.T[::-1])] = False
        expected = (highest - distances)[outside].max()
        check = pj.check_tree(points, (tree, distances[tuple(tree.T)]))
        assert check.largest_excess == pytest.approx(expected, abs=1e-12)
        assert check.exact == (expected <= 1e-12)


def _random_tree(n, generator):
    return np.array([(generator.integers(k), k) for k in range(1, n)])


def test_trees_of_others():
    points = _random()
    edges, deaths = _exact_tree(points)
    matrix = minimum_spanning_tree(exact_distances(points))
    table = np.column_stack([edges[:, ::-1], deaths])
    for tree in (matrix, coo_array(matrix), table, (edges.tolist(), deaths.tolist()), table[::-1]):
        assert pj.check_tree(points, tree)
    named = type("Named", (), {"edges": edges, "deaths": deaths})()
    assert pj.check_tree(points, named)


def test_scipy_takes_a_distance_of_0_for_no_edge():
    points = CLOUDS["copies"]
    distances = exact_distances(points).round(12)
    # In a dense matrix scipy does not see the copies, and goes from one to the other by a detour.
    check = pj.check_tree(points, minimum_spanning_tree(distances))
    assert check.violation.startswith("points 0 and 1 are at 0, but the path between them in the ")
    # In a sparse one it sees them, and drops them from the tree.
    lower, higher = np.triu_indices(60, 1)
    graph = coo_array((distances[lower, higher], (lower, higher)), shape=(60, 60)).tocsr()
    check = pj.check_tree(points, minimum_spanning_tree(graph))
    assert not check and check.pairs == 0
    assert check.violation == (
        "14 edges, but a spanning tree of 60 points has 59 (scipy drops edges of weight 0)"
    )


def test_a_float32_tree_in_float64_needs_the_tolerance_of_float32():
    points = jnp.asarray(_random())
    matrix = minimum_spanning_tree(np.asarray(pj.correlation_distance(points)))
    assert matrix.dtype == np.float64 and not pj.check_tree(points, matrix)
    assert pj.check_tree(points, matrix, tolerance=2e-6)


def _swapped(points, edges, distances):
    """The tree with its last edge exchanged for the next longer one across the same cut."""
    side = np.zeros(len(points), bool)
    side[edges[-1, 0]] = True
    for _ in edges:
        for i, j in edges[:-1]:
            side[i] = side[j] = side[i] | side[j]
    across = np.argwhere(np.triu(side[:, None] != side))
    longer = across[np.argsort(distances[tuple(across.T)])]
    assert tuple(longer[0]) == tuple(edges[-1])
    return np.vstack([edges[:-1], longer[1]])


@pytest.mark.parametrize("name", ["random", "clusters"])
def test_an_edge_exchanged_for_a_longer_one_across_the_cut(name):
    points = CLOUDS[name]
    edges, deaths = _exact_tree(points)
    worse = _swapped(points, edges, exact_distances(points))
    check = pj.check_tree(points, (worse, _deaths(points, worse)))
    i, j = edges[-1]
    longest = _deaths(points, worse)[-1]
    assert not check and check.largest_excess == pytest.approx(longest - deaths[-1])
    assert check.violation.startswith(f"points {i} and {j} are at {deaths[-1]:.8g}, but the path ")
    assert f" has an edge of {longest:.8g}, longer by " in check.violation
    assert str(check).startswith("violation: points ") and "\n" not in str(check)


def test_the_first_violation_is_the_first_pair_that_is_too_close():
    points = _random(40)
    distances = exact_distances(points)
    star = np.array([(0, k) for k in range(1, 40)])
    deaths = distances[0, 1:]
    excess = np.maximum(distances[0][:, None], distances[0]) - distances
    i, j = next((i, j) for i, j in np.argwhere(excess > 1e-12) if 0 < i < j)
    check = pj.check_tree(points, (star, deaths))
    assert check.violation.startswith(f"points {i} and {j} are at {distances[i, j]:.8g}, ")
    sampled = pj.check_tree(points, (star, deaths), rows=np.array([30, 20, 30]))
    i, j = sorted([20, next(j for j in range(1, 40) if excess[20, j] > 1e-12 and j != 20)])
    assert sampled.violation.startswith(f"points {i} and {j} are at {distances[i, j]:.8g}, ")
    assert sampled.rows == 2 and sampled.pairs == 39 + 38


BROKEN = {
    "a cycle": (lambda e: _with(e, 8, (e[0, 0], e[1, 1])), "closes a cycle"),
    "a double edge": (lambda e: _with(e, 30, e[4]), "closes a cycle"),
    "a double edge the other way": (lambda e: _with(e, 30, e[4, ::-1]), "closes a cycle"),
    "a loop": (lambda e: _with(e, 30, (7, 7)), "edge 30 joins point 7 to itself"),
    "above the range": (lambda e: _with(e, 3, (1, 60)), "edge 3 joins 1 and 60, not two of 60"),
    "below the range": (lambda e: _with(e, 3, (-1, 5)), "edge 3 joins -1 and 5, not two of 60"),
    "not whole": (lambda e: _with(e + 0.0, 3, (1.5, 5)), "edge 3 joins 1.5 and 5.0, not two"),
    "NaN": (lambda e: _with(e + 0.0, 3, (np.nan, 5)), "edge 3 joins nan and 5.0, not two"),
    "three ends": (lambda e: np.repeat(e, 2, 1)[:, :3], r"edges (59, 3) and deaths (59,), but"),
}


def _with(edges, k, edge):
    edges = edges.copy()
    edges[k] = edge
    return edges


@pytest.mark.parametrize("name", BROKEN)
def test_edges_that_are_no_spanning_tree(name):
    points = _random()
    edges, deaths = _exact_tree(points)
    if name == "a cycle":  # of three: the ends of a path of two edges
        a, b = next((a, b) for a in range(59) for b in range(a) if set(edges[a]) & set(edges[b]))
        ends = tuple(set(edges[a]) ^ set(edges[b]))
        spare = next(k for k in range(59) if k not in (a, b))
        broken = _with(edges, spare, ends)
    else:
        broken = BROKEN[name][0](edges)
    check = pj.check_tree(points, (broken, deaths))
    assert not check and check.pairs == check.rows == 0
    assert BROKEN[name][1] in check.violation and "\n" not in check.violation


def test_a_missing_vertex():
    points = _random()
    edges, deaths = _exact_tree(points)
    keep = (edges != 17).all(1)
    check = pj.check_tree(points, (edges[keep], deaths[keep]))
    assert check.violation == f"{keep.sum()} edges, but a spanning tree of 60 points has 59"
    check = pj.check_tree(points, (edges, deaths[:-1]))
    assert "edges (59, 2) and deaths (58,)" in check.violation


@pytest.mark.parametrize("off", [3e-6, -3e-6, np.nan, np.inf])
def test_a_wrong_death(off):
    points = _random()
    edges, deaths = _exact_tree(points)
    deaths[40] += off
    check = pj.check_tree(points, (edges, deaths.astype(np.float32)))
    i, j = edges[40]
    assert not check and check.pairs == 0
    assert check.violation.startswith("the death of edge 40 is ")
    assert f"but its points {i} and {j} are at " in check.violation


def test_a_death_within_the_tolerance():
    points = _random()
    edges, deaths = _exact_tree(points)
    off = deaths + 1e-6
    assert not pj.check_tree(points, (edges, off))
    assert pj.check_tree(points, (edges, off.astype(np.float32)))
    assert pj.check_tree(points, (edges, off), tolerance=1.1e-6)
    assert not pj.check_tree(points, (edges, off), tolerance=0.9e-6)


@pytest.mark.parametrize("noise, exact", [(1.2e-3, True), (6e-3, False)])
def test_an_edge_to_the_farther_of_two_near_copies(noise, exact):
    """Near copies at some noise**2 from each other: below the tolerance either of them will do."""
    points = _random(60, 64).astype(np.float64)
    generator = np.random.default_rng(3)
    points[30:] = points[:30] + noise * generator.normal(size=(30, 64)) / 2
    edges, _ = _exact_tree(points)
    copies = [k for k, (i, j) in enumerate(edges) if j == i + 30]
    assert len(copies) == 30
    # A third copy of point 0, nearer to it than to the second one, hangs on the second.
    third = points[0] + 0.5 * noise * generator.normal(size=64)
    points = np.vstack([points, third])
    worse = np.vstack([edges, [30, 60]])
    gap = _deaths(points, worse)[-1] - exact_distances(points)[0, 60]
    assert 1e-7 < gap < 2e-6 if exact else 2e-6 < gap < 5e-5
    check = pj.check_tree(points, (worse, _deaths(points, worse).astype(np.float32)))
    assert check.exact == exact and check.largest_excess == pytest.approx(gap)


def test_sampled_rows_find_what_touches_them():
    points = _random(300)
    edges, _ = _exact_tree(points)
    # The leaf at the end of the longest edge moves to the farthest point.
    degree = np.bincount(edges.ravel())
    k, leaf = next((k, p) for k in range(298, 0, -1) for p in edges[k] if degree[p] == 1)
    farthest = int(np.argmax(exact_distances(points)[leaf]))
    worse = _with(edges, k, (leaf, farthest))
    tree = worse, _deaths(points, worse)
    check = pj.check_tree(points, tree, rows=[leaf])
    assert not check and check.pairs == 299 and f" {leaf} " in check.violation
    (parent,) = set(edges[k]) - {leaf}
    assert not pj.check_tree(points, tree, rows=jnp.array([int(parent)]))
    right = pj.check_tree(points, _exact_tree(points), rows=20, seed=3)
    assert right and right.rows == 20 and right.pairs == 20 * 299 - 190
    assert str(right) == "no violation among 5 790 pairs (20 of 300 points)"


def test_batched_trees_are_told_apart():
    points = jnp.asarray(_random())
    tree = jax.vmap(pj.correlation_tree)(jnp.stack([points, 1 + points]))
    assert "edges (2, 59, 2) and deaths (2, 59)" in pj.check_tree(points, tree).violation


def test_it_shares_no_code_with_the_search(monkeypatch):
    """The kernels may be broken in any way: the checker's answer stays."""
    tree = _exact_tree(_random())
    for name in ("standardise", "correlation_distance", "minimum_spanning_tree"):
        monkeypatch.delattr(f"persist_jax.kernels.{name}")
    assert pj.check_tree(_random(), tree)
    for path in Path(paths.__file__).parent.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "jnp" not in text and "jax.numpy" not in text and "kernels" not in text
