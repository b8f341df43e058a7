from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import persist_jax as pj
from persist_jax.parameters import NotNegative, Share
from persist_jax.terms import REGULARISERS
from persist_jax.training import Options


def _cloud(n=6, b=9, seed=0):
    return np.random.default_rng(seed).normal(size=(n, b))


def test_terms_of_deaths_are_their_formulas():
    deaths = jnp.asarray(np.random.default_rng(1).random(11), jnp.float32)
    np.testing.assert_allclose(pj.t1(deaths), -deaths.sum(), rtol=1e-6)
    expected = 0.3 * deaths.std() - 0.7 * deaths.mean()
    np.testing.assert_allclose(pj.t2(deaths, 0.3), expected, rtol=1e-5)
    np.testing.assert_allclose(pj.t2(deaths, 1.0), deaths.std(), rtol=1e-5)
    np.testing.assert_allclose(pj.t2(deaths, 0.0), -deaths.mean(), rtol=1e-5)
    one = jnp.arange(11) == 4
    np.testing.assert_allclose(pj.t1(deaths, reduce="mean", where=one), -deaths[4], rtol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_t2_of_equal_deaths_has_a_finite_gradient(count):
    deaths = jnp.full((count,), 0.25)
    value, slope = jax.jit(jax.value_and_grad(pj.t2))(deaths)
    assert float(value) == (-0.125 if count else 0.0)
    np.testing.assert_allclose(slope, np.full(count, -0.5 / max(count, 1)), rtol=1e-6)


def test_norms_take_every_weight():
    params = {"a": {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([0.0])}, "b": -3.0}
    params = jax.tree.map(jnp.asarray, params)
    assert float(pj.l1(params)) == 6.0
    assert float(pj.l2(params)) == 14.0
    slopes = jax.tree.leaves(jax.grad(pj.l1)(params))
    assert [leaf.ravel().tolist() for leaf in slopes] == [[0.0], [1.0, -1.0], [-1.0]]


def test_a_term_has_its_parameters_bound():
    options = Options(batch_size=9, epochs=1, optimiser={}, sampling=0.5)
    layers = [jnp.asarray(_cloud().T, jnp.float32)] * 2
    points = pj.sample_neurons(layers, 0.5)
    deaths, params = pj.correlation_deaths(points), {"w": jnp.array([1.0, -2.0])}
    for chosen, expected in (
        (options.term("t1"), pj.t1(deaths)),
        (options.term("t1", {"reduce": "mean"}), deaths.mean() * -1),
        (options.term("t2"), pj.t2(deaths)),
        (options.term("t2", {"alpha": 0.25}), pj.t2(deaths, 0.25)),
        (options.term("min_corr"), pj.mean_correlation(points)),
        (options.term("l1"), 3),
        (options.term("l2"), 5),
        (options.term(), 0),
    ):
        np.testing.assert_allclose(chosen(layers, params), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "name, parameters, message",
    [
        ("t2", {"alpha": 2.0}, "terms.t2.alpha: 2.0 must be at most 1"),
        ("t2", {"alpha": "half"}, "terms.t2.alpha: 'half' is not a number"),
        ("t2", {"beta": 0.5}, "terms.t2.beta: unknown field; known are alpha"),
        ("t1", {"alpha": 0.5}, "terms.t1.alpha: unknown field; known are reduce"),
        ("t1", {"reduce": "max"}, "terms.t1.reduce: 'max' is not one of sum, mean"),
        ("l1", {"alpha": 0.5}, "terms.l1.alpha: unknown field; there are no fields here"),
    ],
)
def test_a_wrong_parameter_is_one_line(name, parameters, message):
    with pytest.raises(ValueError) as error:
        Options(batch_size=9, epochs=1, optimiser={}).term(name, parameters)
    assert str(error.value) == message


@pytest.mark.usefixtures("unchecked_types")
def test_a_regulariser_from_outside_is_one_entry():
    names = list(REGULARISERS)
    with mock.patch.dict(REGULARISERS):

        @REGULARISERS.register("strongest", of="points")
        def _strongest(points, *, share: Share, power: NotNegative = 1.0):
            return share * jnp.max(jnp.abs(points)) ** power

        assert list(REGULARISERS) == [*names, "strongest"]
        chosen = pj.make_term("strongest", share=0.5, power=2)
        assert float(chosen([jnp.array([[1.0], [-4.0]])])) == 8.0
        with pytest.raises(ValueError, match="^strongest.share: missing$"):
            pj.make_term("strongest")
        with pytest.raises(ValueError, match="^of: 'point' is not one of nothing, deaths"):
            REGULARISERS.register("other", of="point")(lambda points: 0.0)
        with pytest.raises(ValueError, match="^regulariser: 'other' cannot have a 'replace'$"):
            REGULARISERS.register("other")(lambda deaths, *, replace=1.0: 0.0)
        with pytest.raises(ValueError, match=r"^regulariser: 't1' is taken by .*\.t1$"):
            REGULARISERS.register("t1")(_strongest)
    assert list(REGULARISERS) == names


def test_sampling_keeps_the_most_active_of_each_layer_and_all_of_the_last():
    rng = np.random.default_rng(2)
    layers = [rng.normal(size=shape).astype(np.float32) for shape in [(5, 4, 3), (5, 7), (5, 2)]]
    points = np.asarray(pj.sample_neurons([jnp.asarray(layer) for layer in layers], 0.3))
    rows = []
    for layer, kept in zip(layers, (3, 2, 2), strict=True):
        flat = layer.reshape(5, -1)
        order = np.argsort(-np.abs(flat).mean(axis=0), kind="stable")[:kept]
        rows.append(flat[:, range(2) if layer is layers[-1] else order].T)
    np.testing.assert_array_equal(points, np.concatenate(rows))


@pytest.mark.parametrize(
    "fraction, neurons, kept", [(0.29, 100, 29), (0.005, 200, 1), (0.0, 9, 0), (1.0, 9, 9)]
)
def test_the_kept_share_is_rounded_down_as_on_paper(fraction, neurons, kept):
    layers = [jnp.ones((2, neurons)), jnp.ones((2, 1))]
    assert pj.sample_neurons(layers, fraction).shape == (kept + 1, 2)


@pytest.mark.parametrize("neurons", ["positions", "channels"])
def test_a_layer_that_is_kept_whole_keeps_its_order(neurons):
    layers = [jnp.asarray(_cloud(4, 6, seed)) for seed in range(3)]
    points = pj.sample_neurons(layers, 1.0, neurons=neurons)
    np.testing.assert_array_equal(points, np.concatenate([layer.T for layer in layers]))


def test_sampling_takes_a_mapping_in_its_order():
    rng = np.random.default_rng(3)
    layers = {name: jnp.asarray(rng.normal(size=(4, 6))) for name in ("hidden", "first", "end")}
    named = pj.sample_neurons(layers, 0.5)
    assert named.shape == (12, 4)
    np.testing.assert_array_equal(named, pj.sample_neurons(list(layers.values()), 0.5))


def test_channels_are_their_means_over_the_positions():
    rng = np.random.default_rng(4)
    shapes = [(5, 4, 3, 6), (5, 7), (5, 2, 4)]
    layers = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    points = pj.sample_neurons([jnp.asarray(a) for a in layers], 0.5, neurons="channels")
    rows = []
    for layer, axes in zip(layers[:2], [(1, 2), ()], strict=True):
        means = layer.mean(axis=axes)
        rows.append(means[:, np.argsort(-np.abs(means).mean(axis=0))[:3]].T)
    np.testing.assert_allclose(points, np.concatenate([*rows, layers[2].mean(axis=1).T]), rtol=1e-5)


@pytest.mark.needs_devices(4)
@pytest.mark.parametrize("neurons", ["positions", "channels"])
def test_devices_that_share_a_batch_sample_the_same_points(neurons):
    rng = np.random.default_rng(5)
    layers = [jnp.asarray(rng.normal(size=shape)) for shape in [(8, 2, 5), (8, 3)]]
    expected = pj.sample_neurons(layers, 0.4, neurons=neurons)

    def sampled(shares):
        return pj.sample_neurons(shares, 0.4, neurons=neurons, axis_name="devices")

    shares = [layer.reshape(4, 2, *layer.shape[1:]) for layer in layers]
    for points in jax.pmap(sampled, axis_name="devices")(shares):
        np.testing.assert_allclose(points, expected, rtol=1e-6)


def test_sampling_is_not_differentiated_but_activations_are():
    layer = jnp.array([[1.0, 5.0], [2.0, -6.0]])
    slope = jax.grad(lambda a: jnp.sum(pj.sample_neurons([a, a[:, :1]], 0.5)))(layer)
    assert slope.tolist() == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.usefixtures("unchecked_types")
def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="activations: at least one layer"):
        pj.sample_neurons([], 0.5)
    with pytest.raises(ValueError, match=r"fraction: 1.5 is not in \[0, 1\]"):
        pj.sample_neurons([jnp.ones((2, 2))], 1.5)
    with pytest.raises(ValueError, match="^neurons: 'rows' is not one of positions, channels"):
        pj.sample_neurons([jnp.ones((2, 2))], 0.5, neurons="rows")
