"""The matrix-free tree against the dense ones and against scipy's single linkage."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.sharding import PartitionSpec
from oracles import as_set, assert_is_tree, assert_same_tree, exact_distances
from scipy.cluster.hierarchy import linkage
from scipy.linalg import hadamard
from scipy.spatial.distance import squareform

from persist_jax.kernels import (
    correlation_deaths,
    correlation_distance,
    matrix_free,
    minimum_spanning_tree,
    standardise,
)
from persist_jax.kernels.matrix_free import edges_in_order, grow, matrix_free_edges

# Several tiles, the last of them partly filled, at the sizes below.
_TILE = 64


def _edges(points, tile=_TILE, axis_name=None):
    return matrix_free_edges(standardise(points), tile, axis_name)


def _searched(points):
    forest = grow(standardise(points), tile=_TILE)
    return edges_in_order(forest.edges, len(points)), forest.passes, forest.looked


_grow = jax.jit(_searched)
_grow_together = jax.jit(lambda points: _searched(points))


def _tree(points):
    return _grow(points)[0]


def _random(n, b=24, seed=0):
    return np.random.default_rng(seed).normal(size=(n, b)).astype(np.float32)


def _relu_features(n, b=24):
    generator = np.random.default_rng(1)
    hidden = np.maximum(generator.normal(size=(b, 8)) @ generator.normal(size=(8, 32)), 0)
    features = np.maximum(hidden @ generator.normal(size=(32, 2 * n)), 0).T
    # Neurons that fire on the same example alone are collinear: rounding breaks the ties.
    return features[(features > 0).sum(1) > 3][:n].astype(np.float32)


def _clusters(n, members, b=24, noise=0.3, seed=2):
    generator = np.random.default_rng(seed)
    centres = np.repeat(generator.normal(size=(-(-n // members), b)), members, 0)[:n]
    points = centres + noise * generator.normal(size=(n, b))
    return generator.permutation(points).astype(np.float32)


def _signs(n, b=16):
    """Rows whose correlations are exact in floating point, and full of ties."""
    half = np.repeat([-1.0, 1.0], b // 2)
    generator = np.random.default_rng(3)
    return np.stack([generator.permutation(half) for _ in range(n)]).astype(np.float32)


def _with_constants(points):
    points = points.copy()
    points[5::7] = 3.0
    return points


CLOUDS = {
    "random": _random(300),
    "relu": _relu_features(300),
    "clusters": _clusters(300, 30),
    # Here a group is looked at in vain and its nearest vertex is wanted only later.
    "small clusters": _clusters(300, 8, noise=0.2, seed=8),
    "exact ties": _signs(300),
    "exact duplicates": np.repeat(_signs(75), 4, 0),
    "constant rows": _with_constants(_random(300)),
    "constant first row": _with_constants(_signs(305))[5:],
    "all constant": np.ones((300, 24), np.float32),
    # Every row that is not a copy is at distance 1, the constant ones in front of the others.
    "orthogonal": np.repeat(hadamard(16), 19, 0)[:300].astype(np.float32),
    "two examples": _random(300, 2),
}


@jax.jit
def _dense_tree(points):
    return minimum_spanning_tree(correlation_distance(points), algorithm="prim")


def _linkage_deaths(points):
    return linkage(squareform(exact_distances(points), checks=False), "single")[:, 2]


def _deaths(points, edges):
    return np.sort(exact_distances(points)[tuple(np.asarray(edges).T)])


@pytest.mark.parametrize("name", [name for name in CLOUDS if name != "two examples"])
def test_same_edges_as_dense(name):
    points = CLOUDS[name]
    edges = _tree(points)
    assert_is_tree(edges, len(points))
    assert as_set(edges) == as_set(_dense_tree(points))


@pytest.mark.parametrize("name", ["relu", "clusters", "small clusters", "constant rows"])
def test_rows_that_look_at_one_group_together(name, monkeypatch):
    """As those of large groups do, and as often: the same looks, in another order.

    Another product rounds a bound the other way now and then, and a look more or less is taken.
    """
    monkeypatch.setattr(matrix_free, "_SHARED", 1)
    points = CLOUDS[name]
    # Traced here, by the first of these tests.
    edges, _, looked = _grow_together(points)
    assert as_set(edges) == as_set(_dense_tree(points))
    looked, alone = int(looked), int(_grow(points)[2])
    assert abs(looked - alone) <= alone / 200 and looked > len(points)


@pytest.mark.parametrize("name", ["exact ties", "exact duplicates", "all constant", "orthogonal"])
def test_same_order_as_dense_where_nothing_is_rounded(name):
    np.testing.assert_array_equal(_tree(CLOUDS[name]), _dense_tree(CLOUDS[name]))


@pytest.mark.parametrize("name", CLOUDS)
def test_deaths_equal_single_linkage(name):
    points = CLOUDS[name]
    np.testing.assert_allclose(_deaths(points, _tree(points)), _linkage_deaths(points), atol=1e-6)


@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.slow), 65])
def test_sizes_around_the_tile(n):
    points = _random(n)
    edges = _tree(points)
    assert edges.shape == (n - 1, 2)
    assert as_set(edges) == as_set(_dense_tree(points))


def test_tile_does_not_matter():
    points = CLOUDS["relu"]
    assert_same_tree(points, jax.jit(lambda points: _edges(points, tile=1))(points), _tree(points))


def test_looks_again_at_groups_used_up_by_the_own_component():
    # Of nineteen groups of sixteen most hold a near neighbour of the own cluster of five: bounds
    # from the first pass alone cannot tell the nearest other cluster.
    points = _clusters(300, 5)
    edges, passes, looked = _grow(points)
    assert int(passes) == 1 and int(looked) > 3 * len(points)
    assert as_set(edges) == as_set(_dense_tree(points))


def test_makes_the_table_again_where_most_groups_are_used_up():
    points = CLOUDS["clusters"]
    _, passes, looked = _grow(points)
    assert int(passes) == 2 and int(looked) < 10 * len(points)


def test_points_without_clusters_need_about_two_looks():
    points = CLOUDS["random"]
    _, passes, looked = _grow(points)
    assert int(passes) == 1 and int(looked) < 3 * len(points)


def test_float64():
    with jax.enable_x64(True):
        points = _clusters(150, 10).astype(np.float64)
        edges = _tree(points)
        assert as_set(edges) == as_set(_dense_tree(points))
        np.testing.assert_allclose(_deaths(points, edges), _linkage_deaths(points), atol=1e-14)


def test_half_precision_is_computed_in_single():
    points = jnp.asarray(CLOUDS["random"], jnp.bfloat16)
    assert_same_tree(points, _tree(points), _tree(points.astype(jnp.float32)))


def test_near_duplicates_below_rounding_still_give_a_tree():
    points = np.repeat(_random(10), 30, 0)
    points = points * np.random.default_rng(4).uniform(1, 3, (300, 1)).astype(np.float32)
    edges = _tree(points)
    assert_is_tree(edges, 300)
    np.testing.assert_allclose(_deaths(points, edges), _linkage_deaths(points), atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_take_part_as_constant_ones(bad):
    points = _random(300)
    points[[0, 17, 290], 3] = bad
    constant = points.copy()
    constant[[0, 17, 290]] = 1.0
    edges = _tree(points)
    assert_is_tree(edges, 300)
    np.testing.assert_array_equal(edges, _tree(constant))
    assert np.isnan(correlation_deaths(points, algorithm="matrix_free")).all()


def test_vmap_gives_each_tree():
    clouds = np.stack([CLOUDS["random"], CLOUDS["relu"], CLOUDS["clusters"]])
    trees = jax.jit(jax.vmap(_edges))(clouds)
    for points, edges in zip(clouds, trees, strict=True):
        assert_same_tree(points, edges, _tree(points))


@pytest.mark.slow
def test_vmapped_gradient_equals_the_dense_one():
    clouds = np.stack([_random(40, seed=seed) for seed in range(3)])

    def gradients(algorithm):
        def total(points):
            return jnp.square(correlation_deaths(points, algorithm=algorithm)).sum()

        return jax.jit(jax.vmap(jax.grad(total)))(clouds)

    np.testing.assert_allclose(gradients("matrix_free"), gradients("prim"), atol=1e-6)


@pytest.mark.slow
@pytest.mark.needs_devices(4)
@pytest.mark.parametrize("name", ["relu", "clusters", "exact ties", "constant rows"])
def test_devices_share_the_rows_and_agree(name):
    points = CLOUDS[name]
    first, *others = np.asarray(_sharded(np.stack([points] * 4)))
    assert_same_tree(points, first, _tree(points))
    for edges in others:
        np.testing.assert_array_equal(edges, first)


@pytest.mark.needs_devices(4)
def test_devices_with_nothing_to_search():
    points = _random(2)
    for edges in np.asarray(_sharded(np.stack([points] * 4))):
        np.testing.assert_array_equal(edges, [[0, 1]])


@pytest.mark.needs_devices(4)
def test_shares_inside_shard_map():
    points = CLOUDS["relu"]
    mesh = jax.make_mesh((4,), ("devices",))
    tree = functools.partial(_edges, axis_name="devices")
    replicated = PartitionSpec()
    shared = jax.shard_map(
        tree, mesh=mesh, in_specs=replicated, out_specs=replicated, check_vma=False
    )
    assert_same_tree(points, jax.jit(shared)(points), _tree(points))


_sharded = jax.pmap(
    functools.partial(_edges, axis_name="devices"),
    axis_name="devices",
)


_small_clouds = arrays(np.float32, (40, 6), elements=st.integers(-3, 3).map(float))
_scales = st.integers(-20, 20).map(lambda power: 2.0**power)


@settings(max_examples=40, deadline=None)
@given(points=_small_clouds, scale=_scales, seed=st.integers(0, 1000))
def test_invariants(points, scale, seed):
    edges = _tree(points)
    assert_is_tree(edges, 40)
    deaths = _deaths(points, edges)
    in_order = exact_distances(points)[tuple(np.asarray(edges).T)]
    np.testing.assert_allclose(in_order, deaths, atol=1e-6)
    np.testing.assert_allclose(deaths, _linkage_deaths(points), atol=1e-6)

    np.testing.assert_array_equal(_tree(points * np.float32(scale)), edges)

    order = np.random.default_rng(seed).permutation(40)
    relabelled = points[order]
    np.testing.assert_allclose(_deaths(relabelled, _tree(relabelled)), deaths, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(points=_small_clouds, copies=st.integers(1, 20))
def test_duplicates_add_zeros_and_a_constant_adds_a_one(points, copies):
    # A constant row and its copy are at distance 1: start without any.
    points = points + np.where(np.ptp(points, 1, keepdims=True) == 0, np.eye(1, 6), 0)
    points = points.astype(np.float32)
    more = points.copy()
    more[:copies] = points[20 : 20 + copies]
    kept = more[copies:]
    expected = np.concatenate([np.zeros(copies), _linkage_deaths(kept)])
    np.testing.assert_allclose(_deaths(more, _tree(more)), np.sort(expected), atol=1e-6)
    more[0] = 2.0
    expected[0] = 1.0
    np.testing.assert_allclose(_deaths(more, _tree(more)), np.sort(expected), atol=1e-6)
