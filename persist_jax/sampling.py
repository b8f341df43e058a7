"""From a network's activations to the point cloud whose persistence is taken."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, PyTree

from persist_jax.activations import as_layers

NEURONS = ("positions", "channels")


class Neuron(NamedTuple):
    """One neuron: the name or position of its layer, and its flat index in it."""

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
        """The same as (layer, index), by the names of the layers if the activations have names.

        A neuron of a layer `(b, h, w, c)` is at `numpy.unravel_index(index, (h, w, c))`.

        Args:
            activations: what was sampled.

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
    """The kept neurons of one layer, a column each, and their indices in it; `None` for all."""

    values: Float[Array, "b kept"]
    indices: Int32[Array, " kept"] | None

    @property
    def places(self) -> Int32[Array, " kept"]:
        """The flat index of every column in its layer."""
        if self.indices is None:
            return jnp.arange(self.values.shape[1], dtype=jnp.int32)
        return self.indices


def sample_neurons(
    activations: PyTree,
    fraction: float,
    *,
    neurons: str = "positions",
    axis_name: str | None = None,
    return_labels: bool = False,
) -> Float[Array, "n whole_batch"] | tuple[Float[Array, "n whole_batch"], Labels]:
    r"""The most active neurons of every layer, each as its vector of activations over the batch.

    Of every layer but the last, the $\lfloor p\,m \rfloor$ of its $m$ neurons with the largest
    mean absolute activation $\frac1b\sum_k |a_{ik}|$ are kept, the most active first and the lower
    index first where two are equal; of the last layer all are. A layer that is kept whole keeps
    its order. Layers follow one another in order. The choice itself is not differentiated, the
    activations are.

    Args:
        activations: one array `(b, ...)` per counted layer, in the order of the layers, as a
            sequence or a mapping by name. A dict that goes in or out of `jit` is sorted by name.
            A collection that a Flax module sowed is taken apart by `activations_of`.
        fraction: the kept share $p$ of a layer, in [0, 1].
        neurons: what a neuron is in an array `(b, ..., c)` with axes between the first and the
            last. "positions": every entry, as in the paper; "channels": every channel, as its mean
            over the positions.
        axis_name: name of a mapped axis over which the batch is shared out. The result then has
            the columns of the whole batch, in the order of the devices, and is the same on each of
            them.
        return_labels: whether to say also which neuron every row is.

    Returns:
        Points `(n, b)`, a row for every kept neuron; with `return_labels` also their `Labels`,
        whose method `neurons` gives names.

    Raises:
        ValueError: one line, if the activations are not layers `(b, ...)` of one batch, `fraction`
            is outside [0, 1], or `neurons` is unknown.

    Example:
        >>> hidden = jnp.array([[0.0, 2.0, -5.0, 1.0], [0.0, 2.0, 5.0, 1.0]])
        >>> logits = jnp.array([[1.0], [3.0]])
        >>> sample_neurons([hidden, logits], 0.5).tolist()
        [[-5.0, 5.0], [2.0, 2.0], [1.0, 3.0]]

    Reference:
        Ballester et al., Decorrelating neurons using persistence, arXiv:2308.04870.
    """
    layers = sample_layers(activations, fraction, neurons=neurons, axis_name=axis_name)
    points = points_of(layers, axis_name)
    return (points, _labels(layers)) if return_labels else points


def sample_layers(
    activations: PyTree, fraction: float, *, neurons: str, axis_name: str | None
) -> list[Sampled]:
    """The kept neurons of every layer; see `sample_neurons`."""
    check_sampling(fraction, neurons)
    *hidden, last = (_flat(layer, neurons) for layer in as_layers(activations).values())
    return [*(_most_active(layer, fraction, axis_name) for layer in hidden), Sampled(last, None)]


def check_sampling(fraction: float, neurons: str) -> None:
    """Refuse a share outside of [0, 1] and an unknown kind of neuron, in one line."""
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction: {fraction} is not in [0, 1]")
    if neurons not in NEURONS:
        raise ValueError(f"neurons: {neurons!r} is not one of {', '.join(NEURONS)}")


def points_of(layers: list[Sampled], axis_name: str | None = None) -> Float[Array, "n whole_batch"]:
    """One cloud of the kept neurons of several layers, over the whole batch."""
    points = jnp.concatenate([layer.values for layer in layers], axis=1)
    if axis_name is not None:
        points = jax.lax.all_gather(points, axis_name, tiled=True)
    return points.T


def _labels(layers: list[Sampled]) -> Labels:
    sizes = [layer.values.shape[1] for layer in layers]
    position = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    return Labels(jnp.asarray(position), jnp.concatenate([layer.places for layer in layers]))


def _flat(layer: Float[Array, "b ..."], neurons: str) -> Float[Array, "b m"]:
    if neurons == "channels" and layer.ndim > 2:
        layer = layer.mean(axis=range(1, layer.ndim - 1))
    return layer.reshape(layer.shape[0], -1)


def _most_active(
    layer: Float[Array, "b m"], fraction: float, axis_name: str | None
) -> Sampled:
    # The binary product may fall just short of a whole number: 0.29 * 100 is 28.999999999999996.
    kept = math.floor(round(fraction * layer.shape[1], 9))
    if kept in (0, layer.shape[1]):
        return Sampled(layer[:, :kept], None)
    activity = jnp.mean(jnp.abs(jax.lax.stop_gradient(layer)), axis=0)
    if axis_name is not None:
        activity = jax.lax.pmean(activity, axis_name)
    _, indices = jax.lax.top_k(activity, kept)
    return Sampled(layer[:, indices], indices)
