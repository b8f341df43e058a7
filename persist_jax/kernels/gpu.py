"""How JAX calls the Triton kernels: functions of arrays with lanes in front, for NVIDIA GPUs.

Triton writes a kernel's PTX while JAX traces a program, and XLA takes it as it takes its own
kernels: it launches them in CUDA graphs and keeps them in the programs that it stores.
"""

import functools
import importlib.util
import logging
import os
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Int32

from persist_jax.kernels.devices import varying_as
from persist_jax.kernels.distances import ZERO

# One program joins the components of a lane: a vector of so many vertices fits into its registers.
MOST_POINTS = 16_384
# This environment variable turns the kernels off where it is 0: XLA's programs run instead. Where
# it is 1, programs that a machine without a GPU lowers for one have them too. That machine would
# otherwise compile kernels whenever it traces a function.
SWITCH = "PERSIST_JAX_GPU_KERNELS"
# The first GPUs with products of bfloat16: Ampere.
_LEAST_CAPABILITY = 80

_ZERO = ZERO * float(jnp.finfo(jnp.float32).eps)

# Rows and columns of a tile of a product, the columns multiplied at a time, and the warps for it.
_TILE, _DEPTH, _TILE_WARPS = 64, 32, 4
# Vertices of the smallest group whose bounds fill a tile; rows and columns of a tile of bounds and
# the columns multiplied at a time; and the vertices whose groups one program takes, so that it
# writes several bounds of a row at once.
_LEAST_GROUP = 64
_BOUND_ROWS, _BOUND_COLUMNS, _BOUND_DEPTH, _BOUND_VERTICES = 256, 128, 32, 1024
# Rows that look at a group together, the vertices of it that they read at a time, the entries of
# both multiplied at a time, and the bounds that they read at a time.
LOOK_ROWS, _LOOK_COLUMNS, _LOOK_DEPTH, _LOOK_BOUNDS = 16, 64, 32, 256
# Rows that one program searches, the columns that it reads at a time, and its warps.
_ROWS, _WIDTH, _SEARCH_WARPS = 4, 1024, 4


def has_kernels_for(array: Array) -> bool:
    """Whether a dense tree of so many rows of such numbers has kernels, and Triton for them."""
    return 2 <= array.shape[0] <= MOST_POINTS and _are_there(array)


def has_search_kernels_for(array: Array, size: int) -> bool:
    """Whether the matrix-free search has kernels for such numbers and groups of that size."""
    return size >= _LEAST_GROUP and _are_there(array)


def _are_there(array: Array) -> bool:
    on_gpu, wanted = jax.default_backend() == "gpu", os.environ.get(SWITCH)
    if array.dtype != jnp.float32 or wanted == "0" or not (on_gpu or wanted == "1"):
        return False
    if importlib.util.find_spec("triton") is None:
        if on_gpu:
            _say_what_would_be_faster()
        return False
    return not on_gpu or _capability() >= _LEAST_CAPABILITY


@functools.cache
def _say_what_would_be_faster() -> None:
    logging.getLogger(__name__).warning(
        "persist_jax: trees are several times faster on this GPU with Triton: "
        'pip install "persist_jax[cuda]"'
    )


def _lanes_in_front(function: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """`function` of lanes, for which `vmap` means more of them."""

    @jax.custom_batching.custom_vmap
    def of_lanes(lanes):
        return function(lanes)

    @of_lanes.def_vmap
    def of_more(axis_size, in_batched, lanes):
        results = of_lanes(lanes.reshape(-1, *lanes.shape[2:]))
        shape = lanes.shape[:2]
        results = jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), results)
        return results, jax.tree.map(lambda _: True, results)

    return of_lanes


@_lanes_in_front
def edges_of_matrices(
    matrices: Float[Array, "lanes n n"],
) -> tuple[Int32[Array, "lanes n-1 2"], Bool[Array, " lanes"]]:
    """The edges of the minimum spanning trees, and of which lanes no distance is NaN."""
    lanes, n, _ = matrices.shape
    found, nan = _call(
        "nearest_of_all", [matrices], [(lanes, n, 2), (lanes, n)],
        grid=(_over(n, _ROWS), lanes), warps=_SEARCH_WARPS, N=n, R=_ROWS, W=_width(n),
    )  # fmt: skip
    return _edges(matrices, found, not_negative=False), ~(nan > 0).any(1)


