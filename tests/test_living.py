"""Terms of some of the deaths, and of the living neurons alone."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

import persist_jax as pj
from persist_jax.kernels import deaths as deaths_module
from persist_jax.terms.regularisers import t1_living, t2_living

B = 20


def _cloud(seed=0):
    """Ten neurons after a ReLU: 0 and 9 constant, 3 active on one example, 5 on four of them."""
    rng = np.random.default_rng(seed)
    points = np.maximum(rng.normal(0.3, 1, (10, B)), 0)
    points[0], points[9] = 0.0, 2.0
    points[3] = np.eye(B)[7]
    points[5] = rng.permutation(np.r_[rng.uniform(1, 2, 4), np.zeros(B - 4)])
    return points


def _oracle(points, active):
    """The deaths of those rows that are off their minimum on the share, by SciPy."""
    share = (points != points.min(1, keepdims=True)).mean(1)
    rows = points[(share >= active) & (share > 0)]
    distances = 1 - np.abs(np.corrcoef(rows))
    return linkage(squareform(distances, checks=False), "single")[:, 2]


@pytest.mark.parametrize("active, living", [(0.0, 8), (0.05, 8), (0.1, 7), (0.2, 7), (0.21, 6)])
def test_living_deaths_are_those_of_the_living_neurons_alone(active, living):
    points = _cloud()
    assert int(pj.living_neurons(jnp.asarray(points), active).sum()) == living
    deaths, where = pj.living_deaths(jnp.asarray(points, jnp.float32), active)
    assert deaths.shape == where.shape == (9,) and int(where.sum()) == living - 1
    np.testing.assert_allclose(deaths[where], _oracle(points, active), atol=1e-6)
    assert np.all(np.isposinf(deaths[living - 1 :]))


@pytest.mark.parametrize("active, count", [(0.07, 7), (0.29, 29)])
def test_the_least_share_is_met_where_its_product_rounds_up(active, count):
    points = (np.arange(100)[None] < np.array([[count - 1], [count]])).astype(np.float32)
    assert pj.living_neurons(jnp.asarray(points), active).tolist() == [False, True]


def test_living_terms_are_their_formulas():
    points = jnp.asarray(_cloud(), jnp.float32)
    deaths = _oracle(_cloud(), 0.1)
    terms = {
        -deaths.mean(): partial(t1_living, active=0.1),
        -deaths.sum(): partial(t1_living, active=0.1, reduce="sum"),
        0.3 * deaths.std() - 0.7 * deaths.mean(): partial(t2_living, active=0.1, alpha=0.3),
    }
    for expected, term in terms.items():
        np.testing.assert_allclose(jax.jit(term)(points), expected, rtol=1e-5)


def test_a_sum_over_the_living_has_the_gradient_of_t1():
    """A constant neuron's death is exactly 1: it shifts the sum and nothing else."""
    points = jnp.asarray(_cloud(), jnp.float32)
    living = partial(t1_living, active=0.0, reduce="sum")
    terms = living, lambda p: pj.t1(pj.correlation_deaths(p)), partial(t1_living, active=0.0)
    found = jax.jit(lambda points: [jax.value_and_grad(term)(points) for term in terms])(points)
    (value, slope), (whole, expected), (_, mean) = found
    np.testing.assert_array_equal(slope, expected)
    np.testing.assert_allclose(value, whole + 2, rtol=1e-6)
    assert np.any(np.asarray(slope) != 0)
    np.testing.assert_allclose(mean * 7, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("living", [t1_living, pytest.param(t2_living, marks=pytest.mark.slow)])
def test_gradients_are_finite_differences_and_none_goes_to_the_dead(living):
    term = partial(living, active=0.1)
    with jax.enable_x64(True):
        points = jnp.asarray(_cloud())
        slope = np.asarray(jax.jit(jax.grad(term))(points))
        assert np.all(slope[[0, 3, 9]] == 0)
        value, step = jax.jit(term), 1e-6
        # Where a neuron is at its minimum a step would change how often it is active.
        for row in (1, 5, 8):
            column = int(np.argmax(_cloud()[row]))
            change = np.zeros(points.shape)
            change[row, column] = step
            difference = (value(points + change) - value(points - change)) / (2 * step)
            np.testing.assert_allclose(slope[row, column], difference, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("living", [0, 1])
def test_no_two_living_neurons_give_zero(living):
    points = jnp.zeros((4, B)).at[:living].set(jnp.arange(float(B)))
    for term in (t1_living, t2_living):
        value, slope = jax.jit(jax.value_and_grad(term))(points)
        assert float(value) == 0.0 and np.all(np.asarray(slope) == 0)


def test_a_neuron_that_is_not_finite_is_seen():
    for bad in (np.nan, np.inf, -np.inf):
        points = jnp.asarray(_cloud(), jnp.float32).at[0, 0].set(bad)
        assert np.isnan(t1_living(points, active=0.2))


@pytest.mark.slow
def test_living_terms_in_lanes_without_a_matrix_and_on_a_shared_batch(monkeypatch, traced_anew):
    term = partial(t1_living, active=0.1)
    clouds = jnp.asarray([_cloud(0), _cloud(1)], jnp.float32)
    alone = [jax.value_and_grad(term)(cloud) for cloud in clouds]

    def shared(share):
        return term(pj.sample_neurons([share], 1.0, axis_name="devices"))

    shares = clouds[0].T.reshape(4, 5, 10)
    gathered = jax.pmap(shared, axis_name="devices")(shares)
    np.testing.assert_allclose(gathered, np.full(4, alone[0][0]), rtol=1e-6)
    lanes = jax.jit(jax.vmap(jax.value_and_grad(term)))(clouds)
    monkeypatch.setattr(deaths_module, "LARGEST_MATRIX", 0)
    traced_anew()
    free = jax.jit(jax.value_and_grad(lambda cloud: term(cloud)))(clouds[0])
    for lane in range(2):
        np.testing.assert_allclose(lanes[0][lane], alone[lane][0], rtol=1e-6)
        np.testing.assert_allclose(lanes[1][lane], alone[lane][1], atol=1e-6)
    np.testing.assert_allclose(free[0], alone[0][0], rtol=1e-6)
    np.testing.assert_allclose(free[1], alone[0][1], atol=1e-6)


TERMS = {
    "sum": pj.t1,
    "mean": lambda deaths, where=None: pj.t1(deaths, reduce="mean", where=where),
    "t2": lambda deaths, where=None: pj.t2(deaths, 0.3, where=where),
}


@pytest.mark.parametrize("name", TERMS)
def test_deaths_that_do_not_count_may_be_infinite(name):
    term = TERMS[name]
    deaths = jnp.asarray(np.random.default_rng(0).random(6), jnp.float32)
    longer = jnp.concatenate([deaths[:2], jnp.full(3, jnp.inf), deaths[2:]])
    compiled = jax.jit(jax.value_and_grad(term))
    value, slope = compiled(longer, where=jnp.isfinite(longer))
    expected, slopes = jax.value_and_grad(term)(deaths)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(slope, np.insert(slopes, [2, 2, 2], 0), rtol=1e-5)
    value, slope = compiled(longer, where=jnp.zeros(9, bool))
    assert float(value) == 0.0 and np.all(np.asarray(slope) == 0)


def test_the_mean_does_not_depend_on_the_number():
    deaths = jnp.asarray(np.random.default_rng(0).random(6), jnp.float32)
    mean = pj.t1(deaths, reduce="mean")
    np.testing.assert_allclose(mean * 6, pj.t1(deaths), rtol=1e-6)
    np.testing.assert_allclose(pj.t1(jnp.tile(deaths, 3), reduce="mean"), mean, rtol=1e-6)
    assert float(pj.t1(jnp.zeros(0), reduce="mean")) == 0.0


@pytest.mark.usefixtures("unchecked_types")
def test_wrong_arguments_are_one_line():
    deaths = jnp.ones(3)
    for alpha in (-0.1, 1.5, np.nan, jnp.float32(2)):
        with pytest.raises(ValueError, match=r"^alpha: [^\n]* is not in \[0, 1\]$"):
            pj.t2(deaths, alpha)
    np.testing.assert_allclose(jax.jit(pj.t2)(deaths, 1.5), 0.5)
    with pytest.raises(ValueError, match="^reduce: 'max' is not one of sum, mean$"):
        pj.t1(deaths, reduce="max")
    for active in (1.5, -0.1):
        with pytest.raises(ValueError, match=rf"^active: {active} is not in \[0, 1\]$"):
            pj.living_deaths(jnp.ones((2, 3)), active)


def test_a_fifth_of_the_batch_is_what_counts_if_nothing_is_said():
    points = (np.arange(20)[None] < np.array([[3], [4], [5], [9]])).astype(np.float32)
    assert pj.living_neurons(jnp.asarray(points)).tolist() == [False, True, True, True]
    assert pj.living_deaths(jnp.asarray(points))[1].tolist() == [True, True, False]
