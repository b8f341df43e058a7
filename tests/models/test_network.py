"""Chains of layers: how their weights begin, and inputs that they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from persist_jax.models import Network, mlp
from persist_jax.models.layers import BatchNormalization, Dense, Flatten, PReLU


def test_initial_values_are_those_of_keras():
    layers = (Flatten(), Dense(300, "relu"), BatchNormalization(), PReLU(), Dense(10))
    init = jax.jit(Network(layers, (10, 10, 1)).init)
    variables = init(jax.random.key(0), jnp.ones((1, 10, 10, 1)))
    kernel = variables["params"]["layer_01"]["kernel"]
    limit = np.sqrt(6.0 / (100 + 300))
    assert 0.99 * limit < np.abs(kernel).max() <= limit
    np.testing.assert_allclose(np.std(kernel), limit / np.sqrt(3.0), rtol=0.02)
    assert not np.any(variables["params"]["layer_01"]["bias"])
    assert not np.any(variables["params"]["layer_03"]["alpha"])
    np.testing.assert_array_equal(variables["batch_stats"]["layer_02"]["var"], np.ones(300))


def test_wrong_example_shape_is_refused():
    network = mlp((28, 28, 1), hidden=(3,))
    with pytest.raises(ValueError, match=r"x has shape \(2, 8, 8, 1\), the network takes"):
        network.init(jax.random.key(0), jnp.ones((2, 8, 8, 1)))
