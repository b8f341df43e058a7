"""Plain functions, and so networks of any other library, as a model."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxtyping import Array

from persist_jax.models.adapters.checks import (
    cannot_share,
    in_inference,
    outputs_of,
    takes,
    takes_train,
    variables_of,
)
from persist_jax.models.model import Outputs, Variables


@dataclasses.dataclass(frozen=True)
class FunctionModel:
    """Two plain functions as a `Model`; made by `function`."""

    draw: Callable[..., Any]
    call: Callable[..., Any]
    training_differs: bool
    axis_name: str | None = None

    def init(self, key: Array, x: Any) -> Variables:
        """Parameters drawn from a key; see `Model`."""
        return variables_of({"params": self.draw(key, x)}, _name(self.call))

    def apply(self, variables: Variables, x: Any, train: bool = False) -> Outputs:
        """Logits and activations in inference mode; see `Model`."""
        in_inference(train, _name(self.call))
        return self._call(variables, x, train=False, key=None)

    def apply_in_training(
        self, variables: Variables, x: Any, key: Array
    ) -> tuple[Outputs, Variables]:
        """Outputs in training mode; there are no other collections; see `Model`."""
        return self._call(variables, x, train=True, key=key), {}

    def sharing(self, axis_name: str | None) -> "FunctionModel":
        """The same network for a batch split over a mapped axis; see `Model`."""
        if takes(self.call, "axis_name"):
            return dataclasses.replace(self, axis_name=axis_name)
        if axis_name is None or not self.training_differs:
            return self
        raise cannot_share(_name(self.call), "the function")

    def _call(self, variables: Variables, x: Any, **options: Any) -> Outputs:
        options["axis_name"] = self.axis_name
        taken = {option: value for option, value in options.items() if takes(self.call, option)}
        return outputs_of(self.call(variables["params"], x, **taken), _name(self.call))


def function(
    init: Callable[..., Any],
    apply: Callable[..., Any],
    *,
    training_differs: bool | None = None,
) -> FunctionModel:
    """Turn two plain functions into a model that can be trained.

    For a module that is itself a pytree, such as Equinox modules, `init` returns the arrays among
    its leaves under unique names. `apply` puts them back into the structure of the module, which
    `jax.eval_shape` gives without values.

    Args:
        init: `init(key, x) -> params`, an array or nested dicts of arrays with text keys.
        apply: `apply(params, x) -> (logits, activations)`: an array `(b, classes)`, and a sequence
            or a mapping of arrays `(b, ...)` in the order of the layers. If it has arguments of
            these names, it also receives `train`, true in training mode; `key`, the key of a pass
            in training mode, else `None`; and `axis_name`, the mapped axis over which the batch is
            split, or `None`.
        training_differs: whether training mode changes the outputs; by default, whether `apply`
            takes `train` or `key`.

    Returns:
        The model.

    Raises:
        ValueError: one line that says why `apply` cannot be a model.

    Example:
        >>> import jax
        >>> from typing import NamedTuple
        >>> from persist_jax import models
        >>> class Affine(NamedTuple):
        ...     kernel: jax.Array
        ...     bias: jax.Array
        >>> def make(key):
        ...     return Affine(jax.random.normal(key, (4, 3)), jax.numpy.zeros((1, 3)))
        >>> def init(key, x):
        ...     return {f"{i:03d}": leaf for i, leaf in enumerate(jax.tree.leaves(make(key)))}
        >>> def apply(params, x):
        ...     structure = jax.tree.structure(jax.eval_shape(make, jax.random.key(0)))
        ...     affine = jax.tree.unflatten(structure, [params[name] for name in sorted(params)])
        ...     logits = x @ affine.kernel + affine.bias
        ...     return logits, [logits]
        >>> model = models.function(init, apply)
        >>> x = jax.numpy.ones((2, 4))
        >>> logits, _ = model.apply(model.init(jax.random.key(0), x), x)
        >>> logits.shape, model.training_differs
        ((2, 3), False)
    """
    differs = takes_train(apply, _name(apply)) or takes(apply, "key")
    if training_differs is not None:
        differs = training_differs
    return FunctionModel(init, apply, differs)


def _name(function: Callable) -> str:
    return getattr(function, "__name__", type(function).__name__)
