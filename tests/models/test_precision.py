"""A network's products at the chosen precision, forwards and backwards; the term in float32."""

import re
from collections import OrderedDict

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import persist_jax as pj
from persist_jax import models
from persist_jax.data import load_images
from persist_jax.kernels import gpu
from persist_jax.models import layers
from persist_jax.models.precision import at_precision
from persist_jax.training import Options, train
from persist_jax.training.optimisers import make_optimiser
from persist_jax.training.state import initial_state, initial_variables
from persist_jax.training.step import Batch, make_step

OPTIONS = Options(
    batch_size=32,
    epochs=2,
    optimiser={"name": "sgd", "learning_rate": 0.1, "momentum": 0.9},
    snapshot_every=0,
)
NETWORKS = {
    "mlp": models.mlp((8, 8, 1), hidden=(12, 9), dropout=0.25),
    "convolutions": models.Network(
        (
            layers.Conv2D(3, (3, 3), activation="relu"),
            layers.BatchNormalization(),
            layers.Conv2D(4, (3, 3), strides=(2, 2), activation="relu"),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(10),
        ),
        (8, 8, 1),
    ),
    "resnet": models.resnet((8, 8, 1), blocks=1, width=3),
}
# The second one has every layer of the others, one or two of each.
EVERY = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "convolutions")) for name in NETWORKS],
)
# A batch of no size that a layer or the matrix of correlations has.
BATCH = 29


def _batch(iteration=0):
    train = load_images("digits").train
    x, y = jnp.asarray(train.x[:BATCH]), jnp.asarray(train.y[:BATCH])
    return Batch(x, y, jnp.int32(iteration))


def _step(network, precision, name="t1"):
    """The first state, as a function, and the step."""
    network = at_precision(network, precision)
    optimiser = make_optimiser(OPTIONS.optimiser)

    def start():
        variables = initial_variables(network, (8, 8, 1), 0)
        return initial_state(variables, optimiser, OPTIONS, 0, with_term=True)

    return jax.jit(start), make_step(network, optimiser, OPTIONS.term(name), OPTIONS)


def _products(name, precision):
    """Every product and convolution of a step's program for a GPU, in text."""
    start, step = _step(NETWORKS[name], precision)
    traced = jax.jit(step).trace(jax.eval_shape(start), _batch(), 0.1)
    lines = traced.lower(lowering_platforms=("cuda",)).as_text().splitlines()
    return [line for line in lines if re.search(r"stablehlo\.(dot_general|convolution)", line)]


def _is_float32(line):
    return line.count("HIGHEST") == 2


def _is_of_the_term(line):
    """The n x n correlations of the term, the one product that contracts the batch of both."""
    return bool(re.search(rf"tensor<(\d+)x{BATCH}xf32>, tensor<{BATCH}x\1xf32>", line))


