"""Which neuron is which, and what is refused as activations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import persist_jax as pj


def _layers(seed=0, shapes=((8, 3, 2), (8, 5), (8, 3))):
    rng = np.random.default_rng(seed)
    return {f"h{i}": jnp.asarray(rng.normal(size=s), jnp.float32) for i, s in enumerate(shapes)}


def _rows(layers, labels, neurons="positions"):
    """The points read off the activations by their labels, in NumPy."""
    flat = []
    for layer in layers.values():
        layer = np.asarray(layer)
        if neurons == "channels" and layer.ndim > 2:
            layer = layer.mean(axis=tuple(range(1, layer.ndim - 1)))
        flat.append(layer.reshape(len(layer), -1))
    pairs = zip(np.asarray(labels.layer), np.asarray(labels.index), strict=True)
    return np.stack([flat[layer][:, index] for layer, index in pairs])


@pytest.mark.parametrize("neurons", ["positions", "channels"])
@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_labels_say_which_neuron_every_row_is(fraction, neurons):
    layers = _layers()
    points, labels = jax.jit(
        lambda layers: pj.sample_neurons(layers, fraction, neurons=neurons, return_labels=True)
    )(layers)
    np.testing.assert_allclose(points, _rows(layers, labels, neurons), rtol=1e-6)
    np.testing.assert_array_equal(points, pj.sample_neurons(layers, fraction, neurons=neurons))
    assert labels.layer.dtype == labels.index.dtype == jnp.int32
    assert len(set(labels.neurons(layers))) == len(points)


def test_names_and_places_of_neurons():
    layers = _layers()
    _, labels = pj.sample_neurons(layers, 1.0, return_labels=True)
    named = labels.neurons(layers)
    assert named[4] == ("h0", 4) and named[-1] == ("h2", 2)
    with jax.enable_x64(True):
        _, labels = pj.sample_neurons(layers, 1.0, return_labels=True)
    for found in labels:
        assert isinstance(found, jax.Array) and found.dtype == jnp.int32
    assert labels.neurons(list(layers.values()))[-1] == (2, 2)
    place = np.unravel_index(named[4].index, layers["h0"].shape[1:])
    np.testing.assert_array_equal(pj.sample_neurons(layers, 1.0)[4], layers["h0"][:, *place])


def test_labels_of_every_lane_are_its_own():
    lanes = jax.tree.map(lambda *both: jnp.stack(both), _layers(0), _layers(1))
    sample = jax.vmap(lambda layers: pj.sample_neurons(layers, 0.4, return_labels=True))
    points, labels = sample(lanes)
    for seed in range(2):
        own = pj.Labels(labels.layer[seed], labels.index[seed])
        np.testing.assert_array_equal(points[seed], _rows(_layers(seed), own))
    assert np.any(labels.index[0] != labels.index[1])


def test_devices_that_share_a_batch_have_the_same_labels():
    layers = _layers()
    _, expected = pj.sample_neurons(layers, 0.4, return_labels=True)
    shares = {name: a.reshape(4, 2, *a.shape[1:]) for name, a in layers.items()}
    _, labels = jax.pmap(
        lambda a: pj.sample_neurons(a, 0.4, axis_name="d", return_labels=True), axis_name="d"
    )(shares)
    for mine, theirs in zip(labels, expected, strict=True):
        np.testing.assert_array_equal(mine, np.broadcast_to(theirs, mine.shape))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.relu(nn.Dense(3)(x))
        self.sow("activations", "h", h)
        return h


class Sowing(nn.Module):
    """Twelve blocks, so that Block_10 sorts before Block_2 as text."""

    @nn.compact
    def __call__(self, x):
        for _ in range(12):
            x = Block()(x)
        self.sow("activations", "z", x)
        return x


def test_what_linen_sowed_is_in_its_natural_order_under_jit_too():
    x = jnp.ones((4, 3))
    variables = Sowing().init(jax.random.key(0), x)
    params = {"params": variables["params"]}

    def sown(x):
        return Sowing().apply(params, x, mutable=["activations"])[1]

    names = [*(f"Block_{i}/h" for i in range(12)), "z"]
    for state in (sown(x), jax.jit(sown)(x), sown(x)["activations"]):
        assert list(pj.activations_of(state)) == names
    points, labels = pj.sample_neurons(sown(x), 1.0, return_labels=True)
    assert points.shape == (39, 4)
    assert labels.neurons(sown(x))[6] == ("Block_2/h", 0)
    with pytest.raises(ValueError, match="^activations: 'Block_0/h' was sown 2 times"):
        pj.activations_of(Sowing().apply(variables, x, mutable=["activations"])[1])
    captured = Sowing().apply(params, x, capture_intermediates=True)[1]
    with pytest.raises(ValueError, match="'Block_0/.*__call__' is from capture_intermediates"):
        pj.activations_of(captured)


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(3, 4, rngs=rngs)
        self.last = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        h = nnx.relu(self.hidden(x))
        self.sow(nnx.Intermediate, "h", h)
        return self.last(h)


def test_what_nnx_sowed_is_taken_and_its_weights_are_not():
    module = NnxNet(nnx.Rngs(0))
    _, state = nnx.capture(module, nnx.Intermediate)(jnp.ones((4, 3)))
    assert {name: a.shape for name, a in pj.activations_of(state).items()} == {"h": (4, 4)}
    assert pj.sample_neurons(state, 1.0).shape == (4, 4)
    with pytest.raises(ValueError, match="^activations: an nnx.State of Param, not of activations"):
        pj.sample_neurons(nnx.state(module, nnx.Param), 1.0)


ARRAY = jnp.ones((4, 3))


@pytest.mark.parametrize(
    "activations, words",
    [
        (ARRAY, r"an array of shape \(4, 3\), not a list or a mapping of them; one layer is \["),
        ([[ARRAY], [ARRAY]], r"layer 0 is a list of 1, not an array \(b, ...\)"),
        ({"a": [ARRAY]}, "layer 'a' is a list of 1, not"),
        ([], "at least one layer is needed, got none"),
        ({}, "at least one layer is needed, got none"),
        ([ARRAY, ARRAY.T], "layer 0 has 4 examples, layer 1 has 3; the batch is the first axis"),
        ({"a": ARRAY, "b": ARRAY[0]}, r"layer 'b' has shape \(3,\), not \(b, ...\): a batch"),
        ([ARRAY[:0]], r"layer 0 has shape \(0, 3\), not"),
        ([ARRAY.astype(int)], "layer 0 holds int32, not floating-point"),
        ([np.ones((2, 2), bool)], "layer 0 holds bool, not floating-point"),
        ({"activations": {}}, "the collection is empty; was anything sown"),
        ({"batch_stats": {"n": ARRAY}, "activations": {}}, "'batch_stats' is a collection of var"),
        ({"activations": {"b": {"h": (ARRAY[0],)}}}, r"layer 'b/h' has shape \(3,\), not"),
        ("hidden", "a str, not a list"),
        (None, "a NoneType, not a list"),
    ],
)
def test_what_is_no_list_of_layers_is_one_line(activations, words):
    with pytest.raises(ValueError, match=f"^activations: {words}[^\n]*$"):
        pj.sample_neurons(activations, 1.0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_activity_and_means_of_half_precision_are_those_in_float32(dtype):
    images = jnp.asarray(5 + np.random.default_rng(0).normal(size=(64, 8, 8, 6)), dtype)
    as_float32 = images.astype(jnp.float32)
    half, whole = (pj.sample_neurons([x], 1.0, neurons="channels") for x in (images, as_float32))
    np.testing.assert_array_equal(half, whole)
    dense = as_float32.reshape(64, -1) - 5
    found, wanted = (
        pj.sample_neurons([x], 0.25, whole=None, return_labels=True)[1].index
        for x in (dense.astype(dtype), dense.astype(dtype).astype(jnp.float32))
    )
    np.testing.assert_array_equal(found, wanted)
