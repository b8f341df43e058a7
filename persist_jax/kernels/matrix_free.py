"""The minimum spanning tree of points (n, b), without an n x n matrix.

Boruvka's algorithm, with lower bounds that spare a round most pairs of points. The points are split
into at most 1024 groups of consecutive points. `table[row, group]` is a lower bound on the distance
from a row to the nearest point of a group that is not in the component of the row:

                groups                          one round
          +---+---+---+---+
     row  | b | b | b | b |     1. rebuild the table, if too many looks are left        (`_renewed`)
     row  | b | b | b | b |     2. every row looks at the group with its least bound,
     row  | b | b | b | b |        if that beats its component's best known edge; a look
          +---+---+---+---+        finds the nearest point there and a new bound;
        (n, groups) numbers        repeat until no row has such a group                  (`_search`)
                                3. components join along their best edges                 (`_round`)

Components only grow, so a bound stays valid in every later round. One pass over the tiles of the
correlation matrix fills the table; each tile serves its rows and its columns. A look costs one row
times the points of a group. A component joins another only once all of its rows are settled. The
largest component is not searched, because the others join it.

The tree is exact, with edges compared by (distance, lower, higher point). A correlation may differ
in its last bits between two products, so where distances tie up to rounding, the tree may differ
from that of the dense algorithms; the deaths always agree up to rounding. The result is a spanning
tree whatever the rounding, even if a point has a NaN or infinite entry; its deaths, recomputed from
the points, are then NaN. "Distance" means the gap of a `Geometry` here; the real distance increases
with the gap. The numbers of rounds, about log4(n), and of looks depend on the data.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from persist_jax.kernels import gpu
from persist_jax.kernels.devices import on_mesh_of, same_on_all, varying_as, with_lanes
from persist_jax.kernels.distances import is_constant
from persist_jax.kernels.geometry import CORRELATION, Geometry

# (tile, chunk): side of a tile in a pass, and rows that look at one group together. On a CPU a tile
# stays in the cache, and after the first rounds few rows look at the same group. On accelerators
# the number of kernel launches matters; their pair has not been measured.
_CPU_CUT = 1024, 32
_ACCELERATOR_CUT = 4096, 2048

# More groups make a look cheaper and the table of bounds, m * groups numbers, larger.
_MOST_GROUPS = 1024
_LEAST_SIZE = 16

# A pass over all entries of the table takes as long as looks at 1/32 of them (measured on a CPU,
# n = 8192 and 16 384). If more looks than that seem to be left after `_LOOKS_BEFORE_COUNTING` per
# row in one round, the table is rebuilt.
_LOOKS_IN_A_PASS = 1 / 32
_LOOKS_BEFORE_COUNTING = 4
# From this many vertices per group, all rows that look at one group share a product. With smaller
# groups, starting a product costs as much as computing it, so one batch takes rows of different
# groups (measured on a CPU, n = 16 384 and 65 546).
_SHARED = 128
# Rows of such a batch: the groups gathered for them stay in the cache.
_ROWS_AT_ONCE = 256


class _Candidates(NamedTuple):
    """The best known edge of every vertex out of its component (distance inf, target m: none)."""

    distance: Float[Array, " m"]
    target: Int[Array, " m"]


class _Bounds(NamedTuple):
    """Lower bounds on the edges of this device's rows, except each row's candidate.

    `table[r, g]` is at most the distance of every edge that leads from row r to group g and out of
    the component of r. `least` is the minimum over the groups, `group` the first one with it.
    """

    table: Float[Array, "rows groups"]
    least: Float[Array, " rows"]
    group: Int[Array, " rows"]


class _Tiling(NamedTuple):
    """How the work is split.

    There are `n` points, and this device searches `rows` of them from `first` on. A pass forms
    tiles of `tile` x `tile` correlations. A group has `size` vertices, and `chunk` rows look at it
    together.
    """

    geometry: Geometry
    n: int
    tile: int
    size: int
    chunk: int
    rows: int
    first: int | Int[Array, ""]


class _Edges(NamedTuple):
    """One edge for every component label, `lower < higher` (distance inf: none)."""

    distance: Float[Array, " m"]
    lower: Int[Array, " m"]
    higher: Int[Array, " m"]


class Forest(NamedTuple):
    """The state of Boruvka's algorithm.

    A component is labelled by one of its vertices. When a component joins another, its label
    disappears, and `edges` stores the joining edge at that label. `stopped`: this device's last
    search was cut short. `due`: its table of bounds must be rebuilt. `passes` counts its passes
    over the tiles, `looked` the pairs (row, group) that it looked at.
    """

    labels: Int[Array, " m"]
    components: Int[Array, ""]
    edges: _Edges
    bounds: _Bounds
    candidates: _Candidates
    stopped: Bool[Array, ""]
    due: Bool[Array, ""]
    passes: Int[Array, ""]
    looked: Int[Array, ""]


def matrix_free_edges(
    unit: Float[Array, "n b"],
    tile: int | None = None,
    axis_name: str | None = None,
    geometry: Geometry = CORRELATION,
) -> Int[Array, "n-1 2"]:
    """The edges `(i, j)`, `i < j`, of the minimum spanning tree, ascending by (distance, i, j).

    Under `vmap` the trees are found one after another.

    Args:
        unit: the geometry's row of every point. Inside a mapped axis every device holds all rows.
        tile: side of the tiles of correlations; by default a size that suits the platform. It
            changes the tree by rounding at most.
        axis_name: a mapped axis whose devices share the search, each for its part of the rows. All
            devices return the same tree.
        geometry: the distance between points.
    """
    if unit.shape[0] == 1:
        return jnp.zeros((0, 2), jnp.int32)

    def tree(unit):
        edges = same_on_all(grow(unit, tile, axis_name, geometry).edges, unit, axis_name)
        return edges_in_order(edges, unit.shape[0])

    # A batched `while_loop` would run until the slowest tree is done and would copy its table.
    return with_lanes(tree, lax.map)(unit)


def edges_in_order(edges: _Edges, n: int) -> Int[Array, "edges 2"]:
    """The edges that a forest of one component keeps, ascending by (distance, i, j)."""
    _, lower, higher = lax.sort(edges, num_keys=3)
    return jnp.stack([lower, higher], 1)[: n - 1]


def grow(
    unit: Float[Array, "n b"],
    tile: int | None = None,
    axis_name: str | None = None,
    geometry: Geometry = CORRELATION,
) -> Forest:
    """Run Boruvka's algorithm on the rows of points until one component is left."""
    unit = jnp.where(jnp.isfinite(unit), unit, 0)
    tiling, m = _tiling(geometry, unit.shape[0], tile, axis_name)
    unit = jnp.pad(unit, ((0, m - tiling.n), (0, 0)))

    def body(forest):
        return _round(unit, forest, tiling, axis_name)

    start = on_mesh_of(_start(unit, tiling), unit)
    start = varying_as(start, unit, tiling.first)
    return lax.while_loop(lambda forest: forest.components > 1, body, start)


