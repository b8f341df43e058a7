"""A batch shared by four devices gives what one device gives for the whole batch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from persist_jax.models import Model, Network
from persist_jax.models.layers import (
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPooling2D,
)

DEVICES = 4
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def network():
    layers = (
        Conv2D(4, (3, 3), padding="same", activation="relu"),
        BatchNormalization(momentum=0.5),
        MaxPooling2D(),
        Dropout(0.3),
        Flatten(),
        Dense(8, "tanh"),
        BatchNormalization(momentum=0.5),
        Dropout(0.5),
        Dense(3),
    )
    return Network(layers, (6, 6, 2))


@pytest.fixture(scope="module")
def x():
    draw = np.random.default_rng(0)
    # Shares of different means: statistics of a share are far from those of the batch.
    shift = np.arange(0.0, 3.0, 0.25)[:, None, None, None]
    return jnp.asarray(draw.normal(size=(12, 6, 6, 2)) + shift, jnp.float32)


def _train(network, variables, x, key=KEY):
    return network.apply_in_training(variables, x, key)


def _gradient(network, variables, x, total):
    """Gradient of a loss over the batch, and the outputs and updates beside it."""

    def loss(params):
        outputs, updates = _train(network, variables | {"params": params}, x)
        return jnp.square(outputs[0]).sum() / total, (outputs, updates)

    return jax.grad(loss, has_aux=True)(variables["params"])


@pytest.mark.slow
def test_shared_batch_equals_whole_batch(network, x):
    variables = jax.jit(network.init)(jax.random.key(0), x)
    whole_batch = jax.jit(partial(_gradient, network, total=len(x)))
    gradient, ((logits, activations), updates) = whole_batch(variables, x)
    shared = network.sharing("batch")

    def share(x):
        local, outputs = _gradient(shared, variables, x, DEVICES * len(x))
        return jax.lax.psum(local, "batch"), outputs

    shares = x.reshape(DEVICES, -1, *x.shape[1:])
    result = jax.pmap(share, axis_name="batch")(shares)
    shared_gradient, ((shared_logits, shared_activations), shared_updates) = result
    close = {"rtol": 1e-4, "atol": 1e-4}
    whole = shared_logits.reshape(logits.shape)
    np.testing.assert_allclose(whole, logits, **close)
    for mine, theirs in zip(shared_activations, activations, strict=True):
        np.testing.assert_allclose(mine.reshape(theirs.shape), theirs, **close)
    for mine, theirs in ((shared_updates, updates), (shared_gradient, gradient)):
        for device in range(DEVICES):
            one = jax.tree.map(lambda leaf, device=device: leaf[device], mine)
            jax.tree.map(partial(np.testing.assert_allclose, **close), one, theirs)


def test_dropout_mask_is_the_same_to_the_bit(x):
    network = Network((Flatten(), Dropout(0.4), Dropout(0.4)), (6, 6, 2))
    ones = jnp.ones_like(x)
    (whole, _), _ = _train(network, {}, ones)
    shared = network.sharing("batch")
    shares = ones.reshape(DEVICES, -1, *x.shape[1:])
    parts = jax.pmap(lambda x: _train(shared, {}, x)[0][0], axis_name="batch")(shares)
    np.testing.assert_array_equal(parts.reshape(whole.shape), whole)


def test_dropout_keeps_the_mean_and_differs_by_layer_example_and_key():
    network = Network((Dropout(0.25),), (5000,))
    ones = jnp.ones((4, 5000))
    (kept, _), _ = _train(network, {}, ones)
    assert set(np.unique(kept)) == {np.float32(0.0), np.float32(1.0) / np.float32(0.75)}
    np.testing.assert_allclose(kept.mean(axis=1), 1.0, atol=0.05)
    (other, _), _ = _train(network, {}, ones, jax.random.key(4))
    (twice, _), _ = _train(Network((Dropout(0.25), Dropout(0.25)), (5000,)), {}, ones)
    masks = [*np.asarray(kept > 0), np.asarray(other[0] > 0)]
    agreement = [np.mean(a == b) for i, a in enumerate(masks) for b in masks[:i]]
    np.testing.assert_allclose(agreement, 0.25**2 + 0.75**2, atol=0.05)
    np.testing.assert_allclose(np.mean(twice > 0), 0.75**2, atol=0.02)


def test_lanes_of_parameters_equal_one_lane_alone(x):
    layers = Flatten(), Dense(8), BatchNormalization(), Dropout(0.5), Dense(3)
    network = Network(layers, (6, 6, 2))
    init = jax.jit(jax.vmap(lambda key: network.init(key, x)))
    lanes = init(jax.random.split(jax.random.key(1), 3))

    train = partial(_train, network, x=x)
    together = jax.jit(jax.vmap(train))(lanes)
    one = jax.jit(train)
    for lane in range(3):
        mine, alone = jax.tree.map(lambda leaf, lane=lane: leaf[lane], (together, lanes))
        close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
        jax.tree.map(close, mine, one(alone))


def test_inference_needs_no_axis_and_no_key(network, x):
    variables = jax.jit(network.init)(jax.random.key(0), x)
    logits, _ = network.apply(variables, x)
    shared, _ = network.sharing("batch").apply(variables, x)
    np.testing.assert_array_equal(logits, shared)
    assert network.training_differs and not Network((Flatten(), Dense(3)), (6,)).training_differs


def test_sharing_is_undone(network):
    assert isinstance(network, Model)
    shared = network.sharing("batch")
    assert shared != network and shared.sharing(None) == network
