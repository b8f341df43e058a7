import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import CASES, GOLDEN, check_derivatives, neurons
from scipy.spatial.distance import cdist

from persist_jax.kernels import (
    correlation_distance,
    euclidean_distance,
    pearson_distance,
    standardise,
)
from persist_jax.kernels.distances import one_minus_absolute

DISTANCES = (correlation_distance, pearson_distance, euclidean_distance)


@pytest.fixture
def points():
    return neurons(np.random.default_rng(0), 12, 16)


@pytest.mark.parametrize("name", CASES)
def test_correlation_distance_equals_the_published_one(name):
    with np.load(GOLDEN / f"{name}.npz") as case:
        points, distances = case["points"], case["distances"]
    np.testing.assert_allclose(correlation_distance(jnp.asarray(points)), distances, atol=5e-6)


def test_distances_equal_numpy_in_float64():
    points = np.random.default_rng(1).normal(size=(300, 20))
    correlations = np.corrcoef(points)
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            correlation_distance(points), 1 - np.abs(correlations), atol=1e-14
        )
        np.testing.assert_allclose(
            pearson_distance(points), np.sqrt(1 - np.minimum(correlations**2, 1)), atol=1e-7
        )
        np.testing.assert_allclose(euclidean_distance(points), cdist(points, points), atol=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("n", [1, 12, 300])
def test_exactly_symmetric_with_zero_diagonal(distance, n):
    points = np.random.default_rng(2).normal(size=(n, 33)).astype(np.float32)
    matrix = np.asarray(distance(jnp.asarray(points)))
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diag(matrix), 0)
    assert matrix.dtype == np.float32 and matrix.min() >= 0
    if distance is not euclidean_distance:
        assert matrix.max() <= 1


@pytest.mark.parametrize("distance", [correlation_distance, pearson_distance])
def test_constant_neurons_are_at_distance_one(distance, points):
    matrix = np.asarray(distance(jnp.asarray(points)))
    for constant in (0, 4):
        np.testing.assert_array_equal(np.delete(matrix[constant], constant), 1)


def test_equal_rows_are_at_euclidean_distance_zero(points):
    assert euclidean_distance(jnp.asarray(points))[2, 11] == 0


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradient_is_finite_and_zero_at_degenerate_entries(distance, points):
    x = jnp.asarray(points)
    gradient = jax.jit(jax.grad(lambda x: distance(x).sum()))(x)
    assert jnp.isfinite(gradient).all()
    if distance is not euclidean_distance:
        np.testing.assert_array_equal(gradient[jnp.array([0, 4])], 0)
    # The only entry that is looked at is that of two equal rows.
    gradient = jax.jit(jax.grad(lambda x: distance(x)[2, 11]))(x)
    np.testing.assert_allclose(gradient, 0, atol=1e-3)


def test_a_correlation_of_exactly_one_has_no_slope():
    """Not the half of one that a maximum of two equal numbers has; nor beyond, nor at 0 a NaN."""
    correlations = jnp.array([1.0, -1.0, 1.0000001, -1.5, 0.5, -0.5, 0.0])
    slopes = jax.vmap(jax.grad(one_minus_absolute))(correlations)
    np.testing.assert_array_equal(slopes[:6], [0, 0, 0, 0, -1, 1])
    assert jnp.isfinite(slopes[6])
    np.testing.assert_array_equal(
        one_minus_absolute(correlations), [0, 0, 0, 0, 0.5, 0.5, 1]
    )


@pytest.mark.parametrize("distance", DISTANCES)
def test_derivatives_in_float64(distance):
    points = np.random.default_rng(3).normal(size=(4, 6))
    with jax.enable_x64(True):
        upper = jnp.triu_indices(4, 1)
        check_derivatives(lambda x: distance(x)[upper], jnp.asarray(points))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("distance", [correlation_distance, pearson_distance])
def test_nan_and_infinity_give_nan_in_their_row_and_column(distance, bad, points):
    points[5, 3] = bad
    matrix = np.asarray(distance(jnp.asarray(points)))
    expected = np.zeros((12, 12), bool)
    expected[5] = expected[:, 5] = True
    np.testing.assert_array_equal(np.isnan(matrix), expected)


@pytest.mark.parametrize("scale", [1e-34, 1e-20, 1e20, 1e37])
def test_standardise_at_every_scale(scale, points):
    expected = standardise(jnp.asarray(points))
    np.testing.assert_allclose(standardise(jnp.asarray(points * scale)), expected, atol=2e-6)


def test_standardised_rows_are_centred_and_of_unit_norm(points):
    unit = np.asarray(standardise(jnp.asarray(points + 100)), np.float64)
    np.testing.assert_allclose(unit.sum(1), 0, atol=1e-4)
    norms = np.ones(12)
    norms[[0, 4]] = 0
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), norms, atol=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_float32(distance, dtype, points):
    half = jnp.asarray(points, dtype)
    matrix = distance(half)
    assert matrix.dtype == jnp.float32
    np.testing.assert_array_equal(matrix, distance(half.astype(jnp.float32)))


@pytest.mark.parametrize("distance", DISTANCES)
def test_jit_and_vmap(distance, points):
    x = np.stack([points, 2 * points[::-1]])
    expected = np.stack([distance(x[0]), distance(x[1])])
    # A rounding of the correlation is its square root in the Pearson distance near 0.
    atol = 1e-3 if distance is pearson_distance else 2e-6
    np.testing.assert_allclose(jax.jit(jax.vmap(distance))(x), expected, atol=atol)


@pytest.mark.parametrize("distance", [*DISTANCES, standardise])
def test_wrong_points_are_named_with_their_shape(distance):
    for shape in [(3,), (2, 3, 4), (0, 5), (5, 0)]:
        with pytest.raises(ValueError, match=rf"^points .* got shape \({shape[0]},"):
            distance(jnp.zeros(shape))
    with pytest.raises(ValueError, match="^points .* got dtype int32"):
        distance(jnp.zeros((3, 4), jnp.int32))


def test_a_distance_within_the_rounding_of_a_product_is_0():
    eps = float(jnp.finfo(jnp.float32).eps)
    gaps = eps * jnp.array([0, 1, 7.5, 8, 9], jnp.float32)
    for products in (1 - gaps, gaps - 1):
        np.testing.assert_array_equal(one_minus_absolute(products), [0, 0, 0, 8 * eps, 9 * eps])
