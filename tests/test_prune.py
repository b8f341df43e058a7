"""Chains without redundant neurons: what they compute, on planted copies and against numpy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import persist_jax as pj
from persist_jax.redundancy import pruning

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5))


def relu(x):
    return np.maximum(x, 0)


def forward(layers, x):
    """The activations of a dense chain, the last layer's output among them."""
    activations = []
    for kernel, bias in layers[:-1]:
        x = relu(x @ kernel + bias)
        activations.append(x)
    kernel, bias = layers[-1]
    return [*activations, x @ kernel + bias]


def chain_with_copies():
    """Of 8 neurons 5 is constant, 6 copies 1, and 7 is twice neuron 2."""
    first, bias = RNG.normal(size=(5, 8)), RNG.normal(size=8)
    first[:, 5], bias[5] = 0, 1.5
    first[:, 6], bias[6] = first[:, 1], bias[1]
    first[:, 7], bias[7] = 2 * first[:, 2], 2 * bias[2]
    return [
        (first, bias),
        (RNG.normal(size=(8, 6)), RNG.normal(size=6)),
        (RNG.normal(size=(6, 3)), RNG.normal(size=3)),
    ]


@pytest.mark.parametrize("repair", [False, True])
def test_without_copies_a_chain_computes_the_same(repair):
    layers = chain_with_copies()
    *hidden, expected = forward(layers, X)
    smaller = pj.prune(layers, hidden, threshold=0.999, repair=repair)
    assert 5 not in smaller.kept[0] and len(smaller.kept[0]) == 5 and len(smaller.kept[1]) == 6
    assert [kernel.shape for kernel, _ in smaller.layers] == [(5, 5), (5, 6), (6, 3)]
    np.testing.assert_allclose(forward(smaller.layers, X)[-1], expected, atol=1e-6)


def test_the_most_important_stay():
    layers = chain_with_copies()
    hidden = forward(layers, X)[:-1]
    smaller = pj.prune(layers, hidden, keep=0.5, repair=False)
    for k, count in enumerate((4, 3)):
        # The weights that go out of the layer, as they were given: of the first layer no neuron
        # is gone yet, and which neurons of the second go does not change its own outgoing ones.
        importance = hidden[k].std(0) * np.linalg.norm(layers[k + 1][0], axis=1)
        np.testing.assert_array_equal(smaller.kept[k], np.sort(np.argsort(-importance)[:count]))
    means = hidden[0].mean(0)
    gone = np.setdiff1d(np.arange(8), smaller.kept[0])
    expected = layers[1][1] + means[gone] @ layers[1][0][gone]
    np.testing.assert_allclose(smaller.layers[1][1], expected[smaller.kept[1]], rtol=1e-9)


def test_the_fit_is_the_best_for_what_the_next_layer_receives():
    layers = chain_with_copies()[:2]
    (hidden, received) = forward(layers, X)
    smaller = pj.prune(layers, [hidden], keep=0.5)
    design = np.concatenate([hidden[:, smaller.kept[0]], np.ones((60, 1))], 1)
    best = design @ np.linalg.lstsq(design, received, rcond=None)[0]
    np.testing.assert_allclose(forward(smaller.layers, X)[-1], best, atol=1e-9)


class Convolutional(nn.Module):
    widths: tuple[int, int] = (6, 4)

    @nn.compact
    def __call__(self, x):
        first = nn.relu(nn.Conv(self.widths[0], (3, 3), padding="VALID", name="one")(x))
        second = nn.relu(nn.Conv(self.widths[1], (2, 2), strides=2, name="two")(first))
        return nn.Dense(3, name="last")(second.reshape(len(x), -1)), [first, second]


@pytest.mark.slow
def test_channels_of_a_linen_network():
    x = jnp.asarray(RNG.normal(size=(7, 6, 6, 2)), jnp.float32)
    params = Convolutional().init(jax.random.key(0), x)["params"]
    for name, bias in (("one", -0.3), ("two", 0.1)):
        kernel = np.array(params[name]["kernel"])
        kernel[..., 3] = 1.5 * kernel[..., 0]
        params[name] = {"kernel": kernel, "bias": np.full(kernel.shape[-1], bias, np.float32)}
        params[name]["bias"][3] = 1.5 * bias
    chain = {name: params[name] for name in ("one", "two", "last")}
    expected, hidden = Convolutional().apply({"params": chain}, x)
    smaller = pj.prune(chain, hidden, threshold=0.9999)
    assert [len(kept) for kept in smaller.kept] == [5, 3]
    assert list(smaller.layers) == ["one", "two", "last"]
    assert smaller.layers["one"]["kernel"].dtype == np.float32
    found, _ = Convolutional((5, 3)).apply({"params": smaller.layers}, x)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_layers_of_constant_neurons_keep_one():
    layers = [(np.zeros((5, 4)), np.ones(4)), (RNG.normal(size=(4, 2)), np.zeros(2))]
    *hidden, expected = forward(layers, X)
    for how in ({"threshold": 0.9}, {"keep": 0.01}):
        smaller = pj.prune(layers, hidden, **how)
        assert len(smaller.kept[0]) == 1
        np.testing.assert_allclose(forward(smaller.layers, X)[-1], expected, atol=1e-9)


