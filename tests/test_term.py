"""From activations to a term: choices checked when it is made, values against what they mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import persist_jax as pj
from persist_jax.terms import REGULARISERS

RNG = np.random.default_rng(1)
SHAPES = {"h2": (16, 2, 4), "h10": (16, 6), "logits": (16, 3)}


def _activations(seed=0):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=s), jnp.float32) for name, s in SHAPES.items()}


def _value(term, activations):
    return np.asarray(jax.jit(lambda: term(activations))())


def test_the_default_is_the_mean_death_of_everything():
    layers = _activations()
    value, slope = jax.jit(jax.value_and_grad(pj.make_term()))(layers)

    def expected(layers):
        ordered = [layers[name] for name in SHAPES]
        return pj.t1(pj.correlation_deaths(pj.sample_neurons(ordered, 1.0)), reduce="mean")

    other, slopes = jax.jit(jax.value_and_grad(expected))(layers)
    np.testing.assert_allclose(value, other, rtol=1e-6)
    for name in SHAPES:
        np.testing.assert_allclose(slope[name], slopes[name], atol=1e-6)


@pytest.mark.parametrize("name", REGULARISERS)
def test_every_registered_term(name):
    layers, params = _activations(), {"kernel": jnp.array([1.0, -2.0])}
    term = pj.make_term(name, fraction=0.5, whole=-1, neurons="channels")
    value = jax.jit(term)(layers, params)
    if name in ("none", "dropout"):
        assert value == 0
        return
    points = pj.sample_neurons(layers, 0.5, neurons="channels")
    subjects = {"params": params, "points": points, "deaths": pj.correlation_deaths(points)}
    how = {"reduce": "mean"} if name == "t1" else {}
    expected = jax.jit(lambda of: REGULARISERS[name].function(of, **how))(subjects[term.of])
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_own_parameters_and_distances():
    layers = list(_activations().values())
    points = pj.sample_neurons(layers, 1.0)
    for distance, matrix in [
        ("pearson", pj.pearson_distance),
        ("euclidean", pj.euclidean_distance),
    ]:
        deaths = pj.zeroth_deaths(matrix(points))
        term = pj.make_term("t2", alpha=0.3, distance=distance)
        np.testing.assert_allclose(_value(term, layers), pj.t2(deaths, 0.3), rtol=1e-5)
    mean = pj.make_term("t1", reduce="mean", distance="euclidean")
    np.testing.assert_allclose(_value(mean, layers), -deaths.mean(), rtol=1e-6)


def test_layers_by_name_and_by_position():
    layers = _activations()
    both = pj.sample_neurons([layers["logits"], layers["h2"]], 1.0)
    last, unnamed = layers["logits"].T, list(layers.values())
    for given, chosen, points in [
        *((layers, chosen, both) for chosen in (["logits", "h2"], [2, 0], [-1, "h2"], (-1, -3))),
        *((unnamed, chosen, both) for chosen in ([2, 0], [-1, 0])),
        *((layers, chosen, last) for chosen in ("logits", -1, 2, ["logits"])),
    ]:
        np.testing.assert_array_equal(pj.make_term(layers=chosen).points(given), points)
    for given, points in ((layers, both), (unnamed, both)):
        value = _value(pj.make_term(layers=[2, 0]), given)
        np.testing.assert_allclose(value, -pj.correlation_deaths(points).mean(), rtol=1e-6)


def test_what_is_not_chosen_may_be_anything():
    layers = _activations()
    value = _value(pj.make_term(layers=["h2", "logits"]), {**layers, "loss": jnp.float32(1)})
    points = pj.sample_neurons([layers["h2"], layers["logits"]], 1.0)
    np.testing.assert_allclose(value, -pj.correlation_deaths(points).mean(), rtol=1e-6)
    with pytest.raises(ValueError, match=r"^activations: layer 'loss' has shape \(\), not"):
        pj.make_term()({**layers, "loss": jnp.float32(1)})


@pytest.mark.parametrize("whole, kept", [(-1, (4, 3, 3)), (None, (4, 3, 1)), ("h2", (8, 3, 1))])
def test_which_layer_is_kept_whole_is_said(whole, kept):
    layers = _activations()
    term = pj.make_term(fraction=0.5, whole=whole)
    assert term.points(layers).shape == (sum(kept), 16)
    points, labels = pj.sample_neurons(layers, 0.5, whole=whole, return_labels=True)
    assert tuple(np.bincount(labels.layer)) == kept
    np.testing.assert_array_equal(points, term.points(layers))
    np.testing.assert_allclose(_value(term, layers), -term.deaths(layers).mean(), rtol=1e-6)


def test_one_example_is_no_batch():
    layers = _activations()
    for name in ("t1", "t2", "min_corr"):
        each = jax.vmap(lambda x, name=name: pj.make_term(name)({k: a[None] for k, a in x.items()}))
        with pytest.raises(ValueError, match=f"^activations: {name} of one example, on which "):
            each(layers)


def test_a_parameter_that_is_traced_is_refused_by_its_name():
    with pytest.raises(ValueError, match=r"^t2.alpha: a traced value, .* pj.t2\(deaths, alpha\)"):
        jax.jit(lambda alpha: pj.make_term("t2", alpha=alpha)(_activations()))(0.5)


def test_weighted_layers_are_clouds_of_their_own():
    layers, fraction = _activations(), 0.5

    def own(name):
        # Of every layer but the network's last a share is kept.
        kept = pj.sample_neurons([layers[name], jnp.zeros((16, 0))], fraction)
        deaths = pj.correlation_deaths(kept if name != "logits" else layers[name].T)
        return pj.t1(deaths, reduce="mean")

    expected = 2.0 * own("logits") + 0.5 * own("h10")
    for options in (
        {"layer_weights": {"logits": 2, "h10": 0.5}},
        {"layer_weights": [0.0, 0.5, 2.0]},
        {"layers": ["logits", "h10"], "layer_weights": [2.0, 0.5]},
    ):
        value = _value(pj.make_term(fraction=fraction, whole=-1, **options), layers)
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_devices_that_share_a_batch_have_the_term_and_the_gradient_of_the_whole():
    layers = _activations()
    options = {"fraction": 0.5, "whole": -1, "layer_weights": {"h10": 1.0, "logits": 3.0}}
    whole, shared = pj.make_term(**options), pj.make_term(**options, axis_name="devices")

    def loss(term):
        # The power changes correlations, so the gradient is one of a weight that all share.
        return lambda power, x: term({name: jnp.exp(power * a) for name, a in x.items()})

    expected = jax.jit(jax.value_and_grad(loss(whole)))(jnp.float32(1), layers)
    shares = {name: a.reshape(4, 4, *a.shape[1:]) for name, a in layers.items()}
    ours = jax.pmap(
        lambda power, x: jax.lax.pmean(jax.value_and_grad(loss(shared))(power, x), "devices"),
        axis_name="devices",
    )(jnp.ones(4), shares)
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, np.full(4, theirs), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.needs_devices(4)
@pytest.mark.parametrize(
    "neurons, fraction",
    [
        ("positions", 0.5),
        ("channels", 1.0),
        pytest.param("positions", 1.0, marks=pytest.mark.slow),
        pytest.param("channels", 0.5, marks=pytest.mark.slow),
    ],
)
def test_layers_that_a_mesh_shares_in_different_ways(neurons, fraction):
    """As tensor parallelism does: the examples over one axis, of some layers the channels too."""
    layers = {**_activations(), "image": jnp.asarray(RNG.normal(size=(16, 2, 2, 4)), jnp.float32)}
    term = pj.make_term(fraction=fraction, whole="logits", neurons=neurons)
    value, slope = jax.jit(jax.value_and_grad(term))(layers)
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    specs = {
        "h2": P("data", None, "model"), "h10": P("data", "model"), "logits": P("data"),
        "image": P(None, "data", None, "model"),
    }  # fmt: skip
    with jax.set_mesh(mesh):
        shared = {
            name: jax.device_put(layer, NamedSharding(mesh, specs[name]))
            for name, layer in layers.items()
        }
        np.testing.assert_allclose(term(shared), value, rtol=1e-6)
        found, slopes = jax.jit(jax.value_and_grad(term))(shared)
    np.testing.assert_allclose(found, value, rtol=1e-6)
    for name, expected in slope.items():
        assert tuple(slopes[name].sharding.spec)[: len(specs[name])] == tuple(specs[name])
        np.testing.assert_allclose(slopes[name], expected, atol=1e-6)


@pytest.mark.parametrize(
    "distance",
    [
        "correlation",
        pytest.param("cosine", marks=pytest.mark.slow),
        pytest.param("pearson", marks=pytest.mark.slow),
        "euclidean",
    ],
)
def test_a_term_over_samples_is_that_of_the_transposed_cloud(distance):
    layers = _activations()
    term = pj.make_term("t1", over="samples", distance=distance, layers="h10")
    signed = distance in ("correlation", "cosine")
    expected = pj.cloud_deaths(layers["h10"], distance=distance, signed=signed)
    np.testing.assert_allclose(term(layers), -expected.mean(), rtol=1e-6)
    np.testing.assert_allclose(term.deaths(layers), expected, rtol=1e-6)
    assert expected.shape == (15,)
    together = pj.make_term("t1", over="samples", distance="euclidean")
    columns = jnp.concatenate([layer.reshape(16, -1) for layer in layers.values()], 1)
    deaths = pj.cloud_deaths(columns, distance="euclidean")
    np.testing.assert_allclose(together.deaths(layers), deaths, rtol=1e-6)


@pytest.mark.needs_devices(4)
def test_devices_that_share_a_batch_have_the_term_over_all_its_samples():
    layers = _activations()
    term = pj.make_term("t1", over="samples", distance="euclidean", axis_name="devices")
    shares = {name: layer.reshape(4, 4, *layer.shape[1:]) for name, layer in layers.items()}
    expected = pj.make_term("t1", over="samples", distance="euclidean")(layers)
    np.testing.assert_allclose(jax.pmap(term, "devices")(shares), [expected] * 4, rtol=1e-6)


def test_every_token_is_an_example():
    hidden = jnp.asarray(RNG.normal(size=(4, 6, 5)), jnp.float32)
    term = pj.make_term("t1", neurons="tokens")
    expected = pj.make_term("t1")([hidden.reshape(24, 5)])
    np.testing.assert_allclose(term({"h": hidden}), expected, rtol=1e-6)
    assert pj.sample_neurons([hidden], 1.0, neurons="tokens").shape == (5, 24)
    with pytest.raises(ValueError, match=r"^activations: layer 'h' has 24 tokens, layer 'out' has"):
        term({"h": hidden, "out": hidden[:, 0]})


@pytest.mark.parametrize("name", ["t1", "min_corr"])
@pytest.mark.parametrize("fraction", [1.0, pytest.param(0.6, marks=pytest.mark.slow)])
def test_padded_tokens_change_nothing(name, fraction):
    """Value and gradient are those of the real tokens alone, whatever padding holds."""
    hidden = RNG.normal(size=(4, 6, 5)).astype(np.float32)
    mask = np.arange(6) < np.array([6, 3, 1, 4])[:, None]
    term = pj.make_term(name, neurons="tokens", fraction=fraction, whole=None)
    flat = pj.make_term(name, fraction=fraction, whole=None)
    expected, slopes = jax.jit(jax.value_and_grad(lambda real: flat([real])))(hidden[mask])
    with_padding = jax.jit(jax.value_and_grad(lambda x: term([x], mask=mask)))
    for padding in (0.0, 100.0, np.nan):
        padded = jnp.asarray(np.where(mask[..., None], hidden, padding), jnp.float32)
        value, gradient = with_padding(padded)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(gradient[mask], slopes, atol=1e-6)
        assert (np.asarray(gradient)[~mask] == 0).all()


def test_a_constant_neuron_is_constant_under_any_mask():
    """Plain sums round: the mean of ten times 0.1 is not 0.1 in float32."""
    hidden = np.concatenate([RNG.normal(size=(60, 3)), np.full((60, 3), [0.1, 0.7, 1 / 3])], 1)
    hidden = jnp.asarray(hidden, jnp.float32)

    @jax.jit
    def masked(x, mask):
        term = pj.make_term("t1")
        value = term.deaths([x], mask=mask), pj.measures([x], mask=mask)["constant"]
        return *value, jax.grad(lambda x: term([x], mask=mask))(x)

    for count in (7, 10, 11, 49):  # wrong for all but the first, were it the plain mean
        deaths, constant, gradient = masked(hidden, np.arange(60) < count)
        expected = pj.correlation_deaths(hidden[:count].T)
        np.testing.assert_allclose(deaths, expected, atol=1e-5)
        assert constant == 0.5 and (gradient[:, 3:] == 0).all()


@pytest.mark.parametrize(
    "name", ["t1_living", pytest.param("t2_living", marks=pytest.mark.slow)]
)
def test_living_neurons_are_active_on_examples_that_count(name):
    """Each of the first four is active on 5 % of the examples, and on none that does not count."""
    hidden = np.concatenate([np.eye(20, 4), RNG.normal(size=(20, 3))], 1).astype(np.float32)
    padded = np.concatenate([hidden, np.full((80, 7), 9.0, np.float32)])
    term = pj.make_term(name)
    value = term([padded], mask=np.arange(100) < 20)
    np.testing.assert_allclose(value, term([hidden]), rtol=1e-5)
    assert abs(value - pj.make_term(name, active=0.01)([hidden])) > 1e-3


@pytest.mark.needs_devices(4)
def test_devices_that_share_a_batch_share_its_mask():
    hidden = RNG.normal(size=(8, 3, 5)).astype(np.float32)
    mask = RNG.random((8, 3)) < 0.6
    expected = pj.make_term(neurons="tokens")([hidden], mask=mask)
    term = pj.make_term(neurons="tokens", axis_name="devices")
    values = jax.pmap(lambda x, mask: term([x], mask=mask), "devices")(
        hidden.reshape(4, 2, 3, 5), mask.reshape(4, 2, 3)
    )
    np.testing.assert_allclose(values, [expected] * 4, rtol=1e-5)


@pytest.mark.usefixtures("unchecked_types")
def test_a_mask_that_does_not_fit_is_one_line():
    hidden = jnp.ones((4, 6, 5))
    for options, mask, words in [
        ({"neurons": "tokens"}, jnp.ones(4, bool), r"mask must be boolean of shape \(4, 6\), one"),
        ({}, jnp.ones((4, 6), bool), r"mask must be boolean of shape \(4,\), one entry for every"),
        ({}, jnp.ones(4), r"mask must be boolean of shape \(4,\).* got float32 of shape \(4,\)"),
        ({"over": "samples"}, jnp.ones(4, bool), "mask: given, but with over='samples'"),
    ]:
        with pytest.raises(ValueError, match=words):
            pj.make_term(**options)([hidden], mask=mask)


def test_millions_of_neurons_by_accident_are_said():
    hidden = jax.ShapeDtypeStruct((4, 1024, 1024), jnp.float32)
    with pytest.warns(UserWarning, match="^activations: 1048576 neurons, .* make 1024 of it$"):
        jax.eval_shape(lambda x: pj.make_term().points({"h": x}), hidden)
    jax.eval_shape(lambda x: pj.make_term(neurons="tokens").points({"h": x}), hidden)


def test_a_term_is_a_value():
    options = {"name": "t2", "alpha": 0.3, "layer_weights": {"h": 1.0}}
    assert pj.make_term(**options) == pj.make_term(**options)
    assert hash(pj.make_term()) != hash(pj.make_term(reduce="sum"))
    assert pj.make_term(reduce="mean") == pj.make_term()


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("t3", {}, "regulariser: 't3' is not one of none, t1, t2"),
        ("t2", {"alpha": 2.0}, "t2.alpha: 2.0 must be at most 1"),
        ("t1", {"alpha": 0.5}, "t1.alpha: unknown field; known are reduce"),
        ("t1", {"reduce": "max"}, "t1.reduce: 'max' is not one of sum, mean"),
        ("t1", {"fraction": 1.5}, "fraction: 1.5 is not in [0, 1]"),
        ("t1", {"neurons": "rows"}, "neurons: 'rows' is not one of positions, channels"),
        ("t1", {"distance": "angle"}, "distance: 'angle' is not one of correlation, cosine, pear"),
        ("t1", {"over": "batch"}, "over: 'batch' is not one of neurons, samples"),
        ("t1", {"signed": True, "distance": "euclidean"}, "signed: True, but the euclidean dis"),
        ("min_corr", {"signed": True}, "signed: True, but min_corr is no term of the deaths"),
        ("min_corr", {"distance": "pearson"}, "distance: 'pearson', but min_corr is no term of"),
        ("l1", {"distance": "pearson"}, "distance: 'pearson', but l1 is no term of the deaths"),
        ("t1", {"fraction": 0.5}, "whole: missing, but fraction 0.5 leaves neurons out; say"),
        ("t1", {"layers": 0.5}, "layers: 0.5 is neither a layer's name nor a position"),
        ("t1", {"layers": [["a"]]}, "layers: ['a'] is neither a layer's name nor a position"),
        ("t1", {"layers": []}, "layers: [] has no layer"),
        ("t1", {"layers": ()}, "layers: () has no layer"),
        ("t1", {"layers": ["a", "a"]}, "layers: ['a', 'a'] has a layer more than once"),
        ("t1", {"layers": ["a"], "layer_weights": {"a": 1}}, "layer_weights: names its layers"),
        ("t1", {"layers": ["a"], "layer_weights": [1, 2]}, "layer_weights: 2 weights for 1 lay"),
        ("t1", {"layer_weights": ["a"]}, "layer_weights: 'a' is not a finite number"),
        ("t1", {"layer_weights": {"a": np.nan}}, "layer_weights: nan is not a finite number"),
        ("t1", {"layer_weights": [jnp.ones(())]}, "layer_weights: Array(1., dtype=float32) is not"),
        ("t1", {"layer_weights": 0.5}, "layer_weights: 0.5 is not a list or a mapping"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_wrong_choices_are_one_line_before_any_step(name, options, words):
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        pj.make_term(name, **options)
    assert str(error.value).startswith(words)


def test_a_term_of_ones_own_gives_one_number():
    REGULARISERS.register("each_death")(lambda deaths: deaths)
    try:
        with pytest.raises(ValueError, match=r"^each_death: gives shape \(2,\), not one number$"):
            pj.make_term("each_death")([jnp.eye(4)[:, :3]])
    finally:
        del REGULARISERS["each_death"]


def test_a_term_of_parameters_needs_them():
    with pytest.raises(ValueError, match=r"^params: missing; l1 is a term .*\(activations, params"):
        pj.make_term("l1")(_activations())


@pytest.mark.parametrize(
    "options, words",
    [
        ({"layers": ["h3"]}, "layers: 'h3' is not one of h2, h10, logits"),
        ({"layers": [3]}, "layers: 3 is not one of h2, h10, logits"),
        ({"layers": -4}, "layers: -4 is not one of h2, h10, logits"),
        ({"layers": [0, "h2"]}, "layers: 'h2' is there more than once"),
        ({"fraction": 0.5, "whole": "h3"}, "whole: 'h3' is not one of h2, h10, logits"),
        ({"layer_weights": [1.0]}, "layer_weights: 1 weights, but the layers are h2, h10, logits"),
    ],
)
def test_layers_that_are_not_there_are_one_line(options, words):
    with pytest.raises(ValueError) as error:
        pj.make_term(**options)(_activations())
    assert str(error.value) == words


@pytest.mark.usefixtures("unchecked_types")
def test_numbers_of_numpy_are_numbers():
    layers = [jnp.asarray(RNG.normal(size=(9, m)), jnp.float32) for m in (3, 4)]
    ours = pj.make_term(layers=list(np.arange(2)), layer_weights=[np.float32(0.5), np.int64(2)])
    theirs = pj.make_term(layers=[0, 1], layer_weights=[0.5, 2])
    assert ours(layers) == theirs(layers)
    np.testing.assert_array_equal(
        pj.sample_neurons(layers, 0.5, whole=np.int64(-1)), pj.sample_neurons(layers, 0.5, whole=-1)
    )
