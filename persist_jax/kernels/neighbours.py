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

from persist_jax.kernels.distances import one_minus_absolute
from persist_jax.kernels.sharding import varying_as


class Candidates(NamedTuple):
    """The best known edge of every vertex out of its component (weight inf, target m: none)."""

    weight: Float[Array, " m"]
    target: Int[Array, " m"]


class Edges(NamedTuple):
    """One edge for every component label, `lower < higher` (weight inf: none)."""

    weight: Float[Array, " m"]
    lower: Int[Array, " m"]
    higher: Int[Array, " m"]


class Bounds(NamedTuple):
    """Lower bounds on the edges of a share of the rows, their candidates excepted.

    `table[r, g]` is at most the weight of every edge that leads from row r to group g and out of
    the component of r. `least` is the minimum over the groups, `group` the first one with it.
    """

    table: Float[Array, "rows groups"]
    least: Float[Array, " rows"]
    group: Int[Array, " rows"]


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


class Tiling(NamedTuple):
    """Which rows this device searches, and how the work is cut.

    `tile` rows and columns of the correlation are formed at once in a pass; `size` vertices are a
    group; `chunk` rows are looked at together.
    """

    n: int
    tile: int
    size: int
    chunk: int
    rows: int
    first: int | Int[Array, ""]


