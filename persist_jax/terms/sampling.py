"""Sample neurons: from a network's activations to a point cloud."""

import math
import warnings
from collections.abc import Sequence
from types import EllipsisType
from typing import Any, Literal, NamedTuple, get_args, overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int32, PyTree

from persist_jax.kernels.devices import replicated
from persist_jax.terms.activations import Layer, as_layers, by_name, checked, positions

Neurons = Literal["positions", "channels", "tokens"]

# This many neurons or more are probably a mistake.
_MANY = 1_000_000


class Neuron(NamedTuple):
    """One neuron of a network.

    Attributes:
        layer: the name of its layer, or its position where the activations have no names.
        index: its flat index in an array `(b, ...)` without the batch; or its channel.

    Example:
        >>> Neuron("hidden", 3).layer
        'hidden'
    """

    layer: Any
    index: int


class Labels(NamedTuple):
    """Which neuron each of `n` points is.

    Attributes:
        layer: the position of its layer among the activations.
        index: its flat index in an array `(b, ...)` without the batch; or its channel.
    """

    layer: Int32[Array, " n"]
    index: Int32[Array, " n"]

    def neurons(self, activations: PyTree) -> list[Neuron]:
        """The labels as (layer, index), with the layers' names if the activations have names.

        A neuron of a layer `(b, h, w, c)` is at `numpy.unravel_index(index, (h, w, c))`.

        Args:
            activations: the sampled activations.

        Example:
            >>> activations = {"hidden": jnp.array([[0.0, 2.0], [1.0, 3.0]]), "end": jnp.eye(2)}
            >>> points, labels = sample_neurons(activations, 0.5, return_labels=True)
            >>> [tuple(neuron) for neuron in labels.neurons(activations)]
            [('hidden', 1), ('end', 0), ('end', 1)]
        """
        names = list(as_layers(activations))
        pairs = zip(np.asarray(self.layer).tolist(), np.asarray(self.index).tolist(), strict=True)
        return [Neuron(names[layer], index) for layer, index in pairs]


class Sampled(NamedTuple):
    """The kept neurons of one layer, one per column.

    Attributes:
        values: their activations.
        indices: their flat indices in the layer; `None` if all are kept.
        counted: which examples count; `None` if all do.
    """

    values: Float[Array, "b kept"]
    indices: Int32[Array, " kept"] | None
    counted: Bool[Array, " b"] | None

    @property
    def places(self) -> Int32[Array, " kept"]:
        """The flat index of every column in its layer."""
        if self.indices is None:
            return jnp.arange(self.values.shape[1], dtype=jnp.int32)
        return self.indices


@overload
def sample_neurons(
    activations: PyTree,
    fraction: float,
    *,
    whole: Layer | None = -1,
    neurons: Neurons = "positions",
    axis_name: str | None = None,
    mask: ArrayLike | None = None,
    return_labels: Literal[False] = False,
) -> Array: ...


@overload
def sample_neurons(
    activations: PyTree,
    fraction: float,
    *,
    whole: Layer | None = -1,
    neurons: Neurons = "positions",
    axis_name: str | None = None,
    mask: ArrayLike | None = None,
    return_labels: Literal[True],
) -> tuple[Array, Labels]: ...


