"""Run any network at a chosen precision, forwards and backwards."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from persist_jax.models.given import GivenWeights
from persist_jax.models.model import Model, Outputs, Variables

Precision = Literal["default", "highest", "bfloat16"]


def at_precision(model: Model, precision: Precision) -> Model:
    """Return the same network, with its matrix products at a chosen precision.

    Args:
        model: the network; its variables, their shapes and their types stay the same.
        precision: "default": JAX's default for float32 on the device, TF32 (3 decimal digits) on
            recent NVIDIA GPUs and float32 on a CPU; the model is returned unchanged.
            "highest": every product in float32. "bfloat16": the network computes in bfloat16, 2 to
            3 decimal digits, from float32 weights that are cast in every pass; moving averages
            stay in float32, and logits and activations are returned in float32.

    A layer with its own `jax.custom_vjp` must set the precision of its backward pass itself.

    Example:
        >>> from persist_jax.models import mlp
        >>> model = at_precision(mlp((4,), 2, hidden=(3,)), "bfloat16")
        >>> x = jnp.ones((1, 4))
        >>> variables = model.init(jax.random.key(0), x)
        >>> logits, _ = model.apply(variables, x)
        >>> variables["params"]["layer_01"]["kernel"].dtype, logits.dtype
        (dtype('float32'), dtype('float32'))
    """
    return model if precision == "default" else AtPrecision(model, precision)


def unwrapped(model: Model) -> Model:
    """The network itself, without a chosen precision and without given weights."""
    while isinstance(model, AtPrecision | GivenWeights):
        model = model.network
    return model


@dataclasses.dataclass(frozen=True)
class AtPrecision:
    """A `Model` that applies another model at a precision; made by `at_precision`."""

    network: Model
    precision: Literal["highest", "bfloat16"]

    @property
    def training_differs(self) -> bool:
        """See `Model`."""
        return self.network.training_differs

    def init(self, key: Array | None, x: Any) -> Variables:
        """The variables of the network, which do not depend on the precision; see `Model`."""
        return self.network.init(key, x)

    def apply(self, variables: Variables, x: Any, train: bool = False) -> Outputs:
        """Logits and activations in inference mode; see `Model`."""
        with self._products():
            outputs = self.network.apply(*self._cast(variables, x), train=train)
        return self._outputs(outputs)

    def apply_in_training(
        self, variables: Variables, x: Any, key: Array, **how: Any
    ) -> tuple[Outputs, Variables]:
        """Outputs in training mode, and the updated collections; see `Model`."""
        with self._products():
            outputs, renewed = self.network.apply_in_training(*self._cast(variables, x), key, **how)
        before = {name: variables[name] for name in renewed}
        return self._outputs(outputs), jax.tree.map(_typed_as, renewed, before)

    def sharing(self, axis_name: str | None) -> "AtPrecision":
        """The same network for a batch split over a mapped axis; see `Model`."""
        return dataclasses.replace(self, network=self.network.sharing(axis_name))

    def _products(self):
        # Each product keeps the precision that it is traced with, and so do its derivatives.
        return jax.default_matmul_precision(self.precision)

    def _cast(self, variables: Variables, x: Any) -> tuple[Variables, Any]:
        if self.precision != "bfloat16":
            return variables, x
        params = jax.tree.map(_in_half, variables["params"])
        return {**variables, "params": params}, _in_half(jnp.asarray(x))

    def _outputs(self, outputs: Outputs) -> Outputs:
        if self.precision != "bfloat16":
            return outputs
        logits, activations = outputs
        if isinstance(activations, Mapping):
            # jax.tree.map would sort the keys of a dict, whose order is that of the layers.
            activations = OrderedDict((k, _in_single(a)) for k, a in activations.items())
        else:
            activations = tuple(map(_in_single, activations))
        return _in_single(logits), activations


def _in_half(array: Array) -> Array:
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    return array.astype(jnp.bfloat16) if floating else array


def _typed_as(array: Array, other: Array) -> Array:
    return array if array.dtype == other.dtype else array.astype(other.dtype)


def _in_single(array: Array) -> Array:
    return array.astype(jnp.float32) if array.dtype == jnp.bfloat16 else array
