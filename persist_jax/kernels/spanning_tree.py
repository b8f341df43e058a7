"""The minimum spanning tree of a complete graph, from its matrix of distances or from its points.

Prim's algorithm and Boruvka's give the same tree, because edges have one total order. The platform
decides which one runs. Prim takes n - 1 sequential steps of one row each and is faster on a CPU.
Boruvka takes at most ceil(log2 n) rounds over the whole matrix and runs on accelerators, where Prim
takes 20 times as long. On NVIDIA GPUs, Boruvka runs in Triton kernels.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import ArrayLike, Bool, Float, Int32

from persist_jax.kernels import gpu
from persist_jax.kernels.arguments import as_distances, check_algorithm
from persist_jax.kernels.devices import left_to_the_compiler, varying_as, with_lanes
from persist_jax.kernels.distances import one_minus_absolute, symmetric_product
from persist_jax.kernels.geometry import Geometry

Algorithm = Literal["auto", "prim", "boruvka"]
# Prim encodes an edge as a 32-bit number below n * n. For more points Boruvka runs.
MOST_POINTS = 65_535


def minimum_spanning_tree(
    distances: ArrayLike, *, algorithm: Algorithm = "auto"
) -> Int32[Array, "edges 2"]:
    """The unique minimum spanning tree: edges are compared by (distance, lower, higher index).

    Infinite distances are compared like any other. A NaN off the diagonal leaves the edges without
    an order, and the tree is the star at vertex 0.

    Args:
        distances: `(n, n)`, symmetric. Either triangle may be read; the diagonal is not.
        algorithm: "prim", "boruvka", or "auto" for the faster one. All give the same edges.

    Returns:
        The n - 1 edges (i, j) with i < j, rows ascending by (distance, i, j).

    Raises:
        ValueError: if `distances` is not a non-empty square matrix, `algorithm` is unknown, or the
            first row and column of a matrix in host memory clearly differ.

    Example:
        >>> minimum_spanning_tree(jnp.array([[0.0, 2.0, 1.0], [2.0, 0.0, 3.0], [1.0, 3.0, 0.0]]))
        Array([[0, 2],
               [0, 1]], dtype=int32)

    Reference:
        Boruvka 1926; Prim, Shortest connection networks and some generalizations, 1957.
    """
    check_algorithm(algorithm, get_args(Algorithm))
    return _minimum_spanning_tree(as_distances(distances), algorithm)


@functools.partial(jax.jit, static_argnums=1)
def _minimum_spanning_tree(distances, algorithm):
    edges, _ = edges_of_matrix(distances, algorithm)
    return in_order(distances[edges[:, 0], edges[:, 1]], edges)[1]


# --- Which algorithm runs ------------------------------------------------------------------------


def edges_of_matrix(
    distances: Float[Array, "n n"], algorithm: Algorithm
) -> tuple[Int32[Array, "n-1 2"], Bool[Array, ""]]:
    """The edges (lower, higher) in no particular order, and whether no distance is NaN.

    If a distance is NaN, the edges form the star at vertex 0. No gradient flows.
    """
    n = distances.shape[0]
    if n == 1:
        return jnp.zeros((0, 2), jnp.int32), jnp.array(True)
    algorithm = "boruvka" if n > MOST_POINTS else algorithm
    find = _by_platform(algorithm, _prim_of_matrix, boruvka_edges, gpu.edges_of_matrices)
    edges, comparable = find(lax.stop_gradient(distances))
    return jnp.where(comparable, edges, star(n)), comparable


def edges_of_rows(
    rows: Float[Array, "n k"], algorithm: Algorithm, geometry: Geometry
) -> tuple[Int32[Array, "n-1 2"], Float[Array, "n-1"]]:
    """The edges of a geometry's rows, in no particular order, and the product of each edge's rows.

    The products are differentiable, the choice of the edges is not. If a row is not finite, the
    edges are meaningless.

    Args:
        rows: the geometry's rows of two or more points.
        algorithm: one of `Algorithm`.
        geometry: the distance between points.
    """
    if geometry.absolute:
        return _edges_of_units(rows, algorithm)
    edges, _ = edges_of_matrix(geometry.matrix(lax.stop_gradient(rows)), algorithm)
    return edges, products_at(rows, edges)


def _edges_of_units(unit, algorithm):
    """`edges_of_rows` under `1 - |u_i . u_j|`; Prim reads products, not a matrix of distances."""
    algorithm = "boruvka" if unit.shape[0] > MOST_POINTS else algorithm
    find = _by_platform(algorithm, _prim_of_units, _boruvka_of_units, gpu.edges_of_units)
    edges = find(lax.stop_gradient(unit))
    if algorithm == "boruvka":
        return edges, products_at(unit, edges)
    if algorithm == "prim":
        return edges, _products_with_parents(unit, edges)
    return edges, lax.platform_dependent(
        unit, edges, cpu=_products_with_parents, default=products_at
    )


def products_at(unit: Float[Array, "n b"], edges: Int32[Array, "m 2"]) -> Float[Array, " m"]:
    """The product of the two rows of each edge."""
    return (unit[edges[:, 0]] * unit[edges[:, 1]]).sum(1)


def star(n: int) -> Int32[Array, "edges 2"]:
    """The edges from vertex 0 to every other vertex: the tree if distances have no order."""
    others = jnp.arange(1, n, dtype=jnp.int32)
    return jnp.stack([jnp.zeros_like(others), others], 1)


def _by_platform(
    algorithm: Algorithm, prim: Callable, boruvka: Callable, boruvka_on_gpu: Callable
) -> Callable[[Array], Any]:
    """Return the function of one array that finds its edges with the platform's algorithm.

    On a CPU, its `vmap` is a loop over the batch: batched matrix products and batched steps of Prim
    are slower than sequential ones, whose data stay in the cache.

    Args:
        algorithm: "prim", "boruvka", or "auto": Prim on CPUs, where it is faster at each n from 256
            to 8192, and Boruvka on everything else.
        prim: Prim on one array; its argument `on_cpu` says whether the program is for a CPU.
        boruvka: Boruvka on one array.
        boruvka_on_gpu: Boruvka in Triton kernels, on arrays with a leading lane axis.
    """
    on_cpu = boruvka if algorithm == "boruvka" else functools.partial(prim, on_cpu=True)
    elsewhere = prim if algorithm == "prim" else boruvka

    def kernels_for(array):
        return algorithm != "prim" and gpu.has_kernels_for(array)

    def of_one(array):
        own = {}
        if kernels_for(array):
            own["cuda"] = lambda array: jax.tree.map(lambda x: x[0], boruvka_on_gpu(array[None]))
        return lax.platform_dependent(array, cpu=on_cpu, default=elsewhere, **own)

    def of_lanes(one, arrays):
        own = {"cuda": boruvka_on_gpu} if kernels_for(arrays[0]) else {}
        return lax.platform_dependent(
            arrays, cpu=functools.partial(lax.map, one), default=jax.vmap(elsewhere), **own
        )

    return with_lanes(of_one, of_lanes)


# --- The order of edges --------------------------------------------------------------------------


def ordered_keys(distances: Float[Array, "*shape"], nan: int) -> Array:
    """Integers in the order of the distances, with -0 equal to 0 and `nan` in place of NaN.

    Integer minima have no special values and vectorise. Below the key of -inf and above that of
    inf, more than two integers are free, for `nan` and for markers.
    """
    if distances.dtype.itemsize < 4:
        distances = distances.astype(jnp.float32)
    integer = jnp.int32 if distances.dtype.itemsize == 4 else jnp.int64
    bits = lax.bitcast_convert_type(distances, integer)
    keys = jnp.where(bits < 0, (bits ^ jnp.iinfo(integer).max) + 1, bits)
    return jnp.where(jnp.isnan(distances), nan, keys)


def in_order(
    distances: Float[Array, " m"], edges: Int32[Array, "m 2"]
) -> tuple[Float[Array, " m"], Int32[Array, "m 2"]]:
    """Sort distances and edges by (distance, lower, higher)."""
    keys = ordered_keys(distances, nan=jnp.iinfo(jnp.int32).max)
    _, lower, higher, distances = lax.sort(
        (keys, edges[:, 0], edges[:, 1], distances), num_keys=3, is_stable=False
    )
    return distances, jnp.stack([lower, higher], 1)


# --- Prim ----------------------------------------------------------------------------------------
#
# A step is short, so its cost depends on how many kernels it starts and on whether its passes over
# a row vectorise. On a CPU, XLA is asked to compile the whole loop as one kernel. Three choices
# make the passes fast:
# - Minima are taken over a fixed number of columns first, because a reduction to one number does
#   not vectorise.
# - The edge itself is minimised, as `lower * n + higher`, so no `argmin` is needed.
# - A step begins with the new keys and ends with the new parents. Both read the old keys, and in
#   this order neither array is copied.

_WIDTH = 32
# Steps per iteration of the loop. Of 1, 2, 4 and 8, the fastest or close to it at each n from 64 to
# 4096.
_UNROLL = 2
# XLA itself sets these attributes on loops over little memory. Without them a loop is a sequence of
# kernels, and starting these takes longer than a step over one row.
_ONE_KERNEL = {"inlineable": "false", "xla_cpu_small_call": "true"}

Keys = Callable[[Array, int], Array]


def _prim_of_matrix(distances, *, on_cpu=False):
    parents, comparable = _grown(distances, ordered_keys, on_cpu)
    vertices = jnp.arange(parents.shape[0], dtype=jnp.int32)
    ends = jnp.minimum(vertices, parents), jnp.maximum(vertices, parents)
    return jnp.stack(ends, 1), comparable


def _prim_of_units(unit, *, on_cpu=False):
    """The edges of a rooted tree: the k-th starts at vertex k.

    Prim converts products to distances as it reads their row, so its pass over the matrix is the
    only one. Prim finds a tree of any matrix, so the products need not be symmetric to the last
    bit.
    """
    products = jnp.matmul(unit, unit.T, precision=lax.Precision.HIGHEST)
    parents, _ = _grown(products, _keys_of_products, on_cpu)
    return jnp.stack([jnp.arange(parents.shape[0], dtype=jnp.int32), parents], 1)


def _products_with_parents(unit, edges):
    """`products_at` the edges of a rooted tree, the k-th of which starts at vertex k.

    Only the parents' rows are gathered, and only their gradients are scattered.
    """
    return (unit[:-1] * unit[edges[:, 1]]).sum(1)


def _keys_of_products(products, nan):
    """Integers in the order of `1 - |corr|`: the bits of non-negative floats."""
    distances = one_minus_absolute(products)
    return lax.bitcast_convert_type(
        distances, jnp.int32 if distances.dtype.itemsize == 4 else jnp.int64
    )


class _State(NamedTuple):
    """For every vertex outside the tree, its first edge into the tree.

    `keys` holds the key of its distance, without edges to `newest`. `parents` holds its end in the
    tree, with edges to `newest`.
    """

    keys: Array
    parents: Int32[Array, " m"]
    newest: Int32[Array, ""]


def prim_parents(
    matrix: Float[Array, "n n"], keys: Keys = ordered_keys
) -> tuple[Int32[Array, "n-1"], Bool[Array, ""]]:
    """The minimum spanning tree, rooted at the last vertex.

    Args:
        matrix: the symmetric distances, or products that `keys` turns into distances; 2 to
            `MOST_POINTS` points. The diagonal is not read.
        keys: a function `(entries, nan)` to integers in the order of the distances: `nan` for NaN,
            above `nan + 1` for any other entry.

    Returns:
        The parent of every vertex but the last, and whether no distance is NaN. If one is, the
        parents are meaningless.
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
    """The steps of Prim on one matrix; arrays over vertices are padded to a multiple of `width`.

    Vertices in the tree and padding have the key `visited`, below the key of every distance. The
    key of NaN is lower still, so a vertex that meets a NaN keeps it.
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
        """Keys and parents for the tree that consists of the last vertex."""
        last = self.flat[-self.n :]
        keys = jnp.pad(self.keys_of(last, self.nan), (0, self.size - self.n))
        keys = jnp.where(self.index >= self.n - 1, self.visited, keys)
        return keys, jnp.full(self.size, self.n - 1, jnp.int32)

    def row(self, vertex):
        """The keys of a vertex's row. Entries read past its end fall on the padding.

        No entries follow the last vertex's row, but only `start` reads it.
        """
        start = vertex.astype(jnp.uint32) * jnp.uint32(self.n)
        row = lax.dynamic_slice(self.flat, (start,), (self.size,), allow_negative_indices=False)
        return self.keys_of(row, self.nan)

    def keys(self, keys, newest):
        return jnp.where(self.index == newest, self.visited, jnp.minimum(keys, self.row(newest)))

    def parents(self, keys, parents, newest):
        row = self.row(newest)
        # Among equal edges to one vertex, the edge from the lowest vertex is the first.
        closer = (row < keys) | ((row == keys) & (newest < parents))
        # The newest vertex keeps the parent with which it joined the tree.
        return jnp.where(closer & (self.index != newest), newest, parents)

    def nearest(self, keys, parents):
        """The vertex to which the first edge out of the tree leads."""
        unsigned = jnp.uint32 if keys.dtype == jnp.int32 else jnp.uint64
        # The keys of visited vertices wrap around to above all others.
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


def _grown(matrix, keys, on_cpu):
    """`prim_parents`; on a CPU, XLA is asked to compile it as one kernel, on one core.

    A version of XLA that does not know the attributes ignores them; the results are the same.
    """
    prim = functools.partial(prim_parents, keys=keys)
    # The kernel runs on one device and cannot contain communication between several.
    if not on_cpu or left_to_the_compiler(matrix):
        return prim(matrix)

    def unmarked(matrix):
        with set_xla_metadata(**dict.fromkeys(_ONE_KERNEL)):
            return prim(matrix)

    with set_xla_metadata(**_ONE_KERNEL):
        return jax.jit(unmarked)(matrix)


# --- Boruvka -------------------------------------------------------------------------------------

# Above the key of every 32-bit distance. With a NaN, any tree will do.
_NAN = jnp.iinfo(jnp.int32).max - 1


def _boruvka_of_units(unit):
    # Boruvka needs a matrix that is symmetric to the last bit.
    return boruvka_edges(one_minus_absolute(symmetric_product(unit)))[0]


class _Forest(NamedTuple):
    """`component[v]` is the root of v's tree; a former root keeps the edge that joined its tree."""

    component: Int32[Array, " n"]
    lower: Int32[Array, " n"]
    higher: Int32[Array, " n"]