def test_a_fit_on_some_rows_sees_every_position(monkeypatch):
    """Every fourth row of maps of 4 x 4 would be their left border alone."""
    images = np.maximum(RNG.normal(size=(300, 4, 4, 6)) + np.arange(4.0).reshape(4, 1) * 2 - 3, 0)
    images[..., 3:] = np.sqrt(images[..., :3]) + 0.05 * RNG.normal(size=(300, 4, 4, 3))
    layers = [(np.zeros((3, 3, 2, 6)), np.zeros(6)), (RNG.normal(size=(96, 2)), np.zeros(2))]
    wanted = images.reshape(300, -1) @ layers[1][0]

    def error():
        (_, (kernel, bias)), (stays,) = pj.prune(layers, [images], keep=0.5)
        return np.std(images[..., stays].reshape(300, -1) @ kernel + bias - wanted)

    whole = error()
    monkeypatch.setattr(pruning, "_MOST_ROWS", 1200)
    assert whole < error() < 1.05 * whole


@pytest.mark.parametrize(("offset", "scale"), [(1e6, 1e-3), (0.0, 1e-50), (0.0, 1e50)])
def test_copies_are_found_whatever_the_mean_and_the_scale(offset, scale):
    hidden = RNG.normal(size=(500, 5))
    hidden = offset + scale * np.c_[hidden, hidden[:, :1], np.full(500, 1 / 3)]
    layers = [(np.eye(5, 7), np.zeros(7)), (np.eye(7, 3), np.zeros(3))]
    assert pj.prune(layers, [hidden], threshold=0.9).kept[0].tolist() == [0, 1, 2, 3, 4]


def test_whole_numbers_become_fractions():
    layers = [(np.ones((2, 3), int), np.zeros(3, int)), (np.ones((3, 1), int), np.zeros(1, int))]
    smaller = pj.prune(layers, [RNG.normal(size=(9, 3))], keep=0.7)
    assert all(part.dtype == np.float64 for layer in smaller.layers for part in layer)


@pytest.mark.usefixtures("unchecked_types")
def test_errors_name_what_does_not_fit():
    layers = chain_with_copies()
    hidden = forward(layers, X)[:-1]
    infinite = [hidden[0], np.where(hidden[1] > hidden[1].mean(), np.inf, hidden[1])]
    for chain, values, how, words in [
        (layers, infinite, {"keep": 0.5}, "activations: layer 1 has values that are not finite"),
        (layers, hidden, {}, "keep, threshold: give exactly one"),
        (layers, hidden, {"keep": 0.5, "threshold": 0.5}, "keep, threshold: give exactly one"),
        (layers, hidden, {"keep": 0.0}, "keep: 0.0 is not in (0, 1]"),
        (layers, [h[:0] for h in hidden], {"keep": 0.5}, "activations: layer 0 has shape (0, 8)"),
        (layers, hidden[:1], {"keep": 0.5}, "activations: 1 layers, expected 2: every layer but"),
        (layers, hidden[::-1], {"keep": 0.5}, "activations: layer 0 has shape (60, 6), but its"),
        (layers[:1] + layers[2:], hidden[:1], {"keep": 0.5}, "layers: number 1 takes 6 inputs"),
        ([(np.ones((2, 3)), np.ones(2))], [], {"keep": 0.5}, "layers: 0 has a kernel (2, 3) and"),
        (layers, {"h": hidden[0]}, {"keep": 0.5}, "activations: a mapping; give a list of arrays"),
        ({"a": {"scale": 1}}, [], {"keep": 0.5}, "layers: 'a' is not a kernel and a bias"),
    ]:
        with pytest.raises(ValueError) as error:
            pj.prune(chain, values, **how)
        assert str(error.value).startswith(words)
