"""Points (n, b) to the edges (n - 1, 2) of their minimum spanning tree, without an n x n matrix."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from persist_jax.kernels.arguments import as_points
from persist_jax.kernels.batching import in_sequence
from persist_jax.kernels.distances import standardise
from persist_jax.kernels.looks import Bounds, Candidates, Tiling
from persist_jax.kernels.neighbours import (
    Edges,
    component_best,
    looks_left,
    renew,
    search,
    unsettled,
)
from persist_jax.kernels.sharding import on_mesh_of, same_on_all, varying_as

# (tile, chunk): rows and columns of a product in a pass, and rows that look at one group together.
# On a CPU a tile stays in the cache, and but in the first rounds few rows look at the same group.
# Elsewhere the number of launches counts. The second pair has not been measured.
_CPU_CUT = 1024, 32
_ACCELERATOR_CUT = 4096, 2048

# More groups make a look at one cheaper, and the table of bounds, m * groups numbers, larger.
_MOST_GROUPS = 1024
_LEAST_SIZE = 16

# A pass makes all entries of the table in the time that a 32nd of them takes one by one (measured
# on a CPU, n = 8192 and 16 384). So where, after this many looks per row in one round, more of them
# seem to be left than that, the table is made again.
_LOOKS_IN_A_PASS = 1 / 32
_LOOKS_BEFORE_COUNTING = 4


class Forest(NamedTuple):
    """The state of Boruvka's algorithm.

    A component is named by one of its vertices. Where a component was joined to another and so
    lost its name, `edges` keeps under that name the edge which joined them. `stopped` says that
    this device's last search was, before its end; `due` that the table of bounds is to be made
    again. Counted are its `passes` over the tiles and the pairs (row, group) it `looked` at.
    """

    labels: Int[Array, " m"]
    components: Int[Array, ""]
    edges: Edges
    bounds: Bounds
    candidates: Candidates
    stopped: Bool[Array, ""]
    due: Bool[Array, ""]
    passes: Int[Array, ""]
    looked: Int[Array, ""]


@as_points
def matrix_free_spanning_tree(
    points: Float[Array, "n b"], *, tile: int | None = None, axis_name: str | None = None
) -> Int[Array, "n-1 2"]:
    r"""The minimum spanning tree for `correlation_distance`, in O(n b) memory.

    $$ d(x, y) = 1 - \lvert \operatorname{corr}(x, y) \rvert $$

    Boruvka's algorithm. One pass over tiles of the correlation, each used for its rows and its
    columns, finds how near every vertex comes to every group of consecutive vertices (at most 1024
    groups). In every round only those groups are looked at again, one vertex against one group,
    whose bound beats the best edge known of the vertex's component; where that would be most of
    them, another pass is made, own components left out. The largest component may wait: the others
    join it. The tree is exact, with edges compared by (weight, lower vertex, higher
    vertex). It is the dense algorithms' tree wherever rounding does not create ties, because a
    correlation may differ in its last bits between two products; the deaths agree to rounding
    always. Whatever the rounding, the result is a spanning tree.

    A constant neuron has distance 1 to every other. So has, here, a neuron with a NaN or infinite
    activation: the tree is valid and its deaths, read from the points, are NaN.

    There is no gradient: edges are integers. Under `vmap` the trees are found one after another.
    The number of rounds, about log4(n), and of looks depends on the data.

    Args:
        points: one row per neuron, its activations over a batch of `b` examples; half precision
            is computed in float32. Inside a mapped axis every device holds all the points.
        tile: rows and columns of the correlation that are formed at once; by default a size that
            suits the platform. It does not change the tree, rounding excepted.
        axis_name: the mapped axis whose devices share the search, each for its part of the rows.
            All of them return the same tree.

    Returns:
        The edges `(i, j)`, `i < j`, ascending by (weight, i, j).

    Raises:
        ValueError: if `points` has not two axes, or one of them is empty, or `tile` is below 1.

    Example:
        >>> points = jnp.array([[0.0, 1.0, 2.0], [5.0, 1.0, 4.0], [1.0, 2.0, 3.0]])
        >>> matrix_free_spanning_tree(points)
        Array([[0, 2],
               [0, 1]], dtype=int32)

    Reference:
        Ballester et al., Decorrelating neurons using persistence, arXiv:2308.04870.
    """
    if tile is not None and tile < 1:
        raise ValueError(f"tile must be at least 1, got {tile}")
    return matrix_free_edges(standardise(lax.stop_gradient(points)), tile, axis_name)


def matrix_free_edges(
    unit: Float[Array, "n b"], tile: int | None = None, axis_name: str | None = None
) -> Int[Array, "n-1 2"]:
    """`matrix_free_spanning_tree` of points that are standardised already."""
    if unit.shape[0] == 1:
        return jnp.zeros((0, 2), jnp.int32)

    def tree(unit):
        edges = same_on_all(grow(unit, tile, axis_name).edges, unit, axis_name)
        _, lower, higher = lax.sort(edges, num_keys=3)
        return jnp.stack([lower, higher], 1)[: unit.shape[0] - 1]

    # A batched `while_loop` would go on until the slowest tree is done, and copy its table.
    return in_sequence(tree)(unit)


def grow(
    unit: Float[Array, "n b"], tile: int | None = None, axis_name: str | None = None
) -> Forest:
    """Run Boruvka's algorithm on standardised points until one component is left."""
    unit = jnp.where(jnp.isfinite(unit), unit, 0)
    tiling, m = _tiling(unit.shape[0], tile, axis_name)
    unit = jnp.pad(unit, ((0, m - tiling.n), (0, 0)))

    def body(forest):
        return _round(unit, forest, tiling, axis_name)

    start = on_mesh_of(_start(unit, tiling), unit)
    start = varying_as(start, unit, tiling.first)
    return lax.while_loop(lambda forest: forest.components > 1, body, start)


