"""Prim's algorithm: n - 1 dependent steps over one row each, the faster one on a CPU."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int32

from persist_jax.kernels.ordering import ordered_keys


class _Frontier(NamedTuple):
    """For every vertex outside the tree its first edge into the tree, in the order of edges."""

    keys: Array
    parents: Int32[Array, " n"]
    edges: Int32[Array, "n_minus_1 2"]


def prim_edges(distances: Float[Array, "n n"]) -> Int32[Array, "n_minus_1 2"]:
    """The edges (lower, higher) of the minimum spanning tree, in the order in which Prim adds them.

    Args:
        distances: symmetric; the diagonal is not read.

    Returns:
        n - 1 edges.
    """
    n = distances.shape[0]
    index = jnp.arange(n, dtype=jnp.int32)
    keys = ordered_keys(distances[0])
    visited = jnp.iinfo(keys.dtype).max
    frontier = _Frontier(
        keys=keys.at[0].set(visited),
        parents=jnp.zeros(n, jnp.int32),
        edges=jnp.zeros((n - 1, 2), jnp.int32),
    )

    def step(k, frontier):
        keys, parents, edges = frontier
        first = keys == keys.min()
        lowers, highers = jnp.minimum(index, parents), jnp.maximum(index, parents)
        lower = jnp.where(first, lowers, n).min()
        higher = jnp.where(first & (lowers == lower), highers, n).min()
        new = jnp.where(keys[lower] == visited, higher, lower)
        row = ordered_keys(distances[new])
        closer = (row < keys) | ((row == keys) & (new < parents))
        closer &= (keys != visited) & (index != new)
        return _Frontier(
            keys=jnp.where(closer, row, keys).at[new].set(visited),
            parents=jnp.where(closer, new, parents),
            edges=edges.at[k].set(jnp.stack([lower, higher])),
        )

    return lax.fori_loop(0, n - 1, step, frontier).edges
