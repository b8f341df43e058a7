"""Networks to train: the `Model` protocol, adapters for other libraries, and kinds by name."""

from persist_jax.models.adapters import function, linen, nnx
from persist_jax.models.cnn import cnn
from persist_jax.models.mlp import mlp
from persist_jax.models.model import Model
from persist_jax.models.network import Network
from persist_jax.models.precision import at_precision
from persist_jax.models.registry import MODELS, build_model
from persist_jax.models.resnet import resnet

register = MODELS.register

__all__ = [
    "MODELS",
    "Model",
    "Network",
    "at_precision",
    "build_model",
    "cnn",
    "function",
    "linen",
    "mlp",
    "nnx",
    "register",
    "resnet",
]