@pytest.mark.slow
@EVERY
def test_every_product_for_a_gpu_has_the_chosen_precision(name, monkeypatch):
    """Those of the backward pass too, whatever JAX's own setting is around the trace."""
    # Our own kernels are no product that a program's text shows.
    monkeypatch.setenv(gpu.SWITCH, "0")
    with jax.default_matmul_precision("default"):
        highest = _products(name, "highest")
    with jax.default_matmul_precision("highest"):
        half = _products(name, "bfloat16")
    assert len(highest) == len(half) > 6
    assert all(map(_is_float32, highest))
    assert sum(map(_is_of_the_term, half)) == 1
    for line in half:
        if _is_of_the_term(line):
            assert _is_float32(line)
        else:
            assert re.search(r"\(tensor<\S*bf16>, tensor<\S*bf16>\)", line), line
    assert sum(map(_is_float32, _products(name, "default"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("precision, digits", [("highest", 7), ("bfloat16", 2)])
@EVERY
def test_outputs_are_those_of_the_network_in_float32(name, precision, digits):
    network = NETWORKS[name]
    changed, x = at_precision(network, precision), _batch().x
    both = [jax.jit(lambda m=m: initial_variables(m, (8, 8, 1), 0))() for m in (network, changed)]
    jax.tree.map(np.testing.assert_array_equal, *both)
    variables = both[0]
    assert changed.training_differs is network.training_differs is True
    key = jax.random.key(3)
    for function in (
        lambda model: (model.apply(variables, x), {}),
        lambda model: model.apply_in_training(variables, x, key),
    ):
        run = jax.jit(function, static_argnums=0)
        found, expected = jax.device_get((run(changed), run(network)))
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert ours.dtype == theirs.dtype == jnp.float32
            assert np.linalg.norm(ours - theirs) <= 2 * 10**-digits * np.linalg.norm(theirs)


def test_moving_averages_are_as_precise_as_without():
    """Of images whose mean is far above their spread bfloat16 would see no spread."""
    network = models.linen(_Normalised())
    x = 100 + jax.random.normal(jax.random.key(0), (BATCH, 4)).astype(jnp.bfloat16)
    key, half = jax.random.key(0), at_precision(network, "bfloat16")
    variables = jax.jit(network.init)(key, x)
    _, expected = jax.jit(network.apply_in_training)(variables, x.astype(jnp.float32), key)
    _, found = jax.jit(half.apply_in_training)(variables, x, key)
    found, expected = (renewed["batch_stats"]["normalised"] for renewed in (found, expected))
    for name in ("mean", "var"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)


class _Normalised(nn.Module):
    """A layer of this package among those of Flax, and activations by names out of order."""

    @nn.compact
    def __call__(self, x, train=False):
        spec = layers.BatchNormalization()
        first = spec(x, "normalised", layers.Mode(train, None))
        second = nn.BatchNorm(use_running_average=not train)(nn.Dense(3)(first))
        total = self.variable("seen", "total", jnp.zeros, (4,))
        if train:
            total.value = total.value.astype(x.dtype) + x.sum(0)
        return second, OrderedDict(z=first, a=second)


def test_activations_keep_their_order_and_every_collection_its_type():
    network = at_precision(models.linen(_Normalised()), "bfloat16")
    key, x = jax.random.key(0), jax.ShapeDtypeStruct((BATCH, 4), jnp.float32)
    variables = jax.eval_shape(network.init, key, x)
    assert list(jax.eval_shape(network.apply, variables, x)[1]) == ["z", "a"]
    _, renewed = jax.eval_shape(network.apply_in_training, variables, x, key)
    assert sorted(renewed) == ["batch_stats", "seen"]
    assert {leaf.dtype for leaf in jax.tree.leaves(renewed)} == {jnp.dtype("float32")}


@pytest.mark.slow
def test_the_term_is_the_float32_term_of_the_activations_in_bfloat16():
    network = at_precision(NETWORKS["mlp"], "bfloat16")
    start, step = _step(NETWORKS["mlp"], "bfloat16")
    state = start()
    _, activations = jax.jit(network.apply)(state.variables, _batch().x)
    for layer in activations:
        np.testing.assert_array_equal(layer, layer.astype(jnp.bfloat16).astype(jnp.float32))
    expected = pj.t1(pj.correlation_deaths(OPTIONS.term().points(activations)))
    _, metrics = jax.jit(step)(state, _batch(), jnp.float32(1.0))
    assert metrics.term.dtype == jnp.float32
    np.testing.assert_allclose(metrics.term, expected, rtol=1e-5)


@pytest.mark.slow
@EVERY
def test_some_steps_in_bfloat16_lower_the_loss(name):
    start, step = _step(NETWORKS[name], "bfloat16")
    state, step, losses = start(), jax.jit(step), []
    for iteration in range(20):
        before = state
        state, metrics = step(state, _batch(iteration), jnp.float32(1e-3))
        losses.append(float(metrics.loss))
    assert bool(state.active) and np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < losses[0] - 0.1
    # An update below the precision of bfloat16 would be lost in weights of that type.
    for old, new in zip(jax.tree.leaves(before.params), jax.tree.leaves(state.params), strict=True):
        assert new.dtype == jnp.float32 and np.isfinite(new).all() and (new != old).any()


@pytest.mark.slow
def test_a_training_takes_the_precision_from_its_options():
    dataset, network = load_images("digits"), models.mlp((8, 8, 1), hidden=(8,))
    networks = []

    class Seen(type(network)):
        def __call__(self, x, train=False):
            networks.append((x.dtype, jax.config.jax_default_matmul_precision))
            return super().__call__(x, train)

    seen = Seen(network.layers, network.input_shape)
    for precision, dtype in (("bfloat16", "bfloat16"), ("highest", "float32")):
        networks.clear()
        options = OPTIONS.replace(
            matmul_precision=precision, batch_size=500, epochs=1, snapshot_every=1, term_every=2
        )
        term = "t1" if precision == "bfloat16" else "none"  # the quicker program
        run, = train(seen, dataset, options, regulariser=term, weights=(0.1,), devices=1)
        assert run.outcome["status"] == "completed"
        # All but the passes that draw the weights and say which shapes there are.
        assert (jnp.dtype(dtype), precision) in networks
        others = set(networks) - {(jnp.dtype(dtype), precision)}
        assert others <= {(jnp.dtype("float32"), None)}, others


def test_the_default_is_the_network_itself():
    assert at_precision(NETWORKS["mlp"], "default") is NETWORKS["mlp"]
    assert OPTIONS.matmul_precision == "default"
    with pytest.raises(ValueError, match="^train.matmul_precision: 'half' is not one of default, "):
        Options.read(OPTIONS.plain() | {"matmul_precision": "half"})
