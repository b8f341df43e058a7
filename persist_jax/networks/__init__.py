"""Networks that return logits and activations: MNIST perceptrons, and Keras files to Flax."""

from persist_jax.networks.keras_config import network_from_config, read_config
from persist_jax.networks.keras_weights import (
    read_network,
    variables_from_weights,
    weight_order,
    write_weights,
)
from persist_jax.networks.mnist import MNIST_HIDDEN, mlp, mnist_mlps
from persist_jax.networks.network import Network

__all__ = [
    "MNIST_HIDDEN",
    "Network",
    "mlp",
    "mnist_mlps",
    "network_from_config",
    "read_config",
    "read_network",
    "variables_from_weights",
    "weight_order",
    "write_weights",
]
