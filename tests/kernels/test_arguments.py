"""What the kernels take beside whole arrays: masks and condensed vectors; and what they refuse."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import (
    central_difference,
    neurons,
    single_linkage,
    symmetric,
    with_dependent_rows,
)
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist, squareform

from persist_jax import kernels
from persist_jax.kernels import (
    correlation_deaths,
    correlation_distance,
    correlation_tree,
    minimum_spanning_tree,
    zeroth_deaths,
)
from persist_jax.kernels.deaths import matrix_of_condensed

ALGORITHMS = ("prim", "boruvka", "matrix_free")
# Which of 20 rows are neurons: the first is none of them.
MASK = np.arange(20) % 4 != 0
NOTHING = (np.nan, np.inf, 7.0)


def padded(points, mask, filling):
    rows = np.full((len(mask), points.shape[1]), filling, points.dtype)
    rows[mask] = points
    return jnp.asarray(rows)


@functools.partial(jax.jit, static_argnames="algorithm")
def masked(points, mask, algorithm="auto"):
    """The deaths, and the gradient of a term of those that are finite."""

    def term(points):
        deaths = correlation_deaths(points, algorithm=algorithm, mask=mask)
        there = jnp.isfinite(deaths)
        return jnp.where(there, deaths, 0) @ jnp.arange(19.0), deaths

    gradient, deaths = jax.grad(term, has_aux=True)(points)
    return deaths, gradient


GIVEN = neurons(np.random.default_rng(0), 15, 8)


@jax.jit
def unmasked(points):
    def term(points):
        deaths = correlation_deaths(points)
        return deaths @ jnp.arange(14.0), deaths

    slope, deaths = jax.grad(term, has_aux=True)(points)
    return deaths, slope


@jax.jit
def of_free_rows(slope):
    return jax.vjp(with_dependent_rows, GIVEN)[1](slope)[0]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_rows_that_are_masked_out_are_no_neurons(algorithm):
    # Constant neurons among them, whose deaths of 1 must not be taken for the others'.
    points = np.asarray(with_dependent_rows(jnp.asarray(GIVEN)))
    expected, slope = unmasked(points)
    assert (expected[-2:] == 1).all()
    for filling in NOTHING:
        deaths, gradient = map(np.asarray, masked(padded(points, MASK, filling), MASK, algorithm))
        np.testing.assert_allclose(deaths, np.append(expected, [np.inf] * 5), atol=1e-6)
        np.testing.assert_array_equal(gradient[~MASK], 0)
        np.testing.assert_allclose(
            of_free_rows(gradient[MASK]), of_free_rows(slope), atol=1e-5
        )


def test_masks_under_vmap():
    points = jnp.asarray(np.random.default_rng(1).normal(size=(3, 20, 8)), jnp.float32)
    masks = np.stack([MASK, np.arange(20) < 1, np.zeros(20, bool)])
    deaths, gradients = jax.vmap(masked)(points, masks)
    expected = correlation_deaths(points[0][MASK])
    np.testing.assert_allclose(deaths[0, :14], expected, atol=1e-6)
    np.testing.assert_array_equal(deaths[0, 14:], np.inf)
    np.testing.assert_array_equal(deaths[1:], np.inf)
    np.testing.assert_array_equal(gradients[1:], 0)


def test_nan_of_a_neuron_that_is_there_is_seen():
    points = jnp.ones((20, 3)).at[5, 1].set(jnp.nan)
    deaths, _ = masked(points, MASK)
    assert jnp.isnan(deaths[:14]).all() and (deaths[14:] == jnp.inf).all()


@pytest.mark.parametrize("form", [np.asarray, lambda d: squareform(d, checks=False)])
def test_a_mask_of_distances(form):
    distances = symmetric(np.random.default_rng(2), 15, "infinite")
    whole = np.full((20, 20), np.nan, np.float32)
    whole[np.ix_(MASK, MASK)] = distances

    def term(x):
        deaths = zeroth_deaths(x, mask=MASK)
        return jnp.where(jnp.isfinite(deaths), deaths, 0).sum(), deaths

    gradient, deaths = jax.grad(term, has_aux=True)(jnp.asarray(form(whole)))
    np.testing.assert_array_equal(deaths[:14], single_linkage(distances).astype(np.float32))
    np.testing.assert_array_equal(deaths[14:], np.inf)
    assert jnp.isfinite(gradient).all() and gradient.sum() == jnp.isfinite(deaths).sum()


@pytest.mark.parametrize("n", [1, 2, 30])
def test_condensed_vectors_are_scipys(n):
    points = np.random.default_rng(n).normal(size=(n, 4))
    condensed = pdist(points)
    expected = linkage(condensed, "single")[:, 2] if n > 1 else np.zeros(0)
    np.testing.assert_array_equal(
        matrix_of_condensed(jnp.asarray(condensed, jnp.float32)),
        squareform(condensed.astype(np.float32)),
    )
    with jax.enable_x64(True):
        found = jax.jit(zeroth_deaths)(jnp.asarray(condensed))
        np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_the_gradient_of_a_condensed_vector():
    rng = np.random.default_rng(0)
    condensed, direction = pdist(rng.normal(size=(9, 3))), rng.normal(size=36)
    with jax.enable_x64(True):
        condensed, direction = jnp.asarray(condensed), jnp.asarray(direction)

        @jax.jit
        def term(x):
            return zeroth_deaths(x) ** 2 @ jnp.arange(8.0)

        gradient = np.asarray(jax.jit(jax.grad(term))(condensed))
        expected = central_difference(term, condensed, direction)
        np.testing.assert_allclose(gradient @ np.asarray(direction), expected, rtol=1e-7)
        terms = jax.jit(jax.vmap(term))(jnp.stack([condensed, 2 * condensed]))
        np.testing.assert_allclose(terms[1], 4 * terms[0], rtol=1e-14)
    condensed = jnp.array([1.0, jnp.inf, jnp.inf])
    np.testing.assert_array_equal(zeroth_deaths(condensed), [1, np.inf])
    np.testing.assert_array_equal(jax.grad(lambda d: zeroth_deaths(d)[0])(condensed), [1, 0, 0])
    assert jnp.isnan(zeroth_deaths(condensed.at[1].set(jnp.nan))).all()


def test_wrong_lengths_and_masks_are_one_line():
    with pytest.raises(ValueError, match=r"^distances: .* got 5; 3 points have 3, 4 have 6$"):
        zeroth_deaths(jnp.zeros(5))
    with pytest.raises(ValueError, match=r"^mask must be boolean of shape \(20,\).*\(3,\)$"):
        correlation_deaths(jnp.ones((20, 2)), mask=np.ones(3, bool))
    with pytest.raises(ValueError, match=r"^mask must be boolean .* got int32"):
        zeroth_deaths(jnp.ones(6), mask=jnp.ones(4, jnp.int32))


@pytest.mark.parametrize(
    "function", [minimum_spanning_tree, zeroth_deaths, correlation_deaths, correlation_tree]
)
def test_the_checks_leave_a_function_its_name_and_its_words(function):
    assert getattr(kernels, function.__name__) is function and "Raises:" in function.__doc__
    assert "algorithm" in inspect.signature(function).parameters


def test_whole_numbers_are_one_line():
    with pytest.raises(ValueError, match="^points must hold floating-point .* got dtype int32$"):
        correlation_deaths(jnp.ones((4, 2), jnp.int32))
    with pytest.raises(ValueError, match="^distances must hold .* got dtype bool$"):
        minimum_spanning_tree(jnp.ones((4, 4), bool))


@pytest.mark.needs_cpu("only a matrix in the memory of the host is looked at")
@pytest.mark.parametrize("function", [minimum_spanning_tree, zeroth_deaths])
def test_square_points_are_no_distances(function):
    points = neurons(np.random.default_rng(0), 30, 30)
    for given in (points, jnp.asarray(points)):
        with pytest.raises(ValueError, match=r"^distances must be symmetric, got .* point \d+"):
            function(given)
    upper = np.triu(symmetric(np.random.default_rng(0), 9))
    words = r"must be symmetric, got \S+ from point 0 to point \d and \S+ back"
    # The gap is larger than the largest number of its type.
    far = jnp.array([[0, 6e4], [-6e4, 0]], jnp.float16)
    for given in (upper, upper.T, 1e-6 * upper, far):
        with pytest.raises(ValueError, match=words):
            function(given)


def test_rounding_is_no_asymmetry():
    distances = np.array(correlation_distance(neurons(np.random.default_rng(0), 30, 12)))
    expected = zeroth_deaths(distances)
    noise = np.random.default_rng(1).normal(size=distances.shape).astype(np.float32)
    for shift in (0, -2):
        noisy = distances + shift + 1e-6 * noise
        np.testing.assert_allclose(zeroth_deaths(noisy), expected + shift, atol=1e-5)
    half = jnp.asarray(distances, jnp.bfloat16)
    zeroth_deaths(half)
    distances[3], distances[:, 3] = np.inf, np.inf
    distances[4, 0] = distances[0, 4] = np.nan
    assert jnp.isnan(zeroth_deaths(distances)).all()
    zeroth_deaths(np.full((3, 3), np.inf, np.float32))


def test_traced_arrays_are_not_looked_at():
    points = neurons(np.random.default_rng(0), 9, 9)
    assert jax.jit(minimum_spanning_tree)(points).shape == (8, 2)
