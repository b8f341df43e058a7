"""What networks give, as layers by name: checked, and taken out of the collections of Flax."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

Layers = Sequence[Float[Array, "b ..."]] | Mapping[str, Float[Array, "b ..."]]

# Names that Flax and people give to the collection itself; they say nothing about a layer.
_COLLECTIONS = ("activations", "intermediates")
# Collections of variables, which a pass in training mode returns beside what was sown.
_VARIABLES = ("params", "batch_stats", "cache")


def activations_of(collection: PyTree) -> dict[str, Float[Array, "b ..."]]:
    """Layers by name from what `sow` of `flax.linen` or `flax.nnx` collected.

    Names are paths, as `block_0/hidden`. Layers are in the natural order of their names, `h2`
    before `h10`: the order of the calls does not survive `jit`, which sorts the keys of a dict.
    Choose names whose order is that of the layers, or choose the layers by name where the order
    matters, as `make_term(layers=...)` does.

    Args:
        collection: the second result of `module.apply(..., mutable=["activations"])`, or its entry
            `"activations"`; or the `nnx.State` of `nnx.Intermediate`. Each value was sown after
            the nonlinearity, once.

    Returns:
        One array `(b, ...)` per name.

    Raises:
        ValueError: one line that names the entry which is no layer. Refused too is what
            `capture_intermediates` collects, because those are the values before the
            nonlinearity.

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
    found: dict[str, Any] = {}
    _collect(collection, (), found)
    if not found:
        raise ValueError("activations: the collection is empty; was anything sown?")
    return as_layers({path: found[path] for path in sorted(found, key=_natural)})


def as_layers(activations: PyTree) -> dict[Any, Float[Array, "b ..."]]:
    """One array `(b, ...)` per layer, by name or by position, in order; anything else is refused.

    Args:
        activations: a sequence or a mapping of arrays `(b, ...)`, or a collection of Flax, which
            `activations_of` takes apart.

    Raises:
        ValueError: one line that says what was given instead.

    Example:
        >>> list(as_layers([jnp.ones((4, 3)), jnp.ones((4, 2))]))
        [0, 1]
        >>> as_layers(jnp.ones((4, 3)))
        Traceback (most recent call last):
        ValueError: activations: an array of shape (4, 3), not a list or a mapping of them; one \
layer is [array]
    """
    if isinstance(activations, Mapping):
        if any(isinstance(layer, Mapping | tuple) for layer in activations.values()):
            return activations_of(activations)
        if type(activations).__module__.startswith("flax.nnx"):
            return activations_of(activations)
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
    for name, layer in layers.items():
        _check(name, layer)
    (first, size), *others = ((name, layer.shape[0]) for name, layer in layers.items())
    for name, other in others:
        if other != size:
            raise ValueError(
                f"activations: layer {first!r} has {size} examples, layer {name!r} has {other}; "
                "the batch is the first axis of every layer"
            )
    return layers


def choose_layers(names: Sequence[Any], wanted: Any = None) -> list[int]:
    """The positions of the wanted layers, in that order; all without any.

    Args:
        names: of all layers.
        wanted: names, or positions where the layers have none.

    Raises:
        ValueError: one line that names the unknown layer and the known ones.

    Example:
        >>> choose_layers(["h1", "h2", "logits"], ["logits", "h1"])
        [2, 0]
    """
    if wanted is None:
        return list(range(len(names)))
    if isinstance(wanted, str) or not isinstance(wanted, Sequence) or not wanted:
        raise ValueError(f"layers: {wanted!r} is not a list of layers")
    for name in wanted:
        if name not in names:
            raise ValueError(f"layers: {name!r} is not one of {', '.join(map(str, names))}")
        if wanted.count(name) > 1:
            raise ValueError(f"layers: {name!r} is there more than once")
    return [names.index(name) for name in wanted]


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


def _collect(tree: Mapping, path: tuple[str, ...], found: dict[str, Any]) -> None:
    for key, value in tree.items():
        if not path and key in _VARIABLES:
            raise ValueError(
                f"activations: {key!r} is a collection of variables; give what was sown alone, as "
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
                'output before the nonlinearity; after it, self.sow("activations", name, value)'
            )
        found[name] = _sown_once(name, value)


def _sown_once(name: str, value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    if len(value) != 1:
        raise ValueError(
            f"activations: {name!r} was sown {len(value)} times; leave what init sowed out of the "
            "variables, and give a module that is called twice two names"
        )
    return value[0]


def _value(leaf: Any) -> Any:
    """What an `nnx.Variable` holds, if it holds activations."""
    kind = type(leaf)
    if not kind.__module__.startswith("flax.nnx") or isinstance(leaf, Mapping):
        return leaf
    from flax import nnx

    if isinstance(leaf, nnx.Variable) and not isinstance(leaf, nnx.Intermediate):
        raise ValueError(
            f"activations: an nnx.State of {kind.__name__}, not of what the network gave; return "
            "the activations from the module, or sow them as nnx.Intermediate"
        )
    return leaf.get_value() if isinstance(leaf, nnx.Variable) else leaf


def _natural(path: str) -> list[tuple[int, int, str]]:
    """Compares numbers in a name as numbers."""
    parts = re.findall(r"\d+|\D+", path)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def is_array(value: Any) -> bool:
    """Whether a value is an array of JAX or NumPy."""
    return isinstance(value, jax.Array | np.ndarray)


def in_words(value: Any) -> str:
    """What a value is, for an error."""
    if is_array(value):
        return f"an array of shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
