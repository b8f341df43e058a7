"""Convert activations, collections of Flax included, to checked layers by name."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

# A layer's name, or its position; a negative position counts from the end.
Layer = str | int

# Usual names of the collection itself, which are not part of a layer's name.
_COLLECTIONS = ("activations", "intermediates")
# Collections of variables, which a pass in training mode returns beside the sown values.
_VARIABLES = ("params", "batch_stats", "cache")


def activations_of(collection: PyTree) -> dict[str, Float[Array, "b ..."]]:
    """Return the layers that `sow` of `flax.linen` or `flax.nnx` collected, by name.

    Names are paths such as `block_0/hidden`. Layers are in the natural order of their names, `h2`
    before `h10`, because `jit` sorts the keys of a dict and so loses the order of the calls. Use
    names whose order is that of the layers or, if the order matters, choose layers by name, as in
    `make_term(layers=...)`.

    Args:
        collection: the second result of `module.apply(..., mutable=["activations"])`, or its entry
            `"activations"`; or the `nnx.State` of `nnx.Intermediate`. Sow each value once, after
            the nonlinearity.

    Returns:
        One array `(b, ...)` per name.

    Raises:
        ValueError: one line that names the entry that is not a layer. Values from
            `capture_intermediates` raise too, because they precede the nonlinearity.

    Example:
        >>> import flax.linen as nn
        >>> class Small(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x):
        ...         h = nn.relu(nn.Dense(3)(x))
        ...         self.sow("activations", "h", h)
        ...         return nn.Dense(2)(h)
        >>> x = jnp.ones((4, 5))
        >>> params = Small().init(jax.random.key(0), x)["params"]
        >>> logits, sown = Small().apply({"params": params}, x, mutable=["activations"])
        >>> {name: layer.shape for name, layer in activations_of(sown).items()}
        {'h': (4, 3)}
    """
    if not isinstance(collection, Mapping):
        raise ValueError(f"activations: {in_words(collection)} is not a collection of Flax")
    return checked(_sown(collection))


def as_layers(activations: PyTree) -> dict[Any, Float[Array, "b ..."]]:
    """Return one array `(b, ...)` per layer, by name or by position, in order.

    Args:
        activations: a sequence or a mapping of arrays `(b, ...)`, or a collection of Flax, which
            `activations_of` converts.

    Raises:
        ValueError: one line that describes any other argument.

    Example:
        >>> list(as_layers([jnp.ones((4, 3)), jnp.ones((4, 2))]))
        [0, 1]
        >>> as_layers(jnp.ones((4, 3)))
        Traceback (most recent call last):
        ValueError: activations: an array of shape (4, 3), not a list or a mapping of them; one \
