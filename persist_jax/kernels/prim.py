"""Prim's algorithm: n - 1 dependent steps over one row each, the faster one on a CPU.

A step is short, so its cost is how many kernels it starts and whether its passes over a row
vectorise. On a CPU the whole loop is asked to be one kernel; three choices follow for the passes.
Minima are taken over a fixed number of columns first, because a reduction to one number does not
vectorise. No edge's number needs an `argmin`, because the edge itself is what is minimised, as
`lower * n + higher`. And a step ends with the new parents and begins with the new keys, because
both read the old keys: so neither array is copied.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int32

from persist_jax.kernels.ordering import ordered_keys

# An edge's number is below n * n, in 32 bits.
MOST_POINTS = 65_535
_WIDTH = 32
# Steps in one turn of the loop: of 1, 2, 4 and 8 measured the best or close to it at each n from 64
# to 4096.
_UNROLL = 2

Keys = Callable[[Array, int], Array]


class _State(NamedTuple):
    """Of every vertex outside the tree, the first edge into the tree.

    `keys` holds its weight, not yet counting edges to `newest`; `parents` its end, counting them.
    """

    keys: Array
    parents: Int32[Array, " m"]
    newest: Int32[Array, ""]


def prim_parents(
    matrix: Float[Array, "n n"], keys: Keys = ordered_keys
) -> tuple[Int32[Array, "n-1"], Bool[Array, ""]]:
    """The minimum spanning tree, rooted at the last vertex.

    Args:
        matrix: the distances, symmetric, or what they are functions of; 2 to 65 535 points. The
            diagonal is not read.
        keys: `(entries, nan)` to integers that compare as the distances do, with `nan` for NaN and
            more than that and its successor for any other.

    Returns:
        The parent of every vertex but the last, and whether no distance is NaN; where one is, the
        parents mean nothing.
    """
    n = matrix.shape[0]
    frontier = _Frontier(matrix, keys)
    keys, parents = frontier.start()
    newest = frontier.nearest(keys, parents)
    state = _State(keys, frontier.parents(keys, parents, newest), newest)

    def step(_, state):
        keys = frontier.keys(state.keys, state.newest)
        newest = frontier.nearest(keys, state.parents)
        return _State(keys, frontier.parents(keys, state.parents, newest), newest)

    state = lax.fori_loop(1, n - 1, step, state, unroll=_UNROLL)
    return state.parents[: n - 1], (state.keys[:n] > frontier.nan).all()


class _Frontier:
    """The steps of Prim on one matrix; arrays over vertices are padded to rows of `width`.

    Vertices in the tree and the padding have the key `visited`, below every weight's; NaN has a
    lower one still, so it sticks to the vertex that it is met at.
    """

    def __init__(self, matrix: Float[Array, "n n"], keys: Keys):
        self.n = matrix.shape[0]
        width = min(_WIDTH, self.n)
        self.size = -(-self.n // width) * width
        self.width = width
        self.index = jnp.arange(self.size, dtype=jnp.int32)
        self.flat = matrix.reshape(-1)
        self.keys_of = keys
        integer = keys(matrix[0], 0).dtype
        self.nan = int(jnp.iinfo(integer).min)
        self.visited = self.nan + 1

    def start(self):
        """Keys and parents of the tree of the last vertex alone."""
        last = self.flat[-self.n :]
        keys = jnp.pad(self.keys_of(last, self.nan), (0, self.size - self.n))
        keys = jnp.where(self.index >= self.n - 1, self.visited, keys)
        return keys, jnp.full(self.size, self.n - 1, jnp.int32)

    def row(self, vertex):
        """The keys of a vertex's row. What is read past its end falls on the padding.

        The last vertex, whose row has nothing after it, is the one where the tree starts.
        """
        start = vertex.astype(jnp.uint32) * jnp.uint32(self.n)
        row = lax.dynamic_slice(self.flat, (start,), (self.size,), allow_negative_indices=False)
        return self.keys_of(row, self.nan)

    def keys(self, keys, newest):
        return jnp.where(self.index == newest, self.visited, jnp.minimum(keys, self.row(newest)))

    def parents(self, keys, parents, newest):
        row = self.row(newest)
        # Of equal edges to one vertex that from the lowest is the first.
        closer = (row < keys) | ((row == keys) & (newest < parents))
        # The newest keeps the parent that it came to the tree with.
        return jnp.where(closer & (self.index != newest), newest, parents)

    def nearest(self, keys, parents):
        """The vertex that the first edge out of the tree leads to."""
        unsigned = jnp.uint32 if keys.dtype == jnp.int32 else jnp.uint64
        # The visited wrap around to above all others.
        least = self.least(lax.bitcast_convert_type(keys - (self.visited + 1), unsigned))
        least = lax.bitcast_convert_type(least, keys.dtype) + (self.visited + 1)
        lower = jnp.minimum(parents, self.index).astype(jnp.uint32)
        higher = jnp.maximum(parents, self.index).astype(jnp.uint32)
        none = jnp.uint32(jnp.iinfo(jnp.uint32).max)
        edge = self.least(jnp.where(keys == least, lower * jnp.uint32(self.n) + higher, none))
        lower, higher = self.ends(edge)
        inside = lax.dynamic_slice(keys, (lower,), (1,), allow_negative_indices=False)[0]
        return jnp.where(inside <= self.visited, higher, lower)

    def ends(self, edge):
        lower, higher = edge // jnp.uint32(self.n), edge % jnp.uint32(self.n)
        return lower.astype(jnp.int32), higher.astype(jnp.int32)

    def least(self, values):
        rows = (values[i : i + self.width] for i in range(0, self.size, self.width))
        return functools.reduce(jnp.minimum, rows).min()
