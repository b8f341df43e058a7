"""Networks with given initial weights: a `Model` like the one inside, but for `init`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from persist_jax.models import Model, Network
from persist_jax.models.given import GivenWeights
from persist_jax.models.layers import BatchNormalization, Dense, Dropout
from persist_jax.training import Options
from persist_jax.training.step import check_dropout

NETWORK = Network((Dense(3), BatchNormalization(), Dropout(0.5)), (4,))
X = np.arange(8.0, dtype=np.float32).reshape(2, 4)


@pytest.fixture(scope="module")
def variables():
    return jax.tree.map(np.asarray, jax.jit(NETWORK.init)(jax.random.key(5), X))


def test_passes_are_those_of_the_network(variables):
    given, key = GivenWeights(NETWORK, lambda: variables), jax.random.key(1)
    assert isinstance(given, Model) and given.training_differs
    same = jax.tree.map(
        np.testing.assert_array_equal,
        (given.apply(variables, X), given.apply_in_training(variables, X, key)),
        (NETWORK.apply(variables, X), NETWORK.apply_in_training(variables, X, key)),
    )
    assert same is not None
    shared = given.sharing("batch")
    assert shared.network == NETWORK.sharing("batch") and shared.init(key, X) is variables


def test_dropout_may_be_added():
    network = Network((Dense(3), Dense(2)), (4,))
    variables, key = network.init(jax.random.key(5), X), jax.random.key(1)
    given = GivenWeights(network, lambda: variables)
    check_dropout(given, Options().term("dropout"), ())
    (logits, _), _ = given.apply_in_training(variables, X, key, dropout=jnp.float32(0.5))
    (expected, _), _ = network.apply_in_training(variables, X, key, dropout=jnp.float32(0.5))
    np.testing.assert_array_equal(logits, expected)


def test_weights_are_read_once_and_as_arrays_even_when_first_asked_for_in_a_trace(variables):
    calls = []

    def read():
        calls.append(1)
        return jax.tree.map(jnp.asarray, variables)

    given = GivenWeights(NETWORK, read)
    assert given.training_differs and not calls
    keys = jax.random.split(jax.random.key(0), 3)
    lanes = jax.jit(jax.vmap(given.init, in_axes=(0, None)))(keys, X)
    for lane in range(3):
        one = jax.tree.map(lambda leaf, lane=lane: leaf[lane], lanes)
        jax.tree.map(np.testing.assert_array_equal, one, variables)
    jax.tree.map(np.testing.assert_array_equal, given.init(keys[0], X), variables)
    given.sharing("batch").init(keys[0], X)
    assert len(calls) == 1


def test_checksum_is_of_content(variables):
    def checksum(change=lambda leaf: leaf, description="three layers"):
        changed = jax.tree.map(change, variables)
        return GivenWeights(NETWORK, lambda: changed, description).checksum

    assert checksum() == checksum(jnp.array) and int(checksum(), 16) >= 0
    assert checksum() != checksum(description="four layers")
    assert checksum() != checksum(lambda leaf: np.nextafter(leaf, np.float32(9)))
    assert checksum() != checksum(lambda leaf: leaf[..., None])
