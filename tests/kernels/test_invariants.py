"""How the answers must change when the input is relabelled, repeated, scaled or enlarged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax import lax
from oracles import kruskal, single_linkage

from persist_jax.kernels import (
    correlation_deaths,
    correlation_distance,
    minimum_spanning_tree,
    zeroth_deaths,
)

N, B = 9, 6
tree = jax.jit(minimum_spanning_tree, static_argnames="algorithm")
deaths = jax.jit(zeroth_deaths, static_argnames="algorithm")
distances_of = jax.jit(correlation_distance)
point_deaths = jax.jit(correlation_deaths, static_argnames="algorithm")
point_gradient = jax.jit(
    jax.grad(lambda x, algorithm: correlation_deaths(x, algorithm=algorithm).sum()),
    static_argnames="algorithm",
)

# Few different values: ties everywhere, and small whole activations are exact.
weights = st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0, np.inf])
upper_triangles = arrays(np.float32, N * (N - 1) // 2, elements=weights)
points = arrays(np.float32, (N, B), elements=st.sampled_from([0.0, 0.0, 1.0, 2.0, 5.0]))
orders = st.permutations(range(N))
quick = settings(max_examples=30, deadline=None)
algorithms = pytest.mark.parametrize("algorithm", ["prim", "boruvka"])
point_algorithms = pytest.mark.parametrize("algorithm", ["prim", "boruvka", "matrix_free"])


def matrix_of(triangle):
    matrix = np.zeros((N, N), np.float32)
    matrix[np.triu_indices(N, 1)] = triangle
    return matrix + matrix.T


@algorithms
@quick
@given(triangle=upper_triangles)
def test_edges_and_deaths_equal_the_oracles(algorithm, triangle):
    distances = matrix_of(triangle)
    np.testing.assert_array_equal(tree(distances, algorithm=algorithm), kruskal(distances))
    np.testing.assert_array_equal(deaths(distances, algorithm=algorithm), single_linkage(distances))


@algorithms
@quick
@given(triangle=upper_triangles, order=orders)
def test_relabelling_leaves_the_deaths(algorithm, triangle, order):
    distances = matrix_of(triangle)
    relabelled = distances[np.ix_(order, order)]
    np.testing.assert_array_equal(
        deaths(relabelled, algorithm=algorithm), deaths(distances, algorithm=algorithm)
    )


@algorithms
@quick
@given(triangle=upper_triangles, size=st.integers(1, N - 1))
def test_infinitely_distant_blocks_are_joined_last(algorithm, triangle, size):
    distances = matrix_of(np.minimum(triangle, 3))
    distances[:size, size:] = distances[size:, :size] = np.inf
    parts = [single_linkage(distances[:size, :size]), single_linkage(distances[size:, size:])]
    expected = [*np.sort(np.concatenate(parts)), np.inf]
    np.testing.assert_array_equal(deaths(distances, algorithm=algorithm), expected)
    # Of the infinite edges the first one joins the blocks.
    last = tree(distances, algorithm=algorithm)[-1]
    np.testing.assert_array_equal(last, [0, size])


@point_algorithms
@quick
@given(points=points, order=orders)
def test_relabelling_points(algorithm, points, order):
    np.testing.assert_allclose(
        point_deaths(points[np.array(order)], algorithm=algorithm),
        point_deaths(points, algorithm=algorithm),
        atol=1e-6,
    )


@point_algorithms
@quick
@given(points=points, scale=st.sampled_from([-8.0, 0.25, 3.0, 1e10]), shift=st.integers(-4, 4))
def test_scaling_and_shifting_points(algorithm, points, scale, shift):
    changed = np.float32(scale) * (points + np.float32(shift))
    np.testing.assert_allclose(
        point_deaths(changed, algorithm=algorithm),
        point_deaths(points, algorithm=algorithm),
        atol=2e-6,
    )


@point_algorithms
@quick
@given(points=points, repeated=st.integers(0, N - 1))
def test_a_repeated_neuron_adds_one_death(algorithm, points, repeated):
    enlarged = np.concatenate([points, points[repeated : repeated + 1]])
    # Correlation 0 with everything, also with a copy of itself.
    new = 1.0 if np.ptp(points[repeated]) == 0 else 0.0
    expected = np.sort([*np.asarray(point_deaths(points, algorithm=algorithm)), new])
    np.testing.assert_allclose(point_deaths(enlarged, algorithm=algorithm), expected, atol=1e-6)


@point_algorithms
@quick
@given(points=points, value=st.sampled_from([0.0, -3.0, 0.1]))
def test_a_constant_neuron_adds_a_death_of_one(algorithm, points, value):
    enlarged = np.concatenate([points, np.full((1, B), value, np.float32)])
    before = point_deaths(points, algorithm=algorithm)
    after = point_deaths(enlarged, algorithm=algorithm)
    np.testing.assert_allclose(after, [*np.asarray(before), 1.0], atol=1e-6)


@quick
@given(points=points)
def test_all_algorithms_agree(points):
    found = [point_deaths(points, algorithm=a) for a in ("auto", "prim", "boruvka", "matrix_free")]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-6)
    for algorithm in ("prim", "boruvka"):
        assert jnp.isfinite(point_gradient(points, algorithm=algorithm)).all()
    # Of these points most correlations are tied, and each program rounds its own: only of the same
    # distances do the edges agree.
    distances = np.asarray(distances_of(points))
    np.testing.assert_array_equal(
        tree(distances, algorithm="prim"), tree(distances, algorithm="boruvka")
    )


@pytest.mark.needs_cpu("elsewhere these are the programs that all other tests run")
def test_what_other_platforms_run_is_the_same(monkeypatch, traced_anew):
    """The programs for an accelerator, run on a CPU."""
    cloud = np.random.default_rng(0).normal(size=(2, N, B)).astype(np.float32)

    def everything(cloud):
        distances = correlation_distance(cloud[0])
        ways = [("auto", zeroth_deaths, distances), ("prim", zeroth_deaths, distances)]
        ways.append(("prim", correlation_deaths, cloud[0]))
        found = [function(taken, algorithm=algorithm) for algorithm, function, taken in ways]
        return distances, jax.vmap(correlation_deaths)(cloud), jnp.stack(found)

    def default(*operands, default, **platforms):
        return default(*operands)

    expected = jax.jit(lambda cloud: everything(cloud))(cloud)
    monkeypatch.setattr(lax, "platform_dependent", default)
    traced_anew()
    others = jax.jit(lambda cloud: everything(cloud))(cloud)
    for found, ours in zip(others, expected, strict=True):
        np.testing.assert_allclose(found, ours, atol=1e-6)
    np.testing.assert_array_equal(others[0], others[0].T)
