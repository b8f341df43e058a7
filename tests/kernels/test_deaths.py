import itertools
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import (
    CASES,
    GOLDEN,
    KINDS,
    central_difference,
    check_derivatives,
    exact_distances,
    kruskal,
    neurons,
    single_linkage,
    symmetric,
    with_dependent_rows,
)

from persist_jax.kernels import (
    correlation_deaths,
    correlation_distance,
    spanning_tree,
    zeroth_deaths,
)
from persist_jax.kernels import deaths as deaths_module

# On a CPU "auto" is Prim, as `test_on_a_cpu_prim_is_one_kernel` sees.
DENSE = ("auto", "boruvka") if jax.default_backend() == "cpu" else ("auto", "prim", "boruvka")
ALGORITHMS = (*DENSE, "matrix_free")
# Of a death, between two programs: each sums the products of two rows in an order of its own.
ROUNDING = 1e-6


def test_a_condensed_vector_too_long_for_its_indices_is_refused():
    vector = jax.ShapeDtypeStruct((46_341 * 46_340 // 2,), jnp.float32)
    with pytest.raises(ValueError, match="a condensed vector of 46341 points, at most 46340; give"):
        jax.eval_shape(zeroth_deaths, vector)
    longest = jax.ShapeDtypeStruct((46_340 * 46_339 // 2,), jnp.float32)
    assert jax.eval_shape(zeroth_deaths, longest).shape == (46_339,)


def finite_sum(deaths):
    return jnp.where(jnp.isfinite(deaths), deaths, 0).sum()


@pytest.mark.parametrize("algorithm", DENSE)
@pytest.mark.parametrize("n", [1, 2, 33])
def test_deaths_equal_single_linkage(algorithm, n):
    rng = np.random.default_rng(n)
    for kind in ("random", "tied", "infinite", "constant"):
        distances = symmetric(rng, n, kind)
        found = zeroth_deaths(jnp.asarray(distances), algorithm=algorithm)
        np.testing.assert_array_equal(found, single_linkage(distances).astype(np.float32))


@pytest.mark.parametrize(
    ("algorithm", "name"), [*itertools.product(["auto"], CASES), ("boruvka", "mlp_dead")]
)
def test_deaths_equal_the_published_ones(algorithm, name):
    with np.load(GOLDEN / f"{name}.npz") as case:
        points, distances, expected = case["points"], case["distances"], case["deaths_exact"]
    found = correlation_deaths(jnp.asarray(points), algorithm=algorithm)
    np.testing.assert_allclose(found, expected, atol=5e-6)
    symmetric = np.minimum(distances, distances.T)
    found = zeroth_deaths(jnp.asarray(symmetric), algorithm=algorithm)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("n", "algorithm"), [(40, "matrix_free"), *itertools.product([1, 2, 40], DENSE)]
)
def test_deaths_of_points_equal_single_linkage_in_float64(algorithm, n):
    points = np.random.default_rng(n).normal(size=(n, 9))
    distances = 1 - np.abs(np.corrcoef(points).reshape(n, n))
    expected = single_linkage(distances)
    with jax.enable_x64(True):
        found = correlation_deaths(jnp.asarray(points), algorithm=algorithm)
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, expected, atol=1e-13)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_dead_and_collinear_neurons(algorithm):
    points = jnp.asarray(neurons(np.random.default_rng(0), 30, 16))

    def term(x):
        deaths = correlation_deaths(x, algorithm=algorithm)
        return deaths.sum(), deaths

    gradient, deaths = jax.jit(jax.grad(term, has_aux=True))(points)
    assert deaths.shape == (29,) and deaths.dtype == jnp.float32
    assert (jnp.diff(deaths) >= 0).all() and deaths[0] >= 0 and deaths[-1] == 1
    np.testing.assert_allclose(deaths[:2], 0, atol=1e-6)
    dense = zeroth_deaths(correlation_distance(points))
    np.testing.assert_allclose(deaths, dense, atol=ROUNDING)
    assert jnp.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[jnp.array([0, 10])], 0)


def test_gradient_is_half_at_either_entry_of_an_edge():
    rng = np.random.default_rng(0)
    gradient_of = jax.jit(jax.grad(lambda d: finite_sum(zeroth_deaths(d))))
    for kind in KINDS:
        distances = symmetric(rng, 33, kind)
        expected = np.zeros((33, 33))
        for i, j in kruskal(distances):
            if np.isfinite(distances[i, j]):
                expected[i, j] = expected[j, i] = 0.5
        np.testing.assert_array_equal(gradient_of(distances), expected)


def test_infinite_deaths_have_zero_gradient():
    def term(distances):
        deaths = zeroth_deaths(distances)
        return deaths.sum(), deaths

    gradient, deaths = jax.jit(jax.grad(term, has_aux=True))(jnp.full((3, 3), jnp.inf))
    np.testing.assert_array_equal(deaths, np.inf)
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_gradient_of_points_equals_differences(algorithm):
    rng = np.random.default_rng(4)
    points, direction = rng.normal(size=(2, 12, 10))
    weights = jnp.arange(11.0)
    with jax.enable_x64(True):

        def term(x):
            return weights @ correlation_deaths(x, algorithm=algorithm) ** 2

        points, direction = jnp.asarray(points), jnp.asarray(direction)

        @jax.jit
        def all_of_it(x):
            return *jax.jvp(term, (x,), (direction,)), jax.grad(term)(x)

        _, tangent, slope = all_of_it(points)
        expected = central_difference(lambda x: all_of_it(x)[0], points, direction)
        np.testing.assert_allclose(tangent, expected, rtol=1e-7)
        np.testing.assert_allclose((slope * direction).sum(), expected, rtol=1e-7)


def test_gradient_through_the_matrix_is_the_same():
    points = jnp.asarray(neurons(np.random.default_rng(0), 20, 12))

    @jax.jit
    def gradients(points):
        ways = correlation_deaths, lambda x: zeroth_deaths(correlation_distance(x))
        return [jax.grad(lambda x, of=of: of(with_dependent_rows(x)).sum())(points) for of in ways]

    through_edges, through_matrix = gradients(points)
    np.testing.assert_allclose(through_edges, through_matrix, atol=1e-5)


def test_higher_derivatives():
    points = np.random.default_rng(5).normal(size=(5, 7))
    with jax.enable_x64(True):
        check_derivatives(correlation_deaths, jnp.asarray(points))
        distances = jnp.asarray(symmetric(np.random.default_rng(6), 5), jnp.float64)
        check_derivatives(lambda d: zeroth_deaths(d + d.T) ** 3, distances)


@pytest.mark.parametrize("algorithm", DENSE)  # test_matrix_free has the other one
def test_vmap_of_value_and_gradient_equals_a_loop(algorithm):
    rng = np.random.default_rng(0)
    lanes = jnp.asarray(np.stack([neurons(rng, 24, 10) for _ in range(3)]))

    def term(x):
        deaths = correlation_deaths(with_dependent_rows(x), algorithm=algorithm)
        return (deaths**2).sum()

    function = jax.value_and_grad(term)
    values, gradients = jax.jit(jax.vmap(function))(lanes)
    alone = jax.jit(function)
    for lane, value, gradient in zip(lanes, values, gradients, strict=True):
        expected = alone(lane)
        np.testing.assert_allclose(value, expected[0], rtol=1e-6)
        np.testing.assert_allclose(gradient, expected[1], atol=1e-5)


@pytest.mark.parametrize("algorithm", DENSE)
def test_vmap_of_the_gradient_of_matrices(algorithm):
    rng = np.random.default_rng(0)
    lanes = jnp.asarray(np.stack([symmetric(rng, 33, kind) for kind in KINDS]))
    gradient = jax.grad(lambda d: finite_sum(zeroth_deaths(d, algorithm=algorithm)))
    together, alone = jax.jit(jax.vmap(gradient)), jax.jit(gradient)
    np.testing.assert_array_equal(together(lanes), [alone(lane) for lane in lanes])


@pytest.mark.parametrize("algorithm", DENSE)  # test_matrix_free has the other one
def test_nan_makes_every_death_nan(algorithm):
    points = neurons(np.random.default_rng(0), 12, 8)
    points[3, 2] = np.nan
    deaths = correlation_deaths(jnp.asarray(points), algorithm=algorithm)
    assert deaths.shape == (11,) and jnp.isnan(deaths).all()


@pytest.mark.parametrize("algorithm", DENSE)
def test_one_nan_of_a_matrix_makes_every_death_nan(algorithm):
    distances = symmetric(np.random.default_rng(0), 40)
    distances[3, 39] = distances[39, 3] = np.nan
    assert jnp.isnan(zeroth_deaths(jnp.asarray(distances), algorithm=algorithm)).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_points(dtype):
    points = jnp.asarray(neurons(np.random.default_rng(0), 20, 12), dtype)
    term = jax.jit(jax.value_and_grad(lambda x: correlation_deaths(x).sum()))
    deaths, gradient = term(points)
    assert deaths.dtype == jnp.float32 and gradient.dtype == dtype
    expected = np.asarray(correlation_deaths(points.astype(jnp.float32))).sum()
    np.testing.assert_allclose(deaths, expected, rtol=1e-6)


def test_auto_needs_no_matrix_that_is_too_large(monkeypatch, traced_anew):
    points = neurons(np.random.default_rng(0), 60, 8)
    monkeypatch.setattr(deaths_module, "LARGEST_MATRIX", 60 * 60 * 4 - 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deaths_module, "edges_of_rows", None)
        deaths = correlation_deaths(points)
    np.testing.assert_allclose(deaths, single_linkage(exact_distances(points)), atol=ROUNDING)
    monkeypatch.undo()
    assert deaths_module.LARGEST_MATRIX == 2 * 2**30


def test_the_largest_dense_sizes(monkeypatch, traced_anew):
    """Just at a limit the dense way, and Prim's, is taken; above it the other."""

    def trace(function, side, algorithm="auto"):
        traced_anew()
        shape = jax.ShapeDtypeStruct((10, side), jnp.float32)
        assert jax.eval_shape(lambda x: function(x, algorithm=algorithm), shape).shape == (9,)

    with monkeypatch.context() as patch:
        patch.setattr(deaths_module, "edges_of_rows", None)
        for limit in (10 * 10 * 4, 10 * 10 * 4 - 1):
            patch.setattr(deaths_module, "LARGEST_MATRIX", limit)
            with nullcontext() if limit < 400 else pytest.raises(TypeError):
                trace(correlation_deaths, 4)
    monkeypatch.setattr(spanning_tree, "prim_parents", None)
    for most in (10, 9):
        monkeypatch.setattr(spanning_tree, "MOST_POINTS", most)
        for algorithm in ("auto", "prim"):
            for function, side in ((correlation_deaths, 4), (zeroth_deaths, 10)):
                with nullcontext() if most < 10 else pytest.raises(TypeError):
                    trace(function, side, algorithm)


def test_a_correlation_above_1_by_rounding_is_at_distance_0_for_prim():
    correlations = np.array([1 + 3e-7, -1 - 1e-7, 1, 1 - 1e-6, -0.5, 0], np.float32)
    keys = np.asarray(spanning_tree._keys_of_products(jnp.asarray(correlations), nan=-1))
    assert (keys[:3] == 0).all() and (np.diff(keys[2:]) > 0).all()


@pytest.mark.needs_cpu("elsewhere Prim's loop is compiled as any other")
@pytest.mark.parametrize("algorithm", ["auto", "prim"])
def test_on_a_cpu_prim_is_one_kernel(algorithm):
    deaths = jax.jit(lambda x: correlation_deaths(x, algorithm=algorithm))
    text = deaths.lower(jnp.ones((9, 5))).compile().as_text()
    calls = [line for line in text.splitlines() if " call(" in line]
    assert any('xla_cpu_small_call="true"' in line for line in calls)


def test_the_gradient_of_points_forms_none_of_the_matrix():
    def squares(jaxpr):
        for equation in jaxpr.eqns:
            yield from (v.aval.shape for v in equation.outvars if v.aval.shape == (50, 50))

    points, deaths = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((50, 4), (49,)))
    pullback = jax.eval_shape(lambda x: jax.vjp(correlation_deaths, x)[1], points)
    jaxpr = jax.make_jaxpr(lambda pullback, deaths: pullback(deaths))(pullback, deaths)
    assert not list(squares(jaxpr.jaxpr))


@pytest.mark.usefixtures("unchecked_types")
def test_errors_name_the_argument_and_the_choices():
    with pytest.raises(ValueError, match=r"^distances .* got shape \(2, 3\)"):
        zeroth_deaths(jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"^points .* got shape \(0, 3\)"):
        correlation_deaths(jnp.zeros((0, 3)))
    with pytest.raises(ValueError, match="'x' is not one of auto, prim, boruvka$"):
        zeroth_deaths(jnp.zeros((3, 3)), algorithm="x")
    with pytest.raises(ValueError, match="'x' is not one of auto, prim, boruvka, matrix_free$"):
        correlation_deaths(jnp.zeros((3, 3)), algorithm="x")