def distances_of(products: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`1 - |corr|`, and 0 where that is not above the rounding of the product itself.

    So copies of a point are equally far from it whichever product they come from, and the order
    of the vertices decides between them at once.
    """
    gap = one_minus_absolute(products)
    return jnp.where(gap < 8 * jnp.finfo(gap.dtype).eps, 0, gap)


def renew(
    bounds: Bounds, unit: Float[Array, "m b"], labels: Int[Array, " m"], due: Array, tiling: Tiling
) -> Bounds:
    """The bounds made again if `due`, else as they are.

    They are the distances from every row to the nearest vertex of every group, own component left
    out.
    """
    m, tile, size = unit.shape[0], tiling.tile, tiling.size
    tiles, width = m // tile, tile // size
    whole = tiling.rows == m
    pairs = np.triu_indices(tiles) if whole else np.indices((tiling.rows // tile, tiles))
    pairs = jnp.asarray(np.reshape(pairs, (2, -1)), jnp.int32)

    def add_tile(k, table):
        i, j = pairs[0, k] * tile, pairs[1, k] * tile
        left, right = (lax.dynamic_slice_in_dim(unit, x, tile) for x in (tiling.first + i, j))
        label, other = (lax.dynamic_slice_in_dim(labels, x, tile) for x in (tiling.first + i, j))
        gap = distances_of(jnp.matmul(left, right.T, precision=lax.Precision.HIGHEST))
        gap = jnp.where(label[:, None] == other[None], jnp.inf, gap)
        nearest = gap.reshape(tile, width, size).min(2)
        table = lax.dynamic_update_slice(table, nearest, (i, j // size))
        if not whole:
            return table
        # The same tile read by columns is tile (j, i): half of the products are enough.
        nearest = gap.reshape(width, size, tile).min(1).T
        return lax.dynamic_update_slice(table, nearest, (j, i // size))

    def least():
        # All edges of a constant row weigh 1, so the first in order leads to vertex 0. Once it is
        # taken, vertex 0 offers a better edge than the row ever could: the row needs no search.
        rows = lax.dynamic_slice_in_dim(unit, tiling.first, tiling.rows)
        constant = (rows == 0).all(1) & (tiling.first + jnp.arange(tiling.rows) > 0)
        least, group = first_minimum(table)
        return jnp.where(constant, jnp.inf, least), group

    # No trip leaves the table where it is; a `cond` would copy it.
    table = lax.fori_loop(0, jnp.where(due, pairs.shape[1], 0), add_tile, bounds.table)
    return Bounds(table, *lax.cond(due, least, lambda: (bounds.least, bounds.group)))


def first_minimum(table: Float[Array, "rows k"]) -> tuple[Float[Array, " rows"], Array]:
    """The minimum of every row and the first column that has it."""
    least = table.min(1)
    columns = lax.broadcasted_iota(jnp.int32, table.shape, 1)
    # `argmin` is a reduction over pairs, which XLA does not vectorise on the CPU.
    return least, jnp.where(table == least[:, None], columns, table.shape[1]).min(1)


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
        jobs = _in_jobs(state.active, state.bounds, tiling)

        def look(k, known):
            return _look(unit, labels, *known, *jobs.number(k), tiling)

        known = lax.fori_loop(0, jobs.count, look, (state.bounds, state.candidates))
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


class _Jobs(NamedTuple):
    """Rows in the order of the groups that they look at, cut so that a job has one group."""

    rows: Int[Array, " padded"]
    firsts: Int[Array, " groups"]  # where the rows of each group begin
    sizes: Int[Array, " groups"]
    ends: Int[Array, " groups"]  # how many jobs there are up to the end of each group
    chunk: int

    @property
    def count(self) -> Int[Array, ""]:
        return self.ends[-1]

    def number(self, k: Int[Array, ""]) -> tuple[Int[Array, " chunk"], Int[Array, ""]]:
        """The rows of a job, with numbers past all rows to fill up, and their group."""
        group = (self.ends <= k).sum(dtype=jnp.int32)
        done = k - jnp.where(group > 0, self.ends[group - 1], 0)
        first = self.firsts[group] + done * self.chunk
        rows = lax.dynamic_slice_in_dim(self.rows, first, self.chunk)
        inside = done * self.chunk + jnp.arange(self.chunk) < self.sizes[group]
        return jnp.where(inside, rows, self.rows.shape[0]), group


def _in_jobs(active: Bool[Array, " rows"], bounds: Bounds, tiling: Tiling) -> _Jobs:
    """What the active rows look at: one product of a job's rows with the vertices of its group."""
    groups = bounds.table.shape[1]
    wanted = jnp.where(active, bounds.group, groups)
    sizes = jnp.zeros(groups + 1, jnp.int32).at[wanted].add(1)[:groups]
    vertex = jnp.arange(tiling.rows, dtype=jnp.int32)
    _, rows = lax.sort((wanted, vertex), num_keys=1, is_stable=False)
    ends = jnp.cumsum(-(-sizes // tiling.chunk))
    # A job's slice may go past the last row.
    rows = jnp.pad(rows, (0, tiling.chunk))
    return _Jobs(rows, jnp.cumsum(sizes) - sizes, sizes, ends, tiling.chunk)


def _look(unit, labels, bounds, candidates, row, group, tiling):
    """Look at a group for every row in `row`; numbers from `rows` on mean none."""
    m, size = labels.shape[0], tiling.size
    inside = jnp.minimum(row, tiling.rows - 1)
    vertex = tiling.first + inside
    weight, target, rest = _nearest_in_group(unit, labels, vertex, group, tiling)
    old_weight, old_target = candidates.weight[vertex], candidates.target[vertex]
    better = (weight < old_weight) | ((weight == old_weight) & (target < old_target))
    # A candidate is excepted from its group's bound, so one that is given up goes back into it.
    back = jnp.where(better, old_weight, jnp.inf)
    left = jnp.where(better | (target == old_target), rest, weight)
    table = bounds.table.at[row, old_target // size].min(back, mode="drop")
    table = table.at[row, group].set(left, mode="drop")
    least, first = first_minimum(table[inside])
    bounds = Bounds(
        table,
        bounds.least.at[row].set(least, mode="drop"),
        bounds.group.at[row].set(first, mode="drop"),
    )
    vertex = jnp.where(row < tiling.rows, vertex, m)
    candidates = Candidates(
        candidates.weight.at[vertex].set(jnp.where(better, weight, old_weight), mode="drop"),
        candidates.target.at[vertex].set(jnp.where(better, target, old_target), mode="drop"),
    )
    return bounds, candidates


def _nearest_in_group(unit, labels, vertex, group, tiling):
    """The nearest vertex of the group outside the component, and how far the next one is."""
    first = group * tiling.size
    block = lax.dynamic_slice_in_dim(unit, first, tiling.size)
    product = jnp.matmul(unit[vertex], block.T, precision=lax.Precision.HIGHEST)
    label = lax.dynamic_slice_in_dim(labels, first, tiling.size)
    place = jnp.arange(tiling.size, dtype=jnp.int32)
    leaving = (label[None] != labels[vertex][:, None]) & (first + place < tiling.n)[None]
    gap = jnp.where(leaving, distances_of(product), jnp.inf)
    weight, column = first_minimum(gap)
    rest = jnp.where(place[None] == column[:, None], jnp.inf, gap).min(1)
    return weight, first + column, rest