def _tiling(
    geometry: Geometry, n: int, tile: int | None, axis_name: str | None
) -> tuple[_Tiling, int]:
    """How this device's work is split, and the number of vertices including padding."""
    devices = 1 if axis_name is None else lax.axis_size(axis_name)
    usual_tile, chunk = _CPU_CUT if jax.default_backend() == "cpu" else _ACCELERATOR_CUT
    size = _LEAST_SIZE
    while size * _MOST_GROUPS < n:
        size *= 2
    tile = -(-min(tile or usual_tile, -(-n // devices)) // size) * size
    rows = -(-n // (tile * devices)) * tile
    first = 0 if axis_name is None else lax.axis_index(axis_name) * rows
    return _Tiling(geometry, n, tile, size, min(chunk, rows), rows, first), rows * devices


def _start(unit: Float[Array, "m b"], tiling: _Tiling) -> Forest:
    m, rows = unit.shape[0], tiling.rows
    vertex = jnp.arange(m, dtype=jnp.int32)
    none = jnp.full((m,), jnp.inf, unit.dtype)
    constant = _waits_for_none(unit, vertex, tiling) & (vertex < tiling.n)
    return Forest(
        labels=vertex,
        components=jnp.int32(tiling.n),
        edges=_Edges(none, vertex, vertex),
        bounds=_Bounds(
            table=jnp.zeros((rows, m // tiling.size), unit.dtype),
            least=jnp.zeros((rows,), unit.dtype),
            group=jnp.zeros((rows,), jnp.int32),
        ),
        # `_waits_for_none` explains why an edge to vertex 0 is enough.
        candidates=_Candidates(jnp.where(constant, 1, none), jnp.where(constant, 0, m)),
        stopped=jnp.bool_(False),
        due=jnp.bool_(True),
        passes=jnp.int32(0),
        looked=jnp.int32(0),
    )


def _round(
    unit: Float[Array, "m b"], forest: Forest, tiling: _Tiling, axis_name: str | None
) -> Forest:
    """Search, then join every component whose rows are all settled along its least edge."""

    def of_all_devices(share):
        return share if axis_name is None else lax.all_gather(share, axis_name, tiled=True)

    labels = forest.labels
    vertex = jnp.arange(labels.shape[0], dtype=jnp.int32)
    sizes = jnp.zeros_like(labels).at[labels].add(1)
    largest = jnp.where(sizes == sizes.max(), vertex, vertex.size).min()
    candidates = _still_leaving(labels, forest.candidates)
    bounds = _renewed(forest.bounds, unit, labels, forest.due, tiling)
    # Never stop two searches in a row, so that the algorithm terminates.
    most = tiling.rows * _LOOKS_BEFORE_COUNTING
    most = jnp.where(forest.stopped, jnp.iinfo(jnp.int32).max, most)
    found = _search(unit, labels, bounds, candidates, largest, most, tiling)

    share = (lax.dynamic_slice_in_dim(x, tiling.first, tiling.rows) for x in found.candidates)
    candidates = _Candidates(*map(of_all_devices, share))
    best = _component_best(labels, candidates)
    open_rows = _unsettled(labels, found.bounds, candidates, best, tiling)
    waits = jnp.zeros(labels.shape, bool).at[labels].max(of_all_devices(open_rows))

    joins = jnp.isfinite(best.distance) & ~waits
    ends = labels[jnp.where(joins, best.lower, 0)], labels[jnp.where(joins, best.higher, 0)]
    other = jnp.where(ends[0] == vertex, ends[1], ends[0])
    root = _roots(jnp.where(joins, other, vertex))
    joined = root != vertex
    return Forest(
        labels=root[labels],
        components=forest.components - joined.sum(dtype=jnp.int32),
        edges=jax.tree.map(lambda new, old: jnp.where(joined, new, old), best, forest.edges),
        bounds=found.bounds,
        candidates=candidates,
        stopped=found.active.any(),
        due=_looks_left(found, labels, tiling) > _LOOKS_IN_A_PASS * found.bounds.table.size,
        passes=forest.passes + forest.due,
        looked=forest.looked + found.looked,
    )


def _still_leaving(labels: Int[Array, " m"], candidates: _Candidates) -> _Candidates:
    m = labels.shape[0]
    inside = labels == labels[jnp.minimum(candidates.target, m - 1)]
    gone = inside | (candidates.target == m)
    distance = jnp.where(gone, jnp.inf, candidates.distance)
    return _Candidates(distance, jnp.where(gone, m, candidates.target))


def _roots(parent: Int[Array, " m"]) -> Int[Array, " m"]:
    """For every vertex, the least vertex of the cycle in which its chain of parents ends.

    If all edges had one total order, every cycle would be two components that chose the same edge.
    But two products may round the same correlation differently, so longer cycles are possible among
    edges that are equal up to rounding. One root per cycle, whose edge is dropped, always leaves a
    forest.
    """
    m = parent.shape[0]

    def double(_, carry):
        jump, least = carry
        return jump[jump], jnp.minimum(least, least[jump])

    start = parent, jnp.minimum(parent, jnp.arange(m, dtype=jnp.int32))
    jump, least = lax.fori_loop(0, m.bit_length(), double, start)
    return least[jump]


# --- The table of bounds -------------------------------------------------------------------------


def _renewed(
    bounds: _Bounds,
    unit: Float[Array, "m b"],
    labels: Int[Array, " m"],
    due: Array,
    tiling: _Tiling,
) -> _Bounds:
    """Rebuild the bounds if `due`, else return them unchanged; own components are excluded.

    The GPU kernels compute bounds from bfloat16 products, slightly below the distance to the
    nearest vertex of each group. Elsewhere the bounds are these distances.
    """

    def screened(table):
        rows, label = (
            lax.dynamic_slice_in_dim(array, tiling.first, tiling.rows) for array in (unit, labels)
        )
        signed = tiling.geometry.signed
        return gpu.group_bounds(rows, label, unit, labels, table, tiling.n, tiling.size, signed)

    def on_gpu(table):
        return lax.fori_loop(0, due.astype(jnp.int32), lambda _, table: screened(table), table)

    def by_tiles(table):
        return _table_by_tiles(table, unit, labels, due, tiling)

    def least():
        rows = lax.dynamic_slice_in_dim(unit, tiling.first, tiling.rows)
        vertex = tiling.first + jnp.arange(tiling.rows)
        least, group = _first_minimum(table)
        return jnp.where(_waits_for_none(rows, vertex, tiling), jnp.inf, least), group

    if _on_own_kernels(unit, tiling):
        table = lax.platform_dependent(bounds.table, cuda=on_gpu, default=by_tiles)
    else:
        table = by_tiles(bounds.table)
    return _Bounds(table, *lax.cond(due, least, lambda: (bounds.least, bounds.group)))


def _waits_for_none(
    rows: Float[Array, "rows b"], vertex: Int[Array, " rows"], tiling: _Tiling
) -> Bool[Array, " rows"]:
    """Which rows need no search: padding and, if 1 is the largest distance, constant rows.

    All edges of a constant row have distance 1, so its first edge in order leads to vertex 0. Once
    they are joined, vertex 0 always has an edge at least as good as any of the constant row.
    """
    if not tiling.geometry.absolute:
        return vertex >= tiling.n
    return is_constant(rows) & (vertex > 0)


def _on_own_kernels(unit: Float[Array, "m b"], tiling: _Tiling) -> bool:
    """Whether the Triton kernels, which require rows of norm 1, may run."""
    of_norm_1 = tiling.geometry.distance != "euclidean"
    return of_norm_1 and gpu.has_search_kernels_for(unit, tiling.size)


def _table_by_tiles(table, unit, labels, due, tiling):
    """The table of bounds, rebuilt tile by tile if `due`."""
    m, tile, size = unit.shape[0], tiling.tile, tiling.size
    tiles, width = m // tile, tile // size
    whole = tiling.rows == m
    pairs = np.triu_indices(tiles) if whole else np.indices((tiling.rows // tile, tiles))
    pairs = jnp.asarray(np.reshape(pairs, (2, -1)), jnp.int32)

    def add_tile(k, table):
        i, j = pairs[0, k] * tile, pairs[1, k] * tile
        left, right = (lax.dynamic_slice_in_dim(unit, x, tile) for x in (tiling.first + i, j))
        label, other = (lax.dynamic_slice_in_dim(labels, x, tile) for x in (tiling.first + i, j))
        gap = tiling.geometry.lower_bounds(left, right)
        gap = jnp.where(label[:, None] == other[None], jnp.inf, gap)
        nearest = gap.reshape(tile, width, size).min(2)
        table = lax.dynamic_update_slice(table, nearest, (i, j // size))
        if not whole:
            return table
        # Read by columns, this tile is tile (j, i), so half of the products suffice.
        nearest = gap.reshape(width, size, tile).min(1).T
        return lax.dynamic_update_slice(table, nearest, (j, i // size))

    # A loop of zero steps leaves the table in place; a `cond` would copy it.
    return lax.fori_loop(0, jnp.where(due, pairs.shape[1], 0), add_tile, table)


# --- The search of one round ---------------------------------------------------------------------


class _RoundState(NamedTuple):
    """The state of one round's search.

    `best` is the least candidate of every component, `active` says which rows are still searched,
    and `looked` counts the pairs (row, group) looked at.
    """

    bounds: _Bounds
    candidates: _Candidates
    best: _Edges
    active: Bool[Array, " rows"]
    looked: Int[Array, ""]


def _search(
    unit: Float[Array, "m b"],
    labels: Int[Array, " m"],
    bounds: _Bounds,
    candidates: _Candidates,
    skipped: Int[Array, ""],
    most: Int[Array, ""],
    tiling: _Tiling,
) -> _RoundState:
    """Look at groups until every row of this device is settled, or until about `most` looks.

    Rows of component `skipped` are not searched.
    """
    label = lax.dynamic_slice_in_dim(labels, tiling.first, tiling.rows)

    def renewed(bounds, candidates, looked):
        best = _component_best(labels, candidates)
        active = (label != skipped) & _unsettled(labels, bounds, candidates, best, tiling)
        return _RoundState(bounds, candidates, best, active, looked)

    def step(state):
        known = _look_at_groups(unit, labels, state.bounds, state.candidates, state.active, tiling)
        return renewed(*known, state.looked + state.active.sum(dtype=jnp.int32))

    start = renewed(bounds, candidates, varying_as(jnp.int32(0), bounds.table))
    return lax.while_loop(lambda state: state.active.any() & (state.looked < most), step, start)


def _looks_left(found: _RoundState, labels: Int[Array, " m"], tiling: _Tiling) -> Int[Array, ""]:
    """Count the groups whose bound beats the best known edge of a searched row's component."""

    def count():
        label = lax.dynamic_slice_in_dim(labels, tiling.first, tiling.rows)
        better = found.bounds.table < found.best.distance[label][:, None]
        return (better & found.active[:, None]).sum(dtype=jnp.int32)

    return lax.cond(found.active.any(), count, lambda: varying_as(jnp.int32(0), found.active))


def _component_best(labels: Int[Array, " m"], candidates: _Candidates) -> _Edges:
    """The least candidate of every component by (distance, lower vertex, higher vertex)."""
    m = labels.shape[0]
    vertex = jnp.arange(m, dtype=jnp.int32)
    lower = jnp.minimum(vertex, candidates.target)
    higher = jnp.maximum(vertex, candidates.target)
    distance = jnp.full_like(candidates.distance, jnp.inf).at[labels].min(candidates.distance)
    tied = candidates.distance == distance[labels]
    least_lower = jnp.full_like(lower, m).at[labels].min(jnp.where(tied, lower, m))
    tied &= lower == least_lower[labels]
    least_higher = jnp.full_like(higher, m).at[labels].min(jnp.where(tied, higher, m))
    return _Edges(distance, least_lower, least_higher)


def _unsettled(
    labels: Int[Array, " m"],
    bounds: _Bounds,
    candidates: _Candidates,
    best: _Edges,
    tiling: _Tiling,
) -> Bool[Array, " rows"]:
    """Which rows may have an edge that beats the best known one of their component."""
    vertex = tiling.first + jnp.arange(tiling.rows, dtype=jnp.int32)
    distance, target = candidates.distance[vertex], candidates.target[vertex]
    best_distance, best_lower = best.distance[labels[vertex]], best.lower[labels[vertex]]
    # Among equally long edges, the one with the lowest vertices wins; in one row, the lowest
    # target. Groups are in the order of the vertices, so the first group with the least bound
    # settles such a tie.
    earlier = jnp.minimum(vertex, bounds.group * tiling.size) <= best_lower
    earlier &= (distance > bounds.least) | (bounds.group < target // tiling.size)
    tied = (bounds.least == best_distance) & jnp.isfinite(best_distance)
    return (bounds.least < best_distance) | (tied & earlier)


# --- Looks ---------------------------------------------------------------------------------------


def _look_at_groups(
    unit: Float[Array, "m b"],
    labels: Int[Array, " m"],
    bounds: _Bounds,
    candidates: _Candidates,
    active: Bool[Array, " rows"],
    tiling: _Tiling,
) -> tuple[_Bounds, _Candidates]:
    """Let every active row look at the group with its least bound."""

    def together(unit, labels, bounds, candidates, active):
        return _look_from_all(unit, labels, bounds, candidates, active, tiling)

    def in_turn(unit, labels, bounds, candidates, active):
        return _look_in_turn(unit, labels, bounds, candidates, active, tiling)

    known = unit, labels, bounds, candidates, active
    if _on_own_kernels(unit, tiling):
        return lax.platform_dependent(*known, cuda=together, default=in_turn)
    return in_turn(*known)


def _look_from_all(unit, labels, bounds, candidates, active, tiling):
    """One launch for all rows of this device; inactive rows keep their bounds and candidates."""
    rows, first, size = tiling.rows, tiling.first, tiling.size
    own, label, old_distance, old_target = (
        lax.dynamic_slice_in_dim(array, first, rows) for array in (unit, labels, *candidates)
    )
    jobs = _in_jobs(active, bounds, gpu.LOOK_ROWS)
    look = gpu.look_at_groups(
        (jobs.rows, jobs.firsts, jobs.sizes, jobs.ends), own, label, unit, labels,
        old_distance, old_target, bounds.table, tiling.n, size, tiling.geometry.signed,
    )  # fmt: skip
    row = jnp.where(active, jnp.arange(rows, dtype=jnp.int32), rows)
    table = bounds.table.at[row, old_target // size].min(look.back, mode="drop")
    table = table.at[row, bounds.group].set(look.left, mode="drop")
    bounds = _Bounds(
        table,
        jnp.where(active, look.least, bounds.least),
        jnp.where(active, look.group, bounds.group),
    )
    found = (
        jnp.where(active, look.distance, old_distance), jnp.where(active, look.target, old_target),
    )  # fmt: skip
    candidates = _Candidates(
        *(
            lax.dynamic_update_slice_in_dim(all_, new, first, 0)
            for all_, new in zip(candidates, found, strict=True)
        )
    )
    return bounds, candidates


def _look_in_turn(unit, labels, bounds, candidates, active, tiling):
    """A loop over jobs of a few active rows each."""
    if tiling.size >= _SHARED:
        jobs = _in_jobs(active, bounds, tiling.chunk)

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
    """Rows sorted by the group that they look at, split into jobs of one group each."""

    rows: Int[Array, " padded"]
    firsts: Int[Array, " groups"]  # position of each group's first row
    sizes: Int[Array, " groups"]
    ends: Int[Array, " groups"]  # cumulative number of jobs
    chunk: int

    @property
    def count(self) -> Int[Array, ""]:
        return self.ends[-1]

    def number(self, k: Int[Array, ""]) -> tuple[Int[Array, " chunk"], Int[Array, ""]]:
        """The rows of job k, padded with an index past the last row, and their group."""
        group = (self.ends <= k).sum(dtype=jnp.int32)
        done = k - jnp.where(group > 0, self.ends[group - 1], 0)
        first = self.firsts[group] + done * self.chunk
        rows = lax.dynamic_slice_in_dim(self.rows, first, self.chunk)
        inside = done * self.chunk + jnp.arange(self.chunk) < self.sizes[group]
        return jnp.where(inside, rows, self.rows.shape[0]), group


def _in_jobs(active: Bool[Array, " rows"], bounds: _Bounds, chunk: int) -> _Jobs:
    """Split the active rows into jobs, each one product of rows with the vertices of one group."""
    groups = bounds.table.shape[1]
    wanted = jnp.where(active, bounds.group, groups)
    sizes = jnp.zeros(groups + 1, jnp.int32).at[wanted].add(1)[:groups]
    vertex = jnp.arange(active.size, dtype=jnp.int32)
    _, rows = lax.sort((wanted, vertex), num_keys=1, is_stable=False)
    ends = jnp.cumsum(-(-sizes // chunk))
    # A job's slice may go past the last row.
    rows = jnp.pad(rows, (0, chunk))
    return _Jobs(rows, jnp.cumsum(sizes) - sizes, sizes, ends, chunk)


def _look(unit, labels, bounds, candidates, row, group, tiling):
    """Let every row in `row` look at `group`, one group for all rows or one for each.

    Indices from `tiling.rows` on are padding.
    """
    m, size = labels.shape[0], tiling.size
    inside = jnp.minimum(row, tiling.rows - 1)
    vertex = tiling.first + inside
    distance, target, rest = _nearest_in_group(unit, labels, vertex, group, tiling)
    old_distance, old_target = candidates.distance[vertex], candidates.target[vertex]
    better, back, left = _outcome(old_distance, old_target, distance, target, rest)
    table = bounds.table.at[row, old_target // size].min(back, mode="drop")
    table = table.at[row, group].set(left, mode="drop")
    least, first = _first_minimum(table[inside])
    bounds = _Bounds(
        table,
        bounds.least.at[row].set(least, mode="drop"),
        bounds.group.at[row].set(first, mode="drop"),
    )
    vertex = jnp.where(row < tiling.rows, vertex, m)
    candidates = _Candidates(
        candidates.distance.at[vertex].set(jnp.where(better, distance, old_distance), mode="drop"),
        candidates.target.at[vertex].set(jnp.where(better, target, old_target), mode="drop"),
    )
    return bounds, candidates


def _outcome(old_distance, old_target, distance, target, rest):
    """Whether a look found a better candidate, and the bounds on the old one's and on this group.

    Bounds exclude the row's candidate, so a replaced candidate re-enters its group's bound.
    """
    better = (distance < old_distance) | ((distance == old_distance) & (target < old_target))
    back = jnp.where(better, old_distance, jnp.inf)
    left = jnp.where(better | (target == old_target), rest, distance)
    return better, back, left


def _nearest_in_group(unit, labels, vertex, group, tiling):
    """The group's nearest vertex outside the row's component, and the second-nearest distance."""
    place = jnp.arange(tiling.size, dtype=jnp.int32)[None]
    target = jnp.reshape(group, (-1, 1)) * tiling.size + place
    if group.ndim:
        blocks = unit.reshape(-1, tiling.size, unit.shape[1])[group]
    else:
        blocks = lax.dynamic_slice_in_dim(unit, group * tiling.size, tiling.size)
    leaving = (labels[target] != labels[vertex][:, None]) & (target < tiling.n)
    gap = jnp.where(leaving, tiling.geometry.gaps_to_blocks(unit[vertex], blocks), jnp.inf)
    distance, first = _first_minimum(gap)
    rest = jnp.where(place == first[:, None], jnp.inf, gap).min(1)
    return distance, group * tiling.size + first, rest


def _first_minimum(table: Float[Array, "rows k"]) -> tuple[Float[Array, " rows"], Array]:
    """The minimum of every row and the first column that has it."""
    least = table.min(1)
    columns = lax.broadcasted_iota(jnp.int32, table.shape, 1)
    # `argmin` is a reduction over pairs, which XLA does not vectorise on the CPU.
    return least, jnp.where(table == least[:, None], columns, table.shape[1]).min(1)