def _tiling(n: int, tile: int | None, axis_name: str | None) -> tuple[Tiling, int]:
    """How this device's share is cut, and the number of vertices with those that only pad."""
    devices = 1 if axis_name is None else lax.axis_size(axis_name)
    usual_tile, chunk = _CPU_CUT if jax.default_backend() == "cpu" else _ACCELERATOR_CUT
    size = _LEAST_SIZE
    while size * _MOST_GROUPS < n:
        size *= 2
    tile = -(-min(tile or usual_tile, -(-n // devices)) // size) * size
    rows = -(-n // (tile * devices)) * tile
    first = 0 if axis_name is None else lax.axis_index(axis_name) * rows
    return Tiling(n, tile, size, min(chunk, rows), rows, first), rows * devices


def _start(unit: Float[Array, "m b"], tiling: Tiling) -> Forest:
    m, rows = unit.shape[0], tiling.rows
    vertex = jnp.arange(m, dtype=jnp.int32)
    none = jnp.full((m,), jnp.inf, unit.dtype)
    constant = (unit == 0).all(1) & (vertex > 0) & (vertex < tiling.n)
    return Forest(
        labels=vertex,
        components=jnp.int32(tiling.n),
        edges=Edges(none, vertex, vertex),
        bounds=Bounds(
            table=jnp.zeros((rows, m // tiling.size), unit.dtype),
            least=jnp.zeros((rows,), unit.dtype),
            group=jnp.zeros((rows,), jnp.int32),
        ),
        # Why vertex 0, and why that is enough, is said where the bounds are made.
        candidates=Candidates(jnp.where(constant, 1, none), jnp.where(constant, 0, m)),
        stopped=jnp.bool_(False),
        due=jnp.bool_(True),
        passes=jnp.int32(0),
        looked=jnp.int32(0),
    )


def _round(
    unit: Float[Array, "m b"], forest: Forest, tiling: Tiling, axis_name: str | None
) -> Forest:
    """Join components along their least edges: all whose search has ended."""

    def of_all_devices(share):
        return share if axis_name is None else lax.all_gather(share, axis_name, tiled=True)

    labels = forest.labels
    vertex = jnp.arange(labels.shape[0], dtype=jnp.int32)
    sizes = jnp.zeros_like(labels).at[labels].add(1)
    largest = jnp.where(sizes == sizes.max(), vertex, vertex.size).min()
    candidates = _still_leaving(labels, forest.candidates)
    bounds = renew(forest.bounds, unit, labels, forest.due, tiling)
    # A search is stopped only once in a row, so that there is an end.
    most = tiling.rows * _LOOKS_BEFORE_COUNTING
    most = jnp.where(forest.stopped, jnp.iinfo(jnp.int32).max, most)
    found = search(unit, labels, bounds, candidates, largest, most, tiling)

    share = (lax.dynamic_slice_in_dim(x, tiling.first, tiling.rows) for x in found.candidates)
    candidates = Candidates(*map(of_all_devices, share))
    best = component_best(labels, candidates)
    open_rows = unsettled(labels, found.bounds, candidates, best, tiling)
    waits = jnp.zeros(labels.shape, bool).at[labels].max(of_all_devices(open_rows))

    joins = jnp.isfinite(best.weight) & ~waits
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
        due=looks_left(found, labels, tiling) > _LOOKS_IN_A_PASS * found.bounds.table.size,
        passes=forest.passes + forest.due,
        looked=forest.looked + found.looked,
    )


def _still_leaving(labels: Int[Array, " m"], candidates: Candidates) -> Candidates:
    m = labels.shape[0]
    inside = labels == labels[jnp.minimum(candidates.target, m - 1)]
    gone = inside | (candidates.target == m)
    weight = jnp.where(gone, jnp.inf, candidates.weight)
    return Candidates(weight, jnp.where(gone, m, candidates.target))


def _roots(parent: Int[Array, " m"]) -> Int[Array, " m"]:
    """The least vertex of the cycle that every vertex ends in, following its parents.

    With one total order of the edges all cycles are two components that chose the same edge. Two
    products may round the same correlation differently, though, and longer cycles are then
    possible among edges that are equal to rounding. One root for each, whose own edge is not
    taken, leaves a forest in any case.
    """
    m = parent.shape[0]

    def double(_, carry):
        jump, least = carry
        return jump[jump], jnp.minimum(least, least[jump])

    start = parent, jnp.minimum(parent, jnp.arange(m, dtype=jnp.int32))
    jump, least = lax.fori_loop(0, m.bit_length(), double, start)
    return least[jump]