layer is [array]
    """
    return checked(by_name(activations))


def by_name(activations: PyTree) -> dict[Any, Any]:
    """The unchecked value of each layer, by name or by position."""
    if isinstance(activations, Mapping):
        if any(isinstance(layer, Mapping | tuple) for layer in activations.values()):
            return _sown(activations)
        if type(activations).__module__.startswith("flax.nnx"):
            return _sown(activations)
        layers = dict(activations)
    elif isinstance(activations, Sequence) and not isinstance(activations, str):
        layers = dict(enumerate(activations))
    else:
        hint = "; one layer is [array]" if is_array(activations) else ""
        raise ValueError(
            f"activations: {in_words(activations)}, not a list or a mapping of them{hint}"
        )
    if not layers:
        raise ValueError("activations: at least one layer is needed, got none")
    return layers


def checked(layers: dict[Any, Any]) -> dict[Any, Float[Array, "b ..."]]:
    """Return the layers as arrays `(b, ...)` of one batch, or raise `ValueError`."""
    for name, layer in layers.items():
        _check(name, layer)
    (first, size), *others = ((name, layer.shape[0]) for name, layer in layers.items())
    for name, other in others:
        if other != size:
            raise ValueError(
                f"activations: layer {first!r} has {size} examples, layer {name!r} has {other}; "
                "the batch is the first axis of every layer"
            )
    return {name: jnp.asarray(layer) for name, layer in layers.items()}


def positions(
    names: Sequence[Any], wanted: Layer | Sequence[Layer], argument: str = "layers"
) -> list[int]:
    """The positions of the wanted layers among all layers, in the order of `wanted`.

    Args:
        names: the names of all layers, or their positions if they have no names.
        wanted: one layer or a list of layers, each by name or by position.
        argument: the caller's name for `wanted`, for error messages.

    Raises:
        ValueError: one line that names the unknown layer and the known ones.

    Example:
        >>> positions(["h1", "h2", "logits"], [-1, "h1"])
        [2, 0]
    """
    found = []
    for layer in listed(wanted, argument):
        if layer in names:
            position = list(names).index(layer)
        elif isinstance(layer, int) and -len(names) <= layer < len(names):
            position = layer % len(names)
        else:
            known = ", ".join(map(str, names))
            raise ValueError(f"{argument}: {layer!r} is not one of {known}")
        if position in found:
            raise ValueError(f"{argument}: {layer!r} is there more than once")
        found.append(position)
    return found


def listed(wanted: Layer | Sequence[Layer], argument: str = "layers") -> tuple[Layer, ...]:
    """Return one or several layers as a tuple, or raise `ValueError`."""
    layers = wanted if isinstance(wanted, Sequence) and not isinstance(wanted, str) else [wanted]
    layers = [int(layer) if isinstance(layer, np.integer) else layer for layer in layers]
    for layer in layers:
        if not isinstance(layer, str | int) or isinstance(layer, bool):
            raise ValueError(f"{argument}: {layer!r} is neither a layer's name nor a position")
    if not layers:
        raise ValueError(f"{argument}: {wanted!r} has no layer")
    return tuple(layers)


def _check(name: Any, layer: Any) -> None:
    if not is_array(layer):
        raise ValueError(f"activations: layer {name!r} is {in_words(layer)}, not an array (b, ...)")
    if not jnp.issubdtype(layer.dtype, jnp.floating):
        raise ValueError(f"activations: layer {name!r} holds {layer.dtype}, not floating-point")
    if layer.ndim < 2 or layer.shape[0] == 0:
        raise ValueError(
            f"activations: layer {name!r} has shape {layer.shape}, not (b, ...): a batch of "
            "examples, then the neurons"
        )


def _sown(collection: PyTree) -> dict[str, Any]:
    found: dict[str, Any] = {}
    _collect(collection, (), found)
    if not found:
        raise ValueError("activations: the collection is empty; was anything sown?")
    return {path: found[path] for path in sorted(found, key=_natural)}


def _collect(tree: Mapping, path: tuple[str, ...], found: dict[str, Any]) -> None:
    for key, value in tree.items():
        if not path and key in _VARIABLES:
            raise ValueError(
                f"activations: {key!r} is a collection of variables; give only the sown values, as "
                'state["activations"]'
            )
        here = path if not path and key in _COLLECTIONS else (*path, str(key))
        value = _value(value)
        if isinstance(value, Mapping):
            _collect(value, here, found)
            continue
        name = "/".join(here) or str(key)
        if key == "__call__":
            raise ValueError(
                f"activations: {name!r} is from capture_intermediates, which sees a module's "
                'output before the nonlinearity; call self.sow("activations", name, value) after it'
            )
        found[name] = _sown_once(name, value)


def _sown_once(name: str, value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    if len(value) != 1:
        raise ValueError(
            f"activations: {name!r} was sown {len(value)} times; remove values sown by init from "
            "the variables, and in a module that is called twice sow under two names"
        )
    return value[0]


def _value(leaf: Any) -> Any:
    """The value of an `nnx.Variable`, if it holds activations."""
    kind = type(leaf)
    if not kind.__module__.startswith("flax.nnx") or isinstance(leaf, Mapping):
        return leaf
    from flax import nnx

    if isinstance(leaf, nnx.Variable) and not isinstance(leaf, nnx.Intermediate):
        raise ValueError(
            f"activations: an nnx.State of {kind.__name__}, not of activations; return the "
            "activations from the module, or sow them as nnx.Intermediate"
        )
    return leaf.get_value() if isinstance(leaf, nnx.Variable) else leaf


def _natural(path: str) -> list[tuple[int, int, str]]:
    """A sort key that compares numbers in a name as numbers."""
    parts = re.findall(r"\d+|\D+", path)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def is_array(value: Any) -> bool:
    """Whether a value is an array of JAX or NumPy."""
    return isinstance(value, jax.Array | np.ndarray)


def in_words(value: Any) -> str:
    """Describe a value for an error message."""
    if is_array(value):
        return f"an array of shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