def boruvka_edges(
    distances: Float[Array, "n n"],
) -> tuple[Int32[Array, "n-1 2"], Bool[Array, ""]]:
    """The edges (lower, higher) of the minimum spanning tree, in no particular order.

    The number of rounds is fixed, so the device never waits for the host. Surplus rounds change
    nothing.

    Args:
        distances: symmetric; the diagonal is not read.

    Returns:
        n - 1 edges, and whether no distance is NaN. If one is, the edges are meaningless.
    """
    n = distances.shape[0]
    index = jnp.arange(n, dtype=jnp.int32)
    nothing = jnp.full(n, n, jnp.int32)
    forest = varying_as(_Forest(component=index, lower=nothing, higher=nothing), distances)

    def round_(_, forest):
        return _join(forest, *_nearest_outside(distances, forest.component))

    forest = lax.fori_loop(0, (n - 1).bit_length(), round_, forest)
    # The last root never joined another tree, so its slot holds no edge.
    slots = jnp.nonzero(forest.lower < n, size=n - 1)[0]
    edges = jnp.stack([forest.lower[slots], forest.higher[slots]], 1)
    diagonal = jnp.eye(n, dtype=bool)
    return edges, ~(jnp.isnan(distances) & ~diagonal).any()


def _nearest_outside(
    distances: Float[Array, "n n"], component: Int32[Array, " n"]
) -> tuple[Array, Int32[Array, " n"]]:
    """Every vertex's first edge out of its component, as the key and the other end."""
    outside = component[:, None] != component[None]
    keys = ordered_keys(distances, nan=_NAN)
    keys = jnp.where(outside, keys, jnp.iinfo(keys.dtype).max)
    return lax.platform_dependent(keys, cpu=_least_in_two_passes, default=_least_in_one_pass)


def _least_in_two_passes(keys):
    """Every row's least key and its first column: on a CPU `argmin` does not vectorise."""
    least = keys.min(1)
    index = jnp.arange(keys.shape[1], dtype=jnp.int32)
    return least, jnp.where(keys == least[:, None], index[None], keys.shape[1]).min(1)


def _least_in_one_pass(keys):
    """The same for a GPU, where reading the matrix twice costs more than comparing pairs."""
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