def sample_neurons(
    activations: PyTree,
    fraction: float,
    *,
    whole: Layer | None = -1,
    neurons: Neurons = "positions",
    axis_name: str | None = None,
    mask: ArrayLike | None = None,
    return_labels: bool = False,
) -> Float[Array, "n whole_batch"] | tuple[Float[Array, "n whole_batch"], Labels]:
    r"""The most active neurons of every layer, each as its vector of activations over the batch.

    Every layer except `whole` keeps the $\lfloor p\,m \rfloor$ of its $m$ neurons with the largest
    mean absolute activation $\frac1b\sum_k |a_{ik}|$, most active first; ties go to the lower
    index. The layer `whole` keeps all its neurons in their own order. Layers follow one another in
    order. Gradients flow through the activations, but not through the choice of neurons.

    Args:
        activations: one array `(b, ...)` per counted layer, in the order of the layers, as a
            sequence or a mapping by name. `jit` sorts a dict by name. A collection sown by a Flax
            module is converted by `activations_of`.
        fraction: the share $p$ of a layer to keep, in [0, 1].
        whole: the layer to keep whole, by name or position. The paper keeps the last layer, -1,
            which is the output of the network; `None` samples every layer.
        neurons: the meaning of a neuron in an array `(b, ..., c)` with axes between the first and
            the last. "positions": every entry, as in the paper. "channels": every channel, averaged
            over the positions. "tokens": every channel, where each position of each example counts
            as an example of its own, like a transformer's token.
        axis_name: name of a mapped axis over which the batch is split. The result then has the
            columns of the whole batch, in the order of the devices, and is the same on every
            device.
        mask: which examples count, boolean `(b,)`; with "tokens", which positions count, shaped
            like a layer without its channels. On every other example a neuron gets the mean of its
            activations over the examples that count, so that example affects no correlation,
            whatever it holds. If fewer than two count, every neuron is constant.
        return_labels: whether to return also which neuron every row is.

    Returns:
        Points `(n, b)`, one row per kept neuron; with `return_labels` also their `Labels`, whose
        method `neurons` gives names.

    Raises:
        ValueError: one line, if the activations are not layers `(b, ...)` of one batch, `fraction`
            is outside [0, 1] or keeps no neuron, `neurons` is unknown, or `mask` has another shape.

    Warns:
        UserWarning: if "positions" turns feature maps or tokens into a million neurons or more.

    Example:
        >>> hidden = jnp.array([[0.0, 2.0, -5.0, 1.0], [0.0, 2.0, 5.0, 1.0]])
        >>> logits = jnp.array([[1.0], [3.0]])
        >>> sample_neurons([hidden, logits], 0.5).tolist()
        [[-5.0, 5.0], [2.0, 2.0], [1.0, 3.0]]

    Reference:
        Ballester et al., Decorrelating neurons using persistence, arXiv:2308.04870.
    """
    check_sampling(fraction, neurons)
    sampled = sample_layers(activations, fraction, whole, neurons, axis_name, mask=mask)
    layers = list(sampled.values())
    points = points_of(layers, axis_name)
    return (points, _labels(layers)) if return_labels else points


def sample_layers(
    activations: PyTree,
    fraction: float,
    whole: Layer | None,
    neurons: Neurons,
    axis_name: str | None = None,
    layers: Layer | Sequence[Layer] | None = None,
    mask: ArrayLike | None = None,
) -> dict[Any, Sampled]:
    """The kept neurons of the wanted layers, all layers by default; see `sample_neurons`."""
    given = by_name(activations)
    names = list(given)
    wanted = names if layers is None else [names[k] for k in positions(names, layers)]
    kept_whole = None if whole is None else names[positions(names, whole, "whole")[0]]
    arrays = checked({name: given[name] for name in wanted})
    if neurons == "positions":
        _warn_of_many(arrays)
    rows = {name: _flat(layer, neurons) for name, layer in arrays.items()}
    _check_tokens(rows)
    counted = _flat_mask(mask, arrays, neurons)
    sampled = {
        name: _most_active(layer, counted, 1 if name == kept_whole else fraction, axis_name)
        for name, layer in rows.items()
    }
    if not any(layer.values.shape[1] for layer in sampled.values()):
        raise ValueError(f"fraction: {fraction} keeps no neuron of any layer")
    return sampled


def check_sampling(fraction: float, neurons: str) -> None:
    """Raise `ValueError` for a fraction outside [0, 1] or an unknown kind of neuron."""
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction: {fraction} is not in [0, 1]")
    if neurons not in get_args(Neurons):
        raise ValueError(f"neurons: {neurons!r} is not one of {', '.join(get_args(Neurons))}")


def said_whole(whole: Layer | EllipsisType | None, fraction: float) -> Layer | None:
    """Return `whole`, which is required if `fraction` leaves neurons out."""
    if not isinstance(whole, EllipsisType):
        return whole
    if fraction < 1:
        raise ValueError(
            f"whole: missing, but fraction {fraction} leaves neurons out; say which layer to keep "
            "whole: its name, -1 for the last layer as in the paper, or None"
        )
    return None


def points_of(layers: list[Sampled], axis_name: str | None = None) -> Float[Array, "n whole_batch"]:
    """One cloud of the kept neurons of several layers, over the whole batch."""
    points = jnp.concatenate([layer.values for layer in layers], axis=1)
    if axis_name is not None:
        points = jax.lax.all_gather(points, axis_name, tiled=True)
    # In a gradient, XLA would move the transpose, and a term and `measures` would not share their
    # tree.
    return jax.lax.optimization_barrier(points.T)