@_lanes_in_front
def edges_of_units(units: Float[Array, "lanes n b"]) -> Int32[Array, "lanes n-1 2"]:
    """The edges of the minimum spanning trees of standardised points under `1 - |corr|`."""
    lanes, n, _ = units.shape
    matrices, parts = distances(units)
    (found,) = _call(
        "least_of_parts", [parts], [(lanes, n, 2)],
        grid=(_over(n, 128), lanes), warps=4, N=n, PARTS=parts.shape[1], R=128,
    )  # fmt: skip
    return _edges(matrices, found, not_negative=True)


def distances(
    units: Float[Array, "lanes n b"],
) -> tuple[Float[Array, "lanes n n"], Int32[Array, "lanes parts n 2"]]:
    """`1 - |corr|` with a diagonal that means nothing, and every row's first edge in each tile."""
    lanes, n, b = units.shape
    side = _over(n, _TILE)
    matrices, parts = _call(
        "distances", _parts(units), [((lanes, n, n), jnp.float32), (lanes, side, n, 2)],
        grid=(_upper_tiles(n), lanes), warps=_TILE_WARPS,
        N=n, B=b, T=_TILE, K=_DEPTH, PARTS=side, ZERO=_ZERO,
    )  # fmt: skip
    return matrices, parts


def _edges(
    matrices: Float[Array, "lanes n n"], found: Int32[Array, "lanes n 2"], *, not_negative: bool
) -> Int32[Array, "lanes n-1 2"]:
    """Boruvka's rounds, from the first edge of every row on.

    Their number is fixed, so no device waits for a decision of the host. In a lane that is one
    component a round reads no row.
    """
    lanes, n, _ = matrices.shape
    size = _power_of_two(n)
    join = dict(grid=(lanes,), warps=min(max(size // 128, 4), 32), N=n, C=size)
    flat, few = (lanes, n), (lanes, 2)
    component, edge, state, *_ = _call("first_join", [found], [flat, flat, few, flat, flat], **join)
    for _ in range((n - 1).bit_length() - 1):
        (found,) = _call(
            "nearest_outside", [matrices, component, state, found], [(lanes, n, 2)],
            grid=(_over(n, _ROWS), lanes), warps=_SEARCH_WARPS,
            N=n, R=_ROWS, W=_width(n), NOT_NEGATIVE=not_negative,
        )  # fmt: skip
        component, edge, state, *_ = _call(
            "join", [found, component, edge, state], [flat, flat, few, flat, (lanes, n, 2)],
            **join,
        )  # fmt: skip
    # The last component is the largest one. No edge is kept under its name.
    k = jnp.arange(n - 1, dtype=jnp.int32)[None]
    k = k + (k >= state[:, 1:])
    edge = jnp.take_along_axis(edge, k, 1, mode="promise_in_bounds")
    return jnp.stack([edge >> 16, edge & 0xFFFF], -1)


@_lanes_in_front
def absolute_sums(
    units: Float[Array, "lanes n b"],
) -> tuple[Float[Array, " lanes"], Float[Array, "lanes n b"]]:
    """The sum of all `|corr|`, and `sum_j sign_ij u_j` for every i."""
    lanes, n, b = units.shape
    parts, stride, tiles = _parts(units), _over(n, 16) * 16, _upper_tiles(n)
    signs, total = _call(
        "signs", parts,
        [((lanes, n, stride), jnp.bfloat16), ((lanes, tiles), jnp.float32)],
        grid=(tiles, lanes), warps=_TILE_WARPS,
        N=n, B=b, T=_TILE, K=_DEPTH, STRIDE=stride, ZERO=_ZERO,
    )  # fmt: skip
    (slopes,) = _call(
        "signed_sums", [signs, *parts], [((lanes, n, b), jnp.float32)],
        grid=(_over(n, 128) * _over(b, 128), lanes), warps=8,
        N=n, B=b, STRIDE=stride, T=128, W=128, K=64,
    )  # fmt: skip
    return total.sum(1), slopes


def group_bounds(
    rows: Float[Array, "rows b"],
    row_labels: Int32[Array, " rows"],
    units: Float[Array, "m b"],
    labels: Int32[Array, " m"],
    table: Float[Array, "rows groups"],
    n: int,
    size: int,
    signed: bool = False,
) -> Float[Array, "rows groups"]:
    r"""Lower bounds on the distances of rows to the groups of `size` units, own labels left out.

    A product of bfloat16, $\tilde u \cdot \tilde v$, is off by at most

    $$ \lVert \tilde u \rVert \lVert \delta v \rVert + \lVert \tilde v \rVert \lVert \delta u \rVert
       + \lVert \delta u \rVert \lVert \delta v \rVert + \epsilon, $$

    where $\delta u = u - \tilde u$ is exact in float32 and its norm computed, and $\epsilon$ bounds
    the rounding of the sums, of this product and of the float32 one that a look computes.

    Args:
        rows: the standardised rows whose bounds are wanted.
        row_labels: their components.
        units: all rows; those from `n` on only fill up.
        labels: the components of all.
        table: the bounds before, whose memory the new ones take.
        n: how many units there are.
        size: of a group.
        signed: whether distances are `1 - corr` instead of `1 - |corr|`.
    """
    count, b = rows.shape
    groups = units.shape[0] // size

    def rounded(rows):
        near = _to_bfloat16(rows)
        # Rounded up: a sum of squares is off by less than that in relation.
        slack = jnp.sqrt(jnp.square(rows - near).sum(1)) * (1 + 1e-4)
        return near.astype(jnp.bfloat16), slack

    row_parts, row_slack = rounded(rows)
    parts, slack = rounded(units)
    together = max(_BOUND_VERTICES // size, 1)
    arrays = [
        row_parts, row_labels, row_slack, parts, labels, slack.reshape(groups, size).max(1), table,
    ]  # fmt: skip
    (table,) = _call(
        "group_bounds", arrays, [((count, groups), jnp.float32)],
        grid=(_over(count, _BOUND_ROWS), _over(groups, together)), warps=8, stages=4,
        in_place={len(arrays) - 1: 0},
        ROWS=count, N=n, B=b, SIZE=size, GROUPS=groups, T=_BOUND_ROWS,
        W=min(size, _BOUND_COLUMNS), G=together, K=_BOUND_DEPTH,
        ROUNDING=b * 2.0**-22 + _ZERO, SIGNED=signed,
    )  # fmt: skip
    return table


class Look(NamedTuple):
    """The result of every row's look at its group; rows in no job hold no result.

    The best candidate after it; the bounds on the old candidate's group, `back`, and on the group
    looked at, `left`; and with these the least bound of the row and the first group that has it.
    """

    distance: Float[Array, " rows"]
    target: Int32[Array, " rows"]
    back: Float[Array, " rows"]
    left: Float[Array, " rows"]
    least: Float[Array, " rows"]
    group: Int32[Array, " rows"]


def look_at_groups(
    jobs: Sequence[Int32[Array, " _"]],
    rows: Float[Array, "rows b"],
    row_labels: Int32[Array, " rows"],
    units: Float[Array, "m b"],
    labels: Int32[Array, " m"],
    distance: Float[Array, " rows"],
    target: Int32[Array, " rows"],
    table: Float[Array, "rows groups"],
    n: int,
    size: int,
    signed: bool = False,
) -> Look:
    """The nearest unit in its group of every row in a job, own label left out, and what follows.

    Args: as for `group_bounds`, and
        jobs: the rows in the order of the groups that they look at; and of each group where its
            rows begin, how many there are, and the number of jobs of `LOOK_ROWS` rows up to it.
        distance, target: the candidates before the look.
    """
    (count, b), groups = rows.shape, table.shape[1]
    number = (count,), jnp.float32
    found = _call(
        "look_at_group", [*jobs, rows, row_labels, units, labels, distance, target, table],
        [number, (count,), number, number, number, (count,)],
        grid=(_over(count, LOOK_ROWS) + groups, 1), warps=4,
        N=n, B=b, SIZE=size, GROUPS=groups, GROUPS_PADDED=_power_of_two(groups),
        R=LOOK_ROWS, J=_LOOK_COLUMNS, K=_LOOK_DEPTH, C=_LOOK_BOUNDS, ZERO=_ZERO, SIGNED=signed,
    )  # fmt: skip
    return Look(*found)


def _parts(units: Float[Array, "*shape"]) -> list[Array]:
    """Three bfloat16 arrays whose sum is the units, exactly."""
    parts = []
    for _ in range(3):
        part = _to_bfloat16(units)
        parts.append(part.astype(jnp.bfloat16))
        units = units - part
    return parts


def _to_bfloat16(numbers: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The nearest bfloat16, as float32: the compiler may leave out a conversion and its reverse."""
    return lax.reduce_precision(numbers, exponent_bits=8, mantissa_bits=7)


def _call(
    name: str, arrays: Sequence[Array], results: Sequence[Any], *, grid: tuple, warps: int,
    stages: int = 2, in_place: dict[int, int] | None = None, **constants: Any,
) -> list[Array]:  # fmt: skip
    """Launch a kernel; results are given as (shape, dtype), or as the shape of an int32 array.

    `in_place` says which array's memory a result takes, by their numbers.
    """
    arrays = [varying_as(array, *arrays) for array in arrays]
    results = [
        jax.ShapeDtypeStruct(*(result if isinstance(result[0], tuple) else (result, jnp.int32)))
        for result in results
    ]
    dtypes = tuple(array.dtype.name for array in (*arrays, *results))
    ptx, entry, shared, unused = _ptx(
        name, dtypes, tuple(constants.items()), warps, stages, _capability()
    )
    # Triton's own parameters come last. XLA passes no buffer twice, so these must differ.
    spare = [varying_as(jnp.int32(k), *arrays) for k in range(unused)]
    columns, lanes = (*grid, 1)[:2]
    launched = jax.ffi.ffi_call(
        "__gpu$xla.gpu.ptx", results, input_output_aliases=in_place or {}
    )(
        *arrays, *spare, name=entry, kernel_type="ptx", kernel_data=ptx,
        grid_x=np.int32(columns), grid_y=np.int32(lanes), grid_z=np.int32(1),
        block_x=np.int32(32 * warps), block_y=np.int32(1), block_z=np.int32(1),
        shared_mem_bytes=np.int32(shared),
        output_indices=tuple(np.int32(len(arrays) + k) for k in range(len(results))),
    )  # fmt: skip
    return varying_as(list(launched), *arrays)


# Triton's settings are those of the process.
_COMPILING = threading.Lock()
_TYPES = {"float32": "*fp32", "bfloat16": "*bf16", "int32": "*i32"}


@functools.cache
def _ptx(
    name: str, dtypes: tuple[str, ...], constants: tuple, warps: int, stages: int, capability: int
) -> tuple[str, str, int, int]:
    """A kernel's PTX, its entry, bytes of shared memory, and the number of Triton's parameters."""
    import triton
    from triton.backends.compiler import GPUTarget

    from persist_jax.kernels import triton_kernels

    kernel, constants = vars(triton_kernels)[name], dict(constants)
    arrays = dict(zip(kernel.arg_names, (_TYPES[dtype] for dtype in dtypes), strict=False))
    source = triton.compiler.ASTSource(
        kernel,
        arrays | dict.fromkeys(constants, "constexpr"),
        constants,
        # XLA aligns every buffer: Triton reads several numbers at once where the shapes allow it.
        {(k,): [["tt.divisibility", 16]] for k in range(len(arrays))},
    )
    # The GPU's driver compiles the PTX: one older than Triton knows that version and no newer one.
    version = 80 if capability <= 90 else 88
    options = dict(num_warps=warps, num_stages=stages, ptx_version=version, enable_fp_fusion=True)
    with _COMPILING, triton.knobs.compilation.scope():
        triton.knobs.compilation.disable_line_info = True
        compiled = triton.compile(source, GPUTarget("cuda", capability, 32), options)
    ptx = compiled.asm["ptx"]
    parameters = re.search(r"\.entry [^(]*\(([^)]*)\)", ptx)[1].count(".param")
    return ptx, compiled.metadata.name, compiled.metadata.shared, parameters - len(arrays)


def _capability() -> int:
    """The compute capability of the GPU; without one, the least that the kernels need."""
    if jax.default_backend() != "gpu":
        return _LEAST_CAPABILITY
    number = re.fullmatch(r"(\d+)\.(\d)", jax.devices()[0].compute_capability)
    # GPUs of other makers have names there.
    return int(number[1] + number[2]) if number else 0


def _upper_tiles(n: int) -> int:
    return _over(n, _TILE) * (_over(n, _TILE) + 1) // 2


def _width(n: int) -> int:
    return min(_WIDTH, _power_of_two(n))


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _over(n: int, size: int) -> int:
    return -(-n // size)
