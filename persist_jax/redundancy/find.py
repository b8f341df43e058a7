"""Find the redundant neurons in a network's activations."""

from collections.abc import Sequence
from types import EllipsisType
from typing import Literal

import jax
import numpy as np
from jaxtyping import PyTree

from persist_jax.kernels import Geometry, cloud_tree
from persist_jax.kernels.deaths import PointsAlgorithm
from persist_jax.kernels.distances import is_constant
from persist_jax.redundancy.found import LayerCount, Pair, Redundancy
from persist_jax.redundancy.pairs import strongest_pairs
from persist_jax.terms.activations import Layer
from persist_jax.terms.sampling import (
    Neuron,
    Neurons,
    check_sampling,
    points_of,
    said_whole,
    sample_layers,
)


def redundancy(
    activations: PyTree,
    *,
    threshold: float = 0.9,
    top: int = 10,
    fraction: float = 1.0,
    whole: Layer | EllipsisType | None = ...,
    neurons: Neurons = "positions",
    layers: Layer | Sequence[Layer] | None = None,
    distance: Literal["correlation", "cosine"] = "correlation",
    signed: bool = False,
    algorithm: PointsAlgorithm = "auto",
) -> Redundancy:
    r"""Find a network's constant neurons, strongest pairs, and clusters of correlated neurons.

    A cluster is a connected component of the graph that joins every two neurons with `|corr|` of
    at least `threshold`. The minimum spanning tree cut at `1 - threshold` has the same components.
    The strongest pairs are the strongest among all pairs, not only among edges of the tree.

    Memory is O(n b) if the matrix of distances would not fit. The function returns Python values
    and does not work inside `jit`.

    Args:
        activations: one array `(b, ...)` per layer; see `sample_neurons`.
        threshold: the least |corr| that joins two neurons, up to rounding, in (0, 1].
        top: the number of strongest pairs; fewer if fewer pairs are correlated at all.
        fraction: the share of every layer to keep; see `sample_neurons`.
        whole: the layer to keep whole; see `make_term`.
        neurons: the meaning of a neuron, "positions", "channels" or "tokens"; see `sample_neurons`.
        layers: names or positions of the layers to search; all by default.
        distance: "correlation" or "cosine". The cosine does not centre the rows; it suits the atoms
            of a dictionary, for example, with `[atoms.T]` as the activations.
        signed: whether opposite neurons count as different instead of alike.
        algorithm: the algorithm for the tree; see `correlation_deaths`.

    Returns:
        A `Redundancy`. A neuron is (layer, index): its layer's name, or position if the activations
        have no names, and its flat index in the layer, or its channel.

    Raises:
        ValueError: one line that names the argument, or the neuron that is not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> hidden = jnp.array([[0.0, 1.0, 0.0, 5.0], [1.0, 0.0, 2.0, 5.0], [3.0, 1.0, 6.0, 5.0]])
        >>> found = redundancy({"hidden": hidden, "logits": hidden[:, :1] ** 2}, top=1)
        >>> [tuple(neuron) for neuron in found.constant]
        [('hidden', 3)]
        >>> [tuple(neuron) for neuron in found.clusters[0]]
        [('hidden', 0), ('hidden', 2), ('logits', 0)]
        >>> pair = found.pairs[0]
        >>> tuple(pair.first), tuple(pair.second), round(pair.correlation, 4)
        (('hidden', 0), ('hidden', 2), 1.0)

    Reference:
        Single linkage and the minimum spanning tree: Gower and Ross, Applied Statistics 18 (1969).
    """
    _check(activations, threshold, top, distance)
    geometry = Geometry(distance, signed)
    check_sampling(fraction, neurons)
    sampled = sample_layers(
        activations, fraction, said_whole(whole, fraction), neurons, layers=layers
    )
    rows = tuple(
        Neuron(name, index)
        for name, layer in sampled.items()
        for index in np.asarray(layer.places).tolist()
    )
    points = points_of(list(sampled.values()))
    unit = geometry.rows(points)
    _finite(unit, rows)
    constant = np.asarray(is_constant(unit))
    tree = cloud_tree(points, distance=distance, signed=signed, algorithm=algorithm)
    tree = jax.tree.map(np.asarray, tree)
    close = tree.deaths <= 1 - threshold + 8 * np.finfo(np.float32).eps
    groups = _clusters(len(rows), tree.edges[close])
    inside = np.zeros(len(rows), bool)
    inside[[row for group in groups for row in group]] = True
    ends = np.cumsum([0, *(layer.values.shape[1] for layer in sampled.values())])
    return Redundancy(
        threshold=threshold,
        geometry=geometry,
        examples=points.shape[1],
        layers=tuple(
            LayerCount(name, int(b - a), int(constant[a:b].sum()), int(inside[a:b].sum()))
            for name, a, b in zip(sampled, ends, ends[1:], strict=False)
        ),
        constant=tuple(rows[row] for row in np.flatnonzero(constant)),
        pairs=_pairs(unit, rows, top, signed),
        clusters=tuple(tuple(rows[row] for row in group) for group in groups),
        neurons=rows,
        tree=tree,
    )


def _check(activations: PyTree, threshold: float, top: int, distance: str) -> None:
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(activations)):
        raise ValueError("activations: redundancy returns Python values; call it outside of jit")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold: {threshold} is not in (0, 1]")
    if top < 0:
        raise ValueError(f"top: {top} is below 0")
    if distance not in ("correlation", "cosine"):
        raise ValueError(f"distance: {distance!r} is not one of correlation, cosine")


def _finite(unit: jax.Array, rows: Sequence[Neuron]) -> None:
    wrong = np.flatnonzero(~np.isfinite(unit).all(1))
    if len(wrong):
        layer, index = rows[wrong[0]]
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise ValueError(
            f"activations: neuron {index} of layer {layer!r} has a value that is not finite{more}"
        )


def _clusters(n: int, edges: np.ndarray) -> list[np.ndarray]:
    """Components of more than one vertex, the largest first."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(edges)), edges.T), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    return sorted((g for g in groups if len(g) > 1), key=lambda group: (-len(group), group[0]))


def _pairs(
    unit: jax.Array, rows: Sequence[Neuron], top: int, signed: bool
) -> tuple[Pair, ...]:
    n = len(rows)
    count = min(top, n * (n - 1) // 2)
    if not count:
        return ()
    strongest = strongest_pairs(unit, count, signed=signed)
    columns = (np.asarray(column).tolist() for column in strongest)
    return tuple(
        Pair(rows[i], rows[j], min(size, 1.0))
        for size, i, j in zip(*columns, strict=True)
        if size > 0
    )
