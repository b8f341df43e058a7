"""Any module of `flax.nnx` as a model."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx as flax_nnx
from flax import traverse_util
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

Path = tuple[str | int, ...]
# Attributes by which `Module.train` and `Module.eval` set the mode of layers.
_MODES = ("deterministic", "use_running_average")


@dataclasses.dataclass(frozen=True)
class NnxModel:
    """A `flax.nnx` module as a `Model`; made by `nnx`."""

    make: Callable[..., flax_nnx.Module]
    training_differs: bool
    axis_name: str | None = None

    def init(self, key: Array, x: Any) -> Variables:
        """Variables drawn from a key; see `Model`."""
        module = _made(self.make, flax_nnx.Rngs(key), self.axis_name)
        return {"params": {}, **self._collections(module)}

    def apply(self, variables: Variables, x: Any, train: bool = False) -> Outputs:
        """Logits and activations in inference mode; see `Model`."""
        in_inference(train, self._skeleton.name)
        outputs, _ = self._pass(variables, x, jax.random.key(0), train=False)
        return outputs

    def apply_in_training(
        self, variables: Variables, x: Any, key: Array
    ) -> tuple[Outputs, Variables]:
        """Outputs in training mode, and the updated collections; see `Model`."""
        outputs, module = self._pass(variables, x, key, train=True)
        collections = self._collections(module)
        collections.pop("params", None)
        return outputs, collections

    def sharing(self, axis_name: str | None) -> "NnxModel":
        """The same network for a batch split over a mapped axis; see `Model`."""
        if takes(self.make, "axis_name"):
            return dataclasses.replace(self, axis_name=axis_name)
        if axis_name is None or not self.training_differs:
            return self
        raise cannot_share(self._skeleton.name, "the function that makes it")

    @property
    def _skeleton(self) -> "_Skeleton":
        return _skeleton(self.make, self.axis_name)

    def _pass(self, variables, x, key, *, train: bool) -> tuple[Outputs, flax_nnx.Module]:
        skeleton = self._skeleton
        module = skeleton.with_values(variables, key)
        if skeleton.takes_train:
            result = module(x, train=train)
        else:
            module.train() if train else module.eval()
            result = module(x)
        return outputs_of(result, skeleton.name), module

    def _collections(self, module: flax_nnx.Module) -> Variables:
        values = traverse_util.flatten_dict(flax_nnx.to_pure_dict(flax_nnx.state(module)))
        places = self._skeleton.places
        named = {place: values[path] for path, place in places.items()}
        return variables_of(traverse_util.unflatten_dict(named), self._skeleton.name)


@dataclasses.dataclass(frozen=True)
class _Skeleton:
    """A module without the values of its variables; its other arrays stay as constants."""

    name: str
    takes_train: bool
    has_modes: bool
    graph: Any
    leaves: dict[Path, Any]
    places: dict[Path, tuple[str, ...]]  # path of each variable's value in the collections

    def with_values(self, variables: Variables, key: Array) -> flax_nnx.Module:
        """A new module for one pass, whose random streams start from the key."""
        values = traverse_util.flatten_dict(variables)
        flat = []
        for index, (path, leaf) in enumerate(self.leaves.items()):
            if path in self.places:
                leaf = leaf.replace(values[self.places[path]])
            elif isinstance(leaf, flax_nnx.RngKey):
                start = jax.random.fold_in(key, index)
                leaf = leaf.replace(jax.random.split(start, leaf.shape) if leaf.shape else start)
            elif isinstance(leaf, flax_nnx.RngState):
                leaf = leaf.replace(jnp.zeros(leaf.shape, leaf.dtype))
            flat.append((path, leaf))
        return flax_nnx.merge(self.graph, flax_nnx.from_flat_state(flat))


@functools.lru_cache(maxsize=64)
def _skeleton(make: Callable[..., flax_nnx.Module], axis_name: str | None) -> _Skeleton:
    # Outside of any trace, so that arrays of the module that are not variables become constants.
    with jax.ensure_compile_time_eval():
        module = _made(make, flax_nnx.Rngs(0), axis_name)
        graph, state = flax_nnx.split(module)
    leaves, places = {}, {}
    for path, leaf in flax_nnx.to_flat_state(state):
        if isinstance(leaf, flax_nnx.Variable) and not isinstance(leaf, flax_nnx.RngState):
            places[path] = (_collection(type(leaf)), *map(str, path))
            leaf = leaf.replace(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
        leaves[path] = leaf
    modes = any(hasattr(part, mode) for _, part in flax_nnx.iter_modules(module) for mode in _MODES)
    name = type(module).__name__
    return _Skeleton(name, takes_train(type(module).__call__, name), modes, graph, leaves, places)


def _made(make: Callable, rngs: flax_nnx.Rngs, axis_name: str | None) -> flax_nnx.Module:
    options = {"axis_name": axis_name} if takes(make, "axis_name") else {}
    module = make(rngs, **options)
    if not isinstance(module, flax_nnx.Module):
        raise ValueError(f"make returned a {type(module).__name__}, not a flax.nnx.Module")
    return module


def _collection(kind: type[flax_nnx.Variable]) -> str:
    if issubclass(kind, flax_nnx.Param):
        return "params"
    return flax_nnx.variable_name_from_type(kind, allow_register=True)


def nnx(make: Callable[..., flax_nnx.Module], *, training_differs: bool | None = None) -> NnxModel:
    """Turn a `flax.nnx` module into a model that can be trained.

    `nnx.Param`s are the trained weights. Every pass in training mode updates the other variables,
    such as `nnx.BatchStat`, except random streams, which start from the key of the pass. Arrays
    that are not variables are constants, the same for every key.

    Args:
        make: `make(rngs) -> module`. The module returns `(logits, activations)`: an array
            `(b, classes)`, and a sequence or a mapping of arrays `(b, ...)` in the order of the
            layers. It is called as `module(x, train=...)` if it takes `train`, else as `module(x)`
            after `module.train()` or `module.eval()`. For `parallel="batch"`,
            `make(rngs, axis_name=...)` must return the module for a batch split over this axis, or
            over none.
        training_differs: whether training mode changes the outputs; by default, whether the module
            takes `train` or holds dropout or batch normalisation.

    Returns:
        The model.

    Raises:
        ValueError: one line that says why the module cannot be a model.

    Example:
        >>> import jax
        >>> from flax import nnx
        >>> from persist_jax import models
        >>> class Small(nnx.Module):
        ...     def __init__(self, classes, rngs):
        ...         self.hidden = nnx.Linear(4, 8, rngs=rngs)
        ...         self.dropout = nnx.Dropout(0.5, rngs=rngs)
        ...         self.last = nnx.Linear(8, classes, rngs=rngs)
        ...     def __call__(self, x):
        ...         h = jax.nn.relu(self.hidden(x))
        ...         logits = self.last(self.dropout(h))
        ...         return logits, [h, logits]
        >>> model = models.nnx(lambda rngs: Small(3, rngs))
        >>> x = jax.numpy.ones((2, 4))
        >>> variables = model.init(jax.random.key(0), x)
        >>> sorted(variables["params"]), model.training_differs
        (['hidden', 'last'], True)
        >>> logits, activations = model.apply(variables, x)
        >>> logits.shape
        (2, 3)
    """
    skeleton = _skeleton(make, None)
    differs = skeleton.takes_train or skeleton.has_modes
    if training_differs is not None:
        differs = training_differs
    return NnxModel(make, differs)
