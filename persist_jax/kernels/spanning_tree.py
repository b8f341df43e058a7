"""The minimum spanning tree of a complete graph given by its matrix of distances."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int32

from persist_jax.kernels import gpu
from persist_jax.kernels.arguments import as_distances
from persist_jax.kernels.batching import by_platform
from persist_jax.kernels.boruvka import boruvka_edges
from persist_jax.kernels.compilation import as_one_kernel
from persist_jax.kernels.ordering import in_order
from persist_jax.kernels.prim import MOST_POINTS, prim_parents

TreeAlgorithm = Callable[[Float[Array, "n n"]], tuple[Int32[Array, "n-1 2"], Bool[Array, ""]]]


@as_distances(condensed=False)
def minimum_spanning_tree(
    distances: Float[Array, "n n"], *, algorithm: str = "auto"
) -> Int32[Array, "n-1 2"]:
    """The unique minimum spanning tree: edges are compared by (weight, lower, higher index).

    Infinite weights are weights like any other. A matrix with a NaN off the diagonal has no order
    of weights: its edges are those of the star at vertex 0.

    Args:
        distances: symmetric; which triangle is read is not defined, the diagonal is not read.
        algorithm: "prim", "boruvka", or "auto" for the faster one. All give the same edges.

    Returns:
        The n - 1 edges (i, j) with i < j, rows ascending by (weight, i, j).

    Raises:
        ValueError: if `distances` is not a non-empty square matrix, `algorithm` is unknown, or the
            first row and column of a matrix at hand are clearly not the same.

    Example:
        >>> minimum_spanning_tree(jnp.array([[0.0, 2.0, 1.0], [2.0, 0.0, 3.0], [1.0, 3.0, 0.0]]))
        Array([[0, 2],
               [0, 1]], dtype=int32)

    Reference:
        Boruvka 1926; Prim, Shortest connection networks and some generalizations, 1957.
    """
    edges, _ = tree_edges(distances, algorithm)
    return in_order(distances[edges[:, 0], edges[:, 1]], edges)[1]


def tree_edges(
    distances: Float[Array, "n n"], algorithm: str = "auto"
) -> tuple[Int32[Array, "n-1 2"], Bool[Array, ""]]:
    """The edges (lower, higher) in no particular order, and whether no distance is NaN.

    Where one is there is no order of weights, and the edges are those of the star at vertex 0.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm {algorithm!r} is not one of {', '.join(ALGORITHMS)}")
    n = distances.shape[0]
    if n == 1:
        return jnp.zeros((0, 2), jnp.int32), jnp.array(True)
    edges, comparable = ALGORITHMS[algorithm](lax.stop_gradient(distances))
    return jnp.where(comparable, edges, star(n)), comparable


def star(n: int) -> Int32[Array, "edges 2"]:
    """The edges from vertex 0 to every other, the tree where weights have no order."""
    others = jnp.arange(1, n, dtype=jnp.int32)
    return jnp.stack([jnp.zeros_like(others), others], 1)


def _edges_on_cpu(distances):
    # Measured on 2 cores at n = 256 to 8192: Prim is ahead of Boruvka at each.
    if distances.shape[0] > MOST_POINTS:
        return boruvka_edges(distances)
    return _rooted(*as_one_kernel(prim_parents)(distances))


def _prim_edges(distances):
    if distances.shape[0] > MOST_POINTS:
        return boruvka_edges(distances)
    return _rooted(*prim_parents(distances))


def _rooted(parents, comparable):
    vertices = jnp.arange(parents.shape[0], dtype=jnp.int32)
    ends = jnp.minimum(vertices, parents), jnp.maximum(vertices, parents)
    return jnp.stack(ends, 1), comparable


ALGORITHMS: dict[str, TreeAlgorithm] = {
    # Prim takes n - 1 steps that depend on each other: on a GPU 20 times as long as Boruvka.
    "auto": by_platform(_edges_on_cpu, boruvka_edges, gpu.edges_of_matrices),
    "prim": by_platform(_edges_on_cpu, _prim_edges),
    "boruvka": by_platform(boruvka_edges, boruvka_edges, gpu.edges_of_matrices),
}
