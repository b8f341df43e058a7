"""The right numbers of float32 activations that lie badly for float32, from float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import monitoring
from oracles import single_linkage

import persist_jax as pj
from persist_jax.kernels import standardise

RNG = np.random.default_rng(0)


def _pairs(n=32, b=64):
    """Neurons in pairs, each of them at a distance of about 1e-3 from the other."""
    one = RNG.normal(size=(n // 2, b))
    return np.concatenate([one, one + 0.05 * RNG.normal(size=one.shape)])


def _one_step_of_noise(value=0.3):
    rows = np.full((4, 64), value, np.float32)
    return np.where(RNG.random(rows.shape) < 0.2, np.nextafter(rows, np.float32(1)), rows)


CLOUDS = {
    "a mean of 1e4": _pairs() + 1e4,
    "a mean of -1e5": _pairs() - 1e5,
    "a mean of 1e6": _pairs() + 1e6,
    "affine in each other": 1e8 + 8.0 * RNG.integers(-50, 50, 64) * np.array([[1], [-2], [5]]),
    "constant but for the last bit": _one_step_of_noise(),
    "after decay": np.maximum(1e-8 * _pairs() + RNG.uniform(0.01, 0.1, (32, 1)), 0),
    "two examples": RNG.normal(3, 1, (5, 2)),
    "of every scale": _pairs() * 10.0 ** np.linspace(-30, 30, 32)[:, None],
    "ordinary": _pairs(),
}


def _unit(points):
    """The standardised rows of float32 points, in float64."""
    rows = np.asarray(points, np.float64)
    rows = rows / np.maximum(np.abs(rows).max(1, keepdims=True), 1e-300)
    rows = rows - rows.mean(1, keepdims=True)
    rows = rows - rows.mean(1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms == 0, 1, norms)


@pytest.mark.parametrize("name", CLOUDS)
def test_rows_are_those_of_float64(name):
    points = CLOUDS[name].astype(np.float32)
    np.testing.assert_allclose(standardise(points), _unit(points), atol=3e-7)


@pytest.mark.parametrize("algorithm", ["auto", "boruvka", "matrix_free"])
def test_deaths_far_from_zero(algorithm):
    points = CLOUDS["a mean of 1e6"].astype(np.float32)
    correlations = _unit(points) @ _unit(points).T
    expected = single_linkage(np.maximum(1 - np.abs(correlations), 0))
    found = pj.correlation_deaths(points, algorithm=algorithm)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # The least is of about 1e-3: 95 % of it was once lost.
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-3)


def test_two_examples_are_on_a_line():
    with jax.enable_x64(True):
        points = jnp.asarray(CLOUDS["two examples"] + 1e6)
        np.testing.assert_array_equal(pj.correlation_deaths(points), 0)


def test_neurons_of_noise_in_the_last_bit_are_no_cluster():
    layer = jnp.asarray(CLOUDS["constant but for the last bit"].T)
    found = pj.redundancy([layer], threshold=0.9)
    assert not found.clusters and not found.constant


def test_the_derivative_is_that_of_one_mean():
    """The second mean, of what is left, is held fixed: in exact numbers it is 0 everywhere."""
    with jax.enable_x64(True):
        points, direction = jnp.asarray(_pairs(8, 6) + 3), jnp.asarray(RNG.normal(size=(8, 6)))
        _, found = jax.jvp(standardise, (points,), (direction,))
        step = 1e-6
        ends = (standardise(points + sign * step * direction) for sign in (1, -1))
        np.testing.assert_allclose(found, np.subtract(*ends) / (2 * step), atol=1e-8)


def test_the_mean_correlation_counts_neurons_and_not_rounded_numbers():
    """Of 0 and 1 on eight examples many correlations are 0, and rounded some are and some not."""
    points = (RNG.random((60, 8)) < 0.5).astype(np.float32)
    points[7] = 1.0
    sizes = np.abs(_unit(points) @ _unit(points).T)
    np.fill_diagonal(sizes, 0)
    neurons = int((points.max(1) > points.min(1)).sum())
    expected = sizes.sum() / (neurons * (neurons - 1))
    for order in (slice(None), slice(None, None, -1), [3, 1, 0, 2, 7, 5, 6, 4]):
        np.testing.assert_allclose(pj.mean_correlation(points[:, order]), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float8_e4m3fn, jnp.float8_e5m2])
def test_distances_of_8_bits(dtype):
    """Some of these types have no infinity, which a mask needs."""
    matrix = jnp.asarray(np.abs(np.subtract.outer(*[np.arange(6.0)] * 2)), dtype)
    mask = np.arange(6) != 2
    assert pj.zeroth_deaths(matrix, mask=mask).tolist() == [1, 1, 1, 2, np.inf]


def _all(points):
    distances = pj.correlation_distance(points)
    return [
        pj.pearson_distance(points),
        pj.euclidean_distance(points),
        pj.minimum_spanning_tree(distances, algorithm="boruvka"),
        pj.zeroth_deaths(distances, algorithm="prim"),
        pj.correlation_deaths(points, algorithm="matrix_free"),
        pj.correlation_tree(points),
        pj.mean_correlation(points),
        standardise(points),
    ]


def test_what_is_called_twice_is_compiled_once():
    compiled = []

    def count(event, duration, **how):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration)

    monitoring.register_event_duration_secs_listener(count)
    try:
        _all(_pairs(14, 9).astype(np.float32))
        first = len(compiled)
        _all(_pairs(14, 9).astype(np.float32))
    finally:
        monitoring.unregister_event_duration_listener(count)
    assert first > 5 and len(compiled) == first
