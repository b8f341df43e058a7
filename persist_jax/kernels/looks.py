"""Looks: from a row at one group of vertices, for the nearest one outside its component."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from persist_jax.kernels import gpu
from persist_jax.kernels.distances import one_minus_absolute

# Vertices in a group from which on the rows that look at one group do it in one product. Of smaller
# groups each row takes its own: a product of few of them is no dearer than to start it (measured on
# a CPU, n = 16 384 and 65 546).
_SHARED = 128
# Rows that look at groups of their own together: what is gathered for them stays in the cache.
_ROWS_AT_ONCE = 256


class Candidates(NamedTuple):
    """The best known edge of every vertex out of its component (weight inf, target m: none)."""

    weight: Float[Array, " m"]
    target: Int[Array, " m"]


class Bounds(NamedTuple):
    """Lower bounds on the edges of a share of the rows, their candidates excepted.

    `table[r, g]` is at most the weight of every edge that leads from row r to group g and out of
    the component of r. `least` is the minimum over the groups, `group` the first one with it.
    """

    table: Float[Array, "rows groups"]
    least: Float[Array, " rows"]
    group: Int[Array, " rows"]


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


def first_minimum(table: Float[Array, "rows k"]) -> tuple[Float[Array, " rows"], Array]:
    """The minimum of every row and the first column that has it."""
    least = table.min(1)
    columns = lax.broadcasted_iota(jnp.int32, table.shape, 1)
    # `argmin` is a reduction over pairs, which XLA does not vectorise on the CPU.
    return least, jnp.where(table == least[:, None], columns, table.shape[1]).min(1)


def look_at_groups(
    unit: Float[Array, "m b"],
    labels: Int[Array, " m"],
    bounds: Bounds,
    candidates: Candidates,
    active: Bool[Array, " rows"],
    tiling: Tiling,
) -> tuple[Bounds, Candidates]:
    """Every active row's look at its least bounded group."""

    def together(unit, labels, bounds, candidates, active):
        return _look_from_all(unit, labels, bounds, candidates, active, tiling)

    def in_turn(unit, labels, bounds, candidates, active):
        return _look_in_turn(unit, labels, bounds, candidates, active, tiling)

    known = unit, labels, bounds, candidates, active
    if gpu.has_search_kernels_for(unit, tiling.size):
        return lax.platform_dependent(*known, cuda=together, default=in_turn)
    return in_turn(*known)


def _look_from_all(unit, labels, bounds, candidates, active, tiling):
    """One launch for the rows of the share, those that are not active among them."""
    rows, first, size = tiling.rows, tiling.first, tiling.size
    own, label, old_weight, old_target = (
        lax.dynamic_slice_in_dim(array, first, rows) for array in (unit, labels, *candidates)
    )
    weight, target, rest = gpu.nearest_in_groups(
        own, label, bounds.group, active, unit, labels, tiling.n, size
    )
    better, back, left = _outcome(old_weight, old_target, weight, target, rest)
    row = jnp.where(active, jnp.arange(rows, dtype=jnp.int32), rows)
    table = bounds.table.at[row, old_target // size].min(back, mode="drop")
    table = table.at[row, bounds.group].set(left, mode="drop")
    least, group = first_minimum(table)
    bounds = Bounds(
        table, jnp.where(active, least, bounds.least), jnp.where(active, group, bounds.group)
    )
    better &= active
    found = jnp.where(better, weight, old_weight), jnp.where(better, target, old_target)
    candidates = Candidates(
        *(
            lax.dynamic_update_slice_in_dim(all_, new, first, 0)
            for all_, new in zip(candidates, found, strict=True)
        )
    )
    return bounds, candidates


def _look_in_turn(unit, labels, bounds, candidates, active, tiling):
    """A loop over jobs of some active rows each."""
    if tiling.size >= _SHARED:
        jobs = _in_jobs(active, bounds, tiling)

        def look(k, known):
            return _look(unit, labels, *known, *jobs.number(k), tiling)

        return lax.fori_loop(0, jobs.count, look, (bounds, candidates))
    rows, chunk = tiling.rows, min(max(_ROWS_AT_ONCE, tiling.chunk), tiling.rows)
    (waiting,) = jnp.nonzero(active, size=-(-rows // chunk) * chunk, fill_value=rows)
    waiting = waiting.astype(jnp.int32)

    def look_apart(k, known):
        row = lax.dynamic_slice_in_dim(waiting, k * chunk, chunk)
        group = known[0].group[jnp.minimum(row, rows - 1)]
        return _look(unit, labels, *known, row, group, tiling)

    count = active.sum(dtype=jnp.int32)
    return lax.fori_loop(0, -(-count // chunk), look_apart, (bounds, candidates))


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
    """Look at a group, one for all or one for each, from every row in `row`.

    Numbers from `rows` on are no rows.
    """
    m, size = labels.shape[0], tiling.size
    inside = jnp.minimum(row, tiling.rows - 1)
    vertex = tiling.first + inside
    weight, target, rest = _nearest_in_group(unit, labels, vertex, group, tiling)
    old_weight, old_target = candidates.weight[vertex], candidates.target[vertex]
    better, back, left = _outcome(old_weight, old_target, weight, target, rest)
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


def _outcome(old_weight, old_target, weight, target, rest):
    """Whether a look found a better candidate, and the bounds on the old one's group and this one.

    A candidate is excepted from its group's bound, so one that is given up goes back into it.
    """
    better = (weight < old_weight) | ((weight == old_weight) & (target < old_target))
    back = jnp.where(better, old_weight, jnp.inf)
    left = jnp.where(better | (target == old_target), rest, weight)
    return better, back, left


def _nearest_in_group(unit, labels, vertex, group, tiling):
    """The nearest vertex of the group outside the component, and how far the next one is."""
    place = jnp.arange(tiling.size, dtype=jnp.int32)[None]
    target = jnp.reshape(group, (-1, 1)) * tiling.size + place
    if group.ndim:
        blocks = unit.reshape(-1, tiling.size, unit.shape[1])[group]
        product = jnp.einsum("rsb,rb->rs", blocks, unit[vertex], precision=lax.Precision.HIGHEST)
    else:
        block = lax.dynamic_slice_in_dim(unit, group * tiling.size, tiling.size)
        product = jnp.matmul(unit[vertex], block.T, precision=lax.Precision.HIGHEST)
    leaving = (labels[target] != labels[vertex][:, None]) & (target < tiling.n)
    gap = jnp.where(leaving, one_minus_absolute(product), jnp.inf)
    weight, first = first_minimum(gap)
    rest = jnp.where(place == first[:, None], jnp.inf, gap).min(1)
    return weight, group * tiling.size + first, rest
