"""Any module of `flax.linen` as a model."""

import dataclasses
from typing import Any

import flax.linen
import jax
from jaxtyping import Array

from persist_jax.models.adapters.checks import (
    cannot_share,
    in_inference,
    outputs_of,
    takes_train,
    variables_of,
)
from persist_jax.models.model import Outputs, Variables


@dataclasses.dataclass(frozen=True)
class LinenModel:
    """A `flax.linen` module as a `Model`; made by `linen`."""

    module: flax.linen.Module
    training_differs: bool
    rngs: tuple[str, ...] = ("dropout",)

    def init(self, key: Array, x: Any) -> Variables:
        """Variables drawn from a key; see `Model`."""
        rngs = {"params": jax.random.fold_in(key, len(self.rngs)), **self._streams(key)}
        variables = flax.core.unfreeze(self.module.init(rngs, x, **self._mode(False)))
        return variables_of({"params": {}, **variables}, self._name)

    def apply(self, variables: Variables, x: Any, train: bool = False) -> Outputs:
        """Logits and activations in inference mode; see `Model`."""
        in_inference(train, self._name)
        return outputs_of(self.module.apply(variables, x, **self._mode(False)), self._name)

    def apply_in_training(
        self, variables: Variables, x: Any, key: Array
    ) -> tuple[Outputs, Variables]:
        """Outputs in training mode, and the updated collections; see `Model`."""
        result, renewed = self.module.apply(
            variables,
            x,
            rngs=self._streams(key),
            mutable=[collection for collection in variables if collection != "params"],
            **self._mode(True),
        )
        return outputs_of(result, self._name), flax.core.unfreeze(renewed)

    def sharing(self, axis_name: str | None) -> "LinenModel":
        """The same network for a batch split over a mapped axis; see `Model`."""
        if any(field.name == "axis_name" for field in dataclasses.fields(self.module)):
            return dataclasses.replace(self, module=self.module.clone(axis_name=axis_name))
        if axis_name is None or not self.training_differs:
            return self
        raise cannot_share(self._name, "the module")

    @property
    def _name(self) -> str:
        return type(self.module).__name__

    def _mode(self, train: bool) -> dict[str, bool]:
        takes = takes_train(type(self.module).__call__, self._name)
        return {"train": train} if takes else {}

    def _streams(self, key: Array) -> dict[str, Array]:
        return {name: jax.random.fold_in(key, index) for index, name in enumerate(self.rngs)}


def linen(
    module: flax.linen.Module,
    *,
    training_differs: bool | None = None,
    rngs: tuple[str, ...] = ("dropout",),
) -> LinenModel:
    """Turn a `flax.linen` module into a model that can be trained.

    Every pass in training mode updates the module's collections other than `params`, such as
    `batch_stats`.

    For `parallel="batch"` the module needs a field `axis_name` (a name, or `None`), which it passes
    to every layer that depends on more than one example:
    `nn.BatchNorm(..., axis_name=self.axis_name)`. `persist_jax.models.layers.Dropout` draws the
    same mask as on one device.

    Args:
        module: called as `module(x)` or `module(x, train=...)`, it returns `(logits, activations)`:
            an array `(b, classes)`, and a sequence or a mapping of arrays `(b, ...)` in the order
            of the layers. Its fields must be hashable.
        training_differs: whether training mode changes the outputs; by default, whether the module
            takes `train`.
        rngs: names of the random streams that a pass in training mode draws from.

    Returns:
        The model.

    Raises:
        ValueError: one line that says why the module cannot be a model.

    Example:
        >>> import flax.linen as nn
        >>> import jax
        >>> from persist_jax import models
        >>> class Small(nn.Module):
        ...     width: int
        ...     classes: int
        ...     axis_name: str | None = None
        ...     @nn.compact
        ...     def __call__(self, x, train: bool = False):
        ...         h = nn.Dense(self.width)(x.reshape(len(x), -1))
        ...         h = nn.BatchNorm(use_running_average=not train, axis_name=self.axis_name)(h)
        ...         h = nn.relu(h)
        ...         logits = nn.Dense(self.classes)(h)
        ...         return logits, {"hidden": h, "logits": logits}
        >>> @models.register("small_linen")
        ... def small(input_shape, classes, *, width: int = 8):
        ...     return models.linen(Small(width, classes))
        >>> model = models.build_model({"kind": "small_linen", "width": 4}, (6, 6, 1), 10)
        >>> x = jax.numpy.ones((2, 6, 6, 1))
        >>> variables = model.init(jax.random.key(0), x)
        >>> sorted(variables), model.training_differs
        (['batch_stats', 'params'], True)
        >>> logits, activations = model.apply(variables, x)
        >>> {name: array.shape for name, array in activations.items()}
        {'hidden': (2, 4), 'logits': (2, 10)}
    """
    name = type(module).__name__
    try:
        hash(module)
    except TypeError:
        raise ValueError(
            f"{name}: its fields must be hashable; tuples are, lists are not"
        ) from None
    differs = takes_train(type(module).__call__, name)
    if training_differs is not None:
        differs = training_differs
    return LinenModel(module, differs, tuple(rngs))
