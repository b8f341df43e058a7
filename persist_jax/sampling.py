"""From a network's activations to the point cloud whose persistence is taken."""

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Layers = Sequence[Float[Array, "b ..."]] | Mapping[str, Float[Array, "b ..."]]

NEURONS = ("positions", "channels")


def sample_neurons(
    activations: Layers,
    fraction: float,
    *,
    neurons: str = "positions",
    axis_name: str | None = None,
) -> Float[Array, "n whole_batch"]:
    r"""The most active neurons of every layer, each as its vector of activations over the batch.

    Of every layer but the last, the $\lfloor p\,m \rfloor$ of its $m$ neurons with the largest
    mean absolute activation $\frac1b\sum_k |a_{ik}|$ are kept, the most active first and the lower
    index first where two are equal; of the last layer all are. A layer that is kept whole keeps
    its order. Layers follow one another in order. The choice itself is not differentiated, the
    activations are.

    Args:
        activations: one array `(b, ...)` per counted layer, in the order of the layers, as a
            sequence or a mapping by name. A dict that goes in or out of `jit` is sorted by name.
        fraction: the kept share $p$ of a layer, in [0, 1].
        neurons: what a neuron is in an array `(b, ..., c)` with axes between the first and the
            last. "positions": every entry, as in the paper; "channels": every channel, as its mean
            over the positions.
        axis_name: name of a mapped axis over which the batch is shared out. The result then has
            the columns of the whole batch, in the order of the devices, and is the same on each of
            them.

    Returns:
        Points `(n, b)`, a row for every kept neuron.

    Raises:
        ValueError: if there are no activations, `fraction` is outside [0, 1], or `neurons` is
            unknown.

    Example:
        >>> hidden = jnp.array([[0.0, 2.0, -5.0, 1.0], [0.0, 2.0, 5.0, 1.0]])
        >>> logits = jnp.array([[1.0], [3.0]])
        >>> sample_neurons([hidden, logits], 0.5).tolist()
        [[-5.0, 5.0], [2.0, 2.0], [1.0, 3.0]]

    Reference:
        Ballester et al., Decorrelating neurons using persistence, arXiv:2308.04870.
    """
    layers = list(activations.values() if isinstance(activations, Mapping) else activations)
    if not layers:
        raise ValueError("activations: at least one layer is needed, got none")
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction: {fraction} is not in [0, 1]")
    if neurons not in NEURONS:
        raise ValueError(f"neurons: {neurons!r} is not one of {', '.join(NEURONS)}")
    *hidden, last = (_flat(layer, neurons) for layer in layers)
    kept = [_most_active(layer, fraction, axis_name) for layer in hidden]
    points = jnp.concatenate([*kept, last], axis=1)
    if axis_name is not None:
        points = jax.lax.all_gather(points, axis_name, tiled=True)
    return points.T


def _flat(layer: Float[Array, "b ..."], neurons: str) -> Float[Array, "b m"]:
    if neurons == "channels" and layer.ndim > 2:
        layer = layer.mean(axis=range(1, layer.ndim - 1))
    return layer.reshape(layer.shape[0], -1)


def _most_active(
    layer: Float[Array, "b m"], fraction: float, axis_name: str | None
) -> Float[Array, "b kept"]:
    # The binary product may fall just short of a whole number: 0.29 * 100 is 28.999999999999996.
    kept = math.floor(round(fraction * layer.shape[1], 9))
    if kept in (0, layer.shape[1]):
        return layer[:, :kept]
    activity = jnp.mean(jnp.abs(jax.lax.stop_gradient(layer)), axis=0)
    if axis_name is not None:
        activity = jax.lax.pmean(activity, axis_name)
    _, indices = jax.lax.top_k(activity, kept)
    return layer[:, indices]
