"""The nearest neighbour outside its component of every vertex, without a distance matrix.

The vertices are cut into groups of consecutive ones. One pass over tiles of the correlation keeps
a table of the least distance from every row to every group, (n, n / size) numbers, and no index.
That is a lower bound on what the group can offer in every later round, so that a group has to be
looked at again, one row times `size` columns, only where its bound beats the best edge which the
row's component has found so far.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from persist_jax.kernels import gpu
from persist_jax.kernels.distances import one_minus_absolute
from persist_jax.kernels.looks import (
    Bounds,
    Candidates,
    Tiling,
    first_minimum,
    look_at_groups,
)
from persist_jax.kernels.sharding import varying_as


class Edges(NamedTuple):
    """One edge for every component label, `lower < higher` (weight inf: none)."""

    weight: Float[Array, " m"]
    lower: Int[Array, " m"]
    higher: Int[Array, " m"]


class RoundState(NamedTuple):
    """The state of one round's search.

    `best` is the least candidate of every component, `active` says which rows are still searched,
    and `looked` counts the pairs (row, group) looked at.
    """

    bounds: Bounds
    candidates: Candidates
    best: Edges
    active: Bool[Array, " rows"]
    looked: Int[Array, ""]


def renew(
    bounds: Bounds, unit: Float[Array, "m b"], labels: Int[Array, " m"], due: Array, tiling: Tiling
) -> Bounds:
    """The bounds made again if `due`, else as they are; own components are left out.

    Our kernels make them of products in bfloat16, a little below the distances to the nearest
    vertex of each group. Elsewhere they are these distances.
    """

    def screened(table):
        rows, label = (
            lax.dynamic_slice_in_dim(array, tiling.first, tiling.rows) for array in (unit, labels)
        )
        return gpu.group_bounds(rows, label, unit, labels, tiling.n, tiling.size)

    def on_gpu(table):
        return lax.fori_loop(0, due.astype(jnp.int32), lambda _, table: screened(table), table)

    def by_tiles(table):
        return _table_by_tiles(table, unit, labels, due, tiling)

    def least():
        # All edges of a constant row weigh 1, so the first in order leads to vertex 0. Once it is
        # taken, vertex 0 offers a better edge than the row ever could: the row needs no search.
        rows = lax.dynamic_slice_in_dim(unit, tiling.first, tiling.rows)
        constant = (rows == 0).all(1) & (tiling.first + jnp.arange(tiling.rows) > 0)
        least, group = first_minimum(table)
        return jnp.where(constant, jnp.inf, least), group

    if gpu.has_search_kernels_for(unit, tiling.size):
        table = lax.platform_dependent(bounds.table, cuda=on_gpu, default=by_tiles)
    else:
        table = by_tiles(bounds.table)
    return Bounds(table, *lax.cond(due, least, lambda: (bounds.least, bounds.group)))


def _table_by_tiles(table, unit, labels, due, tiling):
    """The distances from every row to the nearest vertex of every group, if they are due."""
    m, tile, size = unit.shape[0], tiling.tile, tiling.size
    tiles, width = m // tile, tile // size
    whole = tiling.rows == m
    pairs = np.triu_indices(tiles) if whole else np.indices((tiling.rows // tile, tiles))
    pairs = jnp.asarray(np.reshape(pairs, (2, -1)), jnp.int32)

    def add_tile(k, table):
        i, j = pairs[0, k] * tile, pairs[1, k] * tile
        left, right = (lax.dynamic_slice_in_dim(unit, x, tile) for x in (tiling.first + i, j))
        label, other = (lax.dynamic_slice_in_dim(labels, x, tile) for x in (tiling.first + i, j))
        gap = one_minus_absolute(jnp.matmul(left, right.T, precision=lax.Precision.HIGHEST))
        gap = jnp.where(label[:, None] == other[None], jnp.inf, gap)
        nearest = gap.reshape(tile, width, size).min(2)
        table = lax.dynamic_update_slice(table, nearest, (i, j // size))
        if not whole:
            return table
        # The same tile read by columns is tile (j, i): half of the products are enough.
        nearest = gap.reshape(width, size, tile).min(1).T
        return lax.dynamic_update_slice(table, nearest, (j, i // size))

    # No trip leaves the table where it is; a `cond` would copy it.
    return lax.fori_loop(0, jnp.where(due, pairs.shape[1], 0), add_tile, table)


def component_best(labels: Int[Array, " m"], candidates: Candidates) -> Edges:
    """The least candidate of every component by (weight, lower vertex, higher vertex)."""
    m = labels.shape[0]
    vertex = jnp.arange(m, dtype=jnp.int32)
    lower = jnp.minimum(vertex, candidates.target)
    higher = jnp.maximum(vertex, candidates.target)
    weight = jnp.full_like(candidates.weight, jnp.inf).at[labels].min(candidates.weight)
    tied = candidates.weight == weight[labels]
    least_lower = jnp.full_like(lower, m).at[labels].min(jnp.where(tied, lower, m))
    tied &= lower == least_lower[labels]
    least_higher = jnp.full_like(higher, m).at[labels].min(jnp.where(tied, higher, m))
    return Edges(weight, least_lower, least_higher)


def unsettled(
    labels: Int[Array, " m"], bounds: Bounds, candidates: Candidates, best: Edges, tiling: Tiling
) -> Bool[Array, " rows"]:
    """Which rows may have an edge that beats the best known one of their component."""
    vertex = tiling.first + jnp.arange(tiling.rows, dtype=jnp.int32)
    weight, target = candidates.weight[vertex], candidates.target[vertex]
    best_weight, best_lower = best.weight[labels[vertex]], best.lower[labels[vertex]]
    # Of equally long edges the one with the lowest vertices wins, so of a row's the lowest target.
    # Groups are in the order of the vertices: the first one looked at settles such a tie.
    earlier = jnp.minimum(vertex, bounds.group * tiling.size) <= best_lower
    earlier &= (weight > bounds.least) | (bounds.group < target // tiling.size)
    tied = (bounds.least == best_weight) & jnp.isfinite(best_weight)
    return (bounds.least < best_weight) | (tied & earlier)


def search(
    unit: Float[Array, "m b"],
    labels: Int[Array, " m"],
    bounds: Bounds,
    candidates: Candidates,
    skipped: Int[Array, ""],
    most: Int[Array, ""],
    tiling: Tiling,
) -> RoundState:
    """Look at groups until every row of the share is settled, or at about `most` of them.

    The rows of component `skipped` are left as they are.
    """
    label = lax.dynamic_slice_in_dim(labels, tiling.first, tiling.rows)

    def renewed(bounds, candidates, looked):
        best = component_best(labels, candidates)
        active = (label != skipped) & unsettled(labels, bounds, candidates, best, tiling)
        return RoundState(bounds, candidates, best, active, looked)

    def step(state):
        known = look_at_groups(unit, labels, state.bounds, state.candidates, state.active, tiling)
        return renewed(*known, state.looked + state.active.sum(dtype=jnp.int32))

    start = renewed(bounds, candidates, varying_as(jnp.int32(0), bounds.table))
    return lax.while_loop(lambda state: state.active.any() & (state.looked < most), step, start)


def looks_left(found: RoundState, labels: Int[Array, " m"], tiling: Tiling) -> Int[Array, ""]:
    """How many groups could still beat the best known edges of the rows' components."""

    def count():
        label = lax.dynamic_slice_in_dim(labels, tiling.first, tiling.rows)
        better = found.bounds.table < found.best.weight[label][:, None]
        return (better & found.active[:, None]).sum(dtype=jnp.int32)

    return lax.cond(found.active.any(), count, lambda: varying_as(jnp.int32(0), found.active))