def _labels(layers: list[Sampled]) -> Labels:
    sizes = [layer.values.shape[1] for layer in layers]
    position = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    return Labels(jnp.asarray(position), jnp.concatenate([layer.places for layer in layers]))


def _flat(layer: Float[Array, "b ..."], neurons: Neurons) -> Float[Array, "examples m"]:
    if neurons == "channels" and layer.ndim > 2:
        layer = _at_least_float32(layer).mean(axis=range(1, layer.ndim - 1))
    # On an explicit mesh, layers may be sharded in different ways; a tree needs all points.
    layer = replicated(layer)
    if neurons == "tokens":
        return layer.reshape(-1, layer.shape[-1])
    return layer.reshape(layer.shape[0], -1)


def _warn_of_many(layers: dict[Any, Float[Array, "b ..."]]) -> None:
    sizes = {name: math.prod(layer.shape[1:]) for name, layer in layers.items()}
    if sum(sizes.values()) < _MANY:
        return
    largest = max(sizes, key=sizes.__getitem__)
    shape = layers[largest].shape[1:]
    if len(shape) > 1:
        warnings.warn(
            f"activations: {sum(sizes.values())} neurons, because neurons='positions' takes every "
            f"entry of layers such as {largest!r}, (b, {', '.join(map(str, shape))}), as a neuron; "
            f"'tokens' and 'channels' make {shape[-1]} of it",
            stacklevel=2,
        )


def _check_tokens(rows: dict[Any, Float[Array, "examples m"]]) -> None:
    (first, layer), *others = rows.items()
    for name, other in others:
        if len(other) != len(layer):
            raise ValueError(
                f"activations: layer {first!r} has {len(layer)} tokens, layer {name!r} has "
                f"{len(other)}; choose layers with the same tokens, by `layers`"
            )


def _flat_mask(
    mask: ArrayLike | None, layers: dict[Any, Float[Array, "b ..."]], neurons: Neurons
) -> Bool[Array, " examples"] | None:
    """Which rows of the flat layers count."""
    if mask is None:
        return None
    mask, shape = jnp.asarray(mask), next(iter(layers.values())).shape
    wanted = shape[:-1] if neurons == "tokens" else shape[:1]
    if mask.shape != wanted or mask.dtype != bool:
        what = "token" if neurons == "tokens" else "example"
        raise ValueError(
            f"mask must be boolean of shape {wanted}, one entry for every {what}, "
            f"got {mask.dtype} of shape {mask.shape}"
        )
    return replicated(mask).reshape(-1)


def _most_active(
    layer: Float[Array, "b m"],
    counted: Bool[Array, " b"] | None,
    fraction: float | int,
    axis_name: str | None,
) -> Sampled:
    def over_devices(reduce, values):
        return values if axis_name is None else reduce(values, axis_name)

    if counted is not None:
        layer = jnp.where(counted[:, None], _at_least_float32(layer), 0)
    # The binary product may fall just short of a whole number: 0.29 * 100 is 28.999999999999996.
    kept, indices = math.floor(round(fraction * layer.shape[1], 9)), None
    if kept not in (0, layer.shape[1]):
        activity = jnp.mean(jnp.abs(_at_least_float32(jax.lax.stop_gradient(layer))), axis=0)
        _, indices = jax.lax.top_k(over_devices(jax.lax.pmean, activity), kept)
    values = layer[:, :kept] if indices is None else layer[:, indices]
    if counted is not None:
        # The mean of what lies below the maximum is exactly 0 for a constant neuron, which must
        # stay constant; the mean of its values may be rounded to another value.
        rows = counted[:, None]
        largest = jnp.where(rows, jax.lax.stop_gradient(values), -jnp.inf).max(0, keepdims=True)
        largest = over_devices(jax.lax.pmax, largest)
        largest = jnp.where(largest == -jnp.inf, 0, largest)  # no example counts
        below = jnp.where(rows, values - largest, 0).sum(0, keepdims=True)
        below, count = over_devices(jax.lax.psum, (below, counted.sum()))
        mean = largest + below / jnp.maximum(count, 1).astype(values.dtype)
        values = jnp.where(rows, values, mean)
    return Sampled(values, indices, counted)


def _at_least_float32(layer: Float[Array, "..."]) -> Float[Array, "..."]:
    return layer.astype(jnp.promote_types(layer.dtype, jnp.float32))
