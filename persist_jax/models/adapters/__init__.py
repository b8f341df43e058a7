"""Adapters that turn networks of other libraries into a `Model`."""

from persist_jax.models.adapters.linen_modules import LinenModel, linen
from persist_jax.models.adapters.nnx_modules import NnxModel, nnx
from persist_jax.models.adapters.plain_functions import FunctionModel, function

__all__ = ["FunctionModel", "LinenModel", "NnxModel", "function", "linen", "nnx"]
