"""The minimum spanning tree of a complete graph given by its matrix of distances."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int32

from persist_jax.kernels.arguments import as_distances
from persist_jax.kernels.boruvka import boruvka_edges
from persist_jax.kernels.ordering import in_order
from persist_jax.kernels.prim import prim_edges

Search = Callable[[Float[Array, "n n"]], Int32[Array, "n_minus_1 2"]]


@as_distances
def minimum_spanning_tree(
    distances: Float[Array, "n n"], *, algorithm: str = "auto"
) -> Int32[Array, "n_minus_1 2"]:
    """The unique minimum spanning tree: edges are compared by (weight, lower, higher index).

    Infinite weights are weights like any other; NaN comes after them, so it is chosen only where
    nothing else joins two parts.

    Args:
        distances: symmetric; which triangle is read is not defined, the diagonal is not read.
        algorithm: "prim", "boruvka", or "auto" for the faster one. All give the same edges.

    Returns:
        The n - 1 edges (i, j) with i < j, rows ascending by (weight, i, j).

    Raises:
        ValueError: if `distances` is not a non-empty square matrix, or `algorithm` is unknown.

    Example:
        >>> minimum_spanning_tree(jnp.array([[0.0, 2.0, 1.0], [2.0, 0.0, 3.0], [1.0, 3.0, 0.0]]))
        Array([[0, 2],
               [0, 1]], dtype=int32)

    Reference:
        Boruvka 1926; Prim, Shortest connection networks and some generalizations, 1957.
    """
    edges = tree_edges(distances, algorithm)
    return in_order(distances[edges[:, 0], edges[:, 1]], edges)[1]


def tree_edges(
    distances: Float[Array, "n n"], algorithm: str = "auto"
) -> Int32[Array, "n_minus_1 2"]:
    """The edges (lower, higher) of the minimum spanning tree in no particular order."""
    if algorithm not in SEARCHES:
        raise ValueError(f"algorithm {algorithm!r} is not one of {', '.join(SEARCHES)}")
    if distances.shape[0] == 1:
        return jnp.zeros((0, 2), jnp.int32)
    return SEARCHES[algorithm](lax.stop_gradient(distances))


@jax.custom_batching.custom_vmap
def _prim(distances):
    return prim_edges(distances)


@_prim.def_vmap
def _prim_lanes(axis_size, in_batched, distances):
    # One lane after another: a batched step would touch every lane's matrix in turn.
    return lax.map(_prim, distances), True


@jax.custom_batching.custom_vmap
def _auto(distances):
    return lax.platform_dependent(distances, cpu=prim_edges, default=boruvka_edges)


@_auto.def_vmap
def _auto_lanes(axis_size, in_batched, distances):
    def one_by_one(distances):
        return lax.map(_auto, distances)

    return lax.platform_dependent(
        distances, cpu=one_by_one, default=jax.vmap(boruvka_edges)
    ), True


SEARCHES: dict[str, Search] = {"auto": _auto, "prim": _prim, "boruvka": boruvka_edges}
