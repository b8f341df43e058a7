"""The mean correlation: its value against NumPy, its derivatives against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import check_derivatives

from persist_jax.kernels import correlations, mean_correlation, standardise


def _cloud():
    return np.random.default_rng(0).normal(size=(6, 9))


def test_it_is_numpys_and_constant_neurons_do_not_count():
    points = np.vstack([_cloud(), np.full((2, 9), 3.0)]).astype(np.float32)
    expected = np.abs(np.corrcoef(_cloud()))[~np.eye(6, dtype=bool)].mean()
    for rows in (points[:6], points):
        np.testing.assert_allclose(mean_correlation(rows), expected, rtol=1e-5)
    assert float(mean_correlation(jnp.ones((3, 4)))) == 0.0


@pytest.mark.parametrize("block", [4, 1024])
def test_values_and_derivatives_do_not_depend_on_blocks(monkeypatch, traced_anew, block):
    monkeypatch.setattr(correlations, "_ONE_BLOCK", block)
    monkeypatch.setattr(correlations, "_BLOCK", block)
    with jax.enable_x64(True):
        points = np.vstack([_cloud(), 3 * _cloud()[:1] + 2, np.full((1, 9), 2.0)])
        unit = np.asarray(standardise(points))
        product = np.abs(unit @ unit.T)[~np.eye(8, dtype=bool)]
        np.testing.assert_allclose(mean_correlation(points), product.sum() / 42, rtol=1e-12)
        # The neurons 0 and 6 are one another's multiples: a kink, which differences must not see.
        check_derivatives(lambda points: mean_correlation(points), jnp.asarray(points[:6]))


def test_products_of_one_or_more_count_as_one_and_have_no_slope():
    row = np.array([0.5, 0.5, -0.5, -0.5], np.float32)
    both = jax.jit(jax.value_and_grad(correlations._sum_of_sizes))
    for scale in (1.0, -1.0, 1.5):
        value, slope = both(np.stack([row, np.float32(scale) * row]))
        assert float(value) == 2.0
        np.testing.assert_array_equal(slope, 0)


@pytest.mark.parametrize("n, whole", [(1024, True), (1025, False)])
def test_the_matrix_of_many_neurons_is_never_whole(n, whole):
    slope = jax.grad(mean_correlation)
    points = jax.ShapeDtypeStruct((n, 3), jnp.float32)
    assert (f"[{n},{n}]" in str(jax.make_jaxpr(slope)(points))) == whole


def test_constant_and_infinite_neurons_take_no_part():
    rows = np.full((2, 9), np.array([[np.nan], [2.0]]))
    points = np.vstack([_cloud(), rows]).astype(np.float32)
    both = jax.jit(jax.value_and_grad(mean_correlation))
    value, slope = both(points)
    expected, slopes = both(points[:6])
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(slope[:6], slopes, atol=1e-6)
    np.testing.assert_array_equal(slope[7], 0)
