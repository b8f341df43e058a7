"""Boruvka's algorithm: at most ceil(log2 n) rounds over the whole matrix, for wide devices."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int32

from persist_jax.kernels.ordering import ordered_keys
from persist_jax.kernels.sharding import varying_as

# Above every 32-bit weight's key; what the tree is with a NaN does not matter.
_NAN = jnp.iinfo(jnp.int32).max - 1


class _Forest(NamedTuple):
    """`component[v]` is the root of v's tree; a root keeps the edge that ended its being one."""

    component: Int32[Array, " n"]
    lower: Int32[Array, " n"]
    higher: Int32[Array, " n"]


def boruvka_edges(
    distances: Float[Array, "n n"],
) -> tuple[Int32[Array, "n-1 2"], Bool[Array, ""]]:
    """The edges (lower, higher) of the minimum spanning tree, in no particular order.

    The number of rounds is fixed, so no device waits for a decision of the host; rounds after the
    last needed one change nothing.

    Args:
        distances: symmetric; the diagonal is not read.

    Returns:
        n - 1 edges, and whether no distance is NaN; where one is, the edges mean nothing.
    """
    n = distances.shape[0]
    index = jnp.arange(n, dtype=jnp.int32)
    nothing = jnp.full(n, n, jnp.int32)
    forest = varying_as(_Forest(component=index, lower=nothing, higher=nothing), distances)

    def round_(_, forest):
        return _join(forest, *_nearest_outside(distances, forest.component))

    forest = lax.fori_loop(0, (n - 1).bit_length(), round_, forest)
    # The last root never joined another tree: its slot is the one to leave out.
    slots = jnp.nonzero(forest.lower < n, size=n - 1)[0]
    edges = jnp.stack([forest.lower[slots], forest.higher[slots]], 1)
    diagonal = jnp.eye(n, dtype=bool)
    return edges, ~(jnp.isnan(distances) & ~diagonal).any()


def _nearest_outside(
    distances: Float[Array, "n n"], component: Int32[Array, " n"]
) -> tuple[Array, Int32[Array, " n"]]:
    """Every vertex's first edge out of its component, as its key and the other end."""
    outside = component[:, None] != component[None]
    keys = ordered_keys(distances, nan=_NAN)
    keys = jnp.where(outside, keys, jnp.iinfo(keys.dtype).max)
    return lax.platform_dependent(keys, cpu=_least_in_two_passes, default=_least_in_one_pass)


def _least_in_two_passes(keys):
    """Every row's least key and where it is first: on a CPU `argmin` does not vectorise."""
    least = keys.min(1)
    index = jnp.arange(keys.shape[1], dtype=jnp.int32)
    return least, jnp.where(keys == least[:, None], index[None], keys.shape[1]).min(1)


def _least_in_one_pass(keys):
    """The same for a GPU, which a second reading of the matrix costs more than comparing pairs."""
    index = lax.broadcasted_iota(jnp.int32, keys.shape, 1)

    def first(one, other):
        earlier = (one[0] < other[0]) | ((one[0] == other[0]) & (one[1] < other[1]))
        return tuple(jnp.where(earlier, *pair) for pair in zip(one, other, strict=True))

    beyond = tuple(pair.dtype.type(jnp.iinfo(pair.dtype).max) for pair in (keys, index))
    return tuple(lax.reduce((keys, index), beyond, first, (1,)))


def _join(forest: _Forest, key: Array, nearest: Int32[Array, " n"]) -> _Forest:
    """Add every component's first outgoing edge, given those of its vertices."""
    component = forest.component
    n = component.shape[0]
    index = jnp.arange(n, dtype=jnp.int32)
    none = jnp.iinfo(key.dtype).max
    least = jnp.full(n, none, key.dtype).at[component].min(key)
    first = (key == least[component]) & (key != none)

    lowers = jnp.where(first, jnp.minimum(index, nearest), n)
    lower = jnp.full(n, n, jnp.int32).at[component].min(lowers)
    first &= lowers == lower[component]
    highers = jnp.where(first, jnp.maximum(index, nearest), n)
    higher = jnp.full(n, n, jnp.int32).at[component].min(highers)

    joined = lower < n
    ends = component[jnp.where(joined, lower, 0)], component[jnp.where(joined, higher, 0)]
    target = jnp.where(joined, jnp.where(ends[0] == index, ends[1], ends[0]), index)
    # Two components that choose the same edge point at each other: the lower one stays a root.
    mutual = (target[target] == index) & (index < target)
    target = jnp.where(mutual, index, target)
    moved = target != index
    for _ in range((n - 1).bit_length()):
        target = target[target]
    return _Forest(
        component=target[component],
        lower=jnp.where(moved, lower, forest.lower),
        higher=jnp.where(moved, higher, forest.higher),
    )
