"""JAX functions that launch the Triton kernels on NVIDIA GPUs; arrays have a leading lane axis.

Triton compiles a kernel to PTX while JAX traces a program. XLA treats this PTX like its own
kernels: it launches them in CUDA graphs and stores them in the compilation cache.
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

# One Triton program joins a lane's components. A vector of this many vertices fits its registers.
MOST_POINTS = 16_384
# An environment variable. With 0 the kernels are off, and XLA's own programs run. With 1 a machine
# without a GPU includes the kernels in programs that it lowers for one. By default it does not,
# because it would then compile kernels whenever it traces a function.
SWITCH = "PERSIST_JAX_GPU_KERNELS"
# Ampere, the first GPUs with bfloat16 products.
_LEAST_CAPABILITY = 80

_ZERO = ZERO * float(jnp.finfo(jnp.float32).eps)

# Side of a tile of a matrix product, length of the contracted axis per step, warps per tile.
_TILE, _DEPTH, _TILE_WARPS = 64, 32, 4
# Vertices of the smallest group whose bounds fill a tile.
_LEAST_GROUP = 64
# Rows and columns of a tile of bounds, length of the contracted axis per step, and vertices of the
# groups of one program, which writes several bounds of a row at once.
_BOUND_ROWS, _BOUND_COLUMNS, _BOUND_DEPTH, _BOUND_VERTICES = 256, 128, 32, 1024
# Rows that look at a group together, vertices of the group per step, length of the contracted axis
# per step, and bounds read per step.
LOOK_ROWS, _LOOK_COLUMNS, _LOOK_DEPTH, _LOOK_BOUNDS = 16, 64, 32, 256
# Rows that one program searches, columns that it reads per step, warps.
_ROWS, _WIDTH, _SEARCH_WARPS = 4, 1024, 4


def has_kernels_for(array: Array) -> bool:
    """Whether Triton kernels can find the dense tree of an array of this shape and dtype."""
    return 2 <= array.shape[0] <= MOST_POINTS and _are_there(array)


def has_search_kernels_for(array: Array, size: int) -> bool:
    """Whether Triton kernels can run the matrix-free search for this dtype and size of groups."""
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
    """Return `function` of lanes such that `vmap` merges its axis into the lane axis."""

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
    """The edges of each lane's minimum spanning tree, and whether the lane has no NaN."""
    lanes, n, _ = matrices.shape
    found, nan = _call(
        "nearest_of_all", [matrices], [(lanes, n, 2), (lanes, n)],
        grid=(_over(n, _ROWS), lanes), warps=_SEARCH_WARPS, N=n, R=_ROWS, W=_width(n),
    )  # fmt: skip
    return _edges(matrices, found, not_negative=False), ~(nan > 0).any(1)


@_lanes_in_front
def edges_of_units(units: Float[Array, "lanes n b"]) -> Int32[Array, "lanes n-1 2"]:
    """The edges of each lane's minimum spanning tree of standardised points under `1 - |corr|`."""
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
    """`1 - |corr|` with a meaningless diagonal, and the first edge of every row in each tile."""
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
    """Run Boruvka's rounds, given the first edge of every row.

    The number of rounds is fixed, so the device never waits for the host. In a lane that is already
    one component, a round reads no row.
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
    # `state[:, 1]` is the label of the last component, which stores no edge.
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
    r"""Lower bounds on the distance from each row to each group, own label excluded.

    A bfloat16 product, $\tilde u \cdot \tilde v$, is off by at most

    $$ \lVert \tilde u \rVert \lVert \delta v \rVert + \lVert \tilde v \rVert \lVert \delta u \rVert
       + \lVert \delta u \rVert \lVert \delta v \rVert + \epsilon, $$

    where $\delta u = u - \tilde u$ is exact in float32 and its norm is computed. $\epsilon$ bounds
    the rounding of the sums in this product and in the float32 product that a look computes.

    Args:
        rows: the standardised rows whose bounds are wanted.
        row_labels: the component of each of these rows.
        units: all standardised rows, padded with rows from `n` on.
        labels: the component of each unit.
        table: the previous bounds; the result reuses their memory.
        n: the number of units without padding.
        size: the number of units in a group.
        signed: whether distances are `1 - corr` instead of `1 - |corr|`.
    """
    count, b = rows.shape
    groups = units.shape[0] // size

    def rounded(rows):
        near = _to_bfloat16(rows)
        # Rounded up: the relative error of a sum of squares is smaller.
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
    """The result of every row's look at its group; undefined for rows in no job.

    Attributes:
        distance, target: the row's best candidate after the look.
        back: the new bound on the old candidate's group.
        left: the new bound on the group looked at.
        least, group: the row's least bound after both updates, and the first group that has it.
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
    """Let every row in a job look at one group for its nearest unit, own label excluded.

    Args: as for `group_bounds`, and
        jobs: the rows sorted by the group that they look at; and for each group the position of its
            first row, its number of rows, and the cumulative number of jobs of `LOOK_ROWS` rows.
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
    """Round to bfloat16, as float32: the compiler may drop a conversion followed by its reverse."""
    return lax.reduce_precision(numbers, exponent_bits=8, mantissa_bits=7)


def _call(
    name: str, arrays: Sequence[Array], results: Sequence[Any], *, grid: tuple, warps: int,
    stages: int = 2, in_place: dict[int, int] | None = None, **constants: Any,
) -> list[Array]:  # fmt: skip
    """Launch a kernel; results are given as (shape, dtype), or as the shape of an int32 array.

    `in_place` maps the index of an array to the index of the result that reuses its memory.
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
    # Triton's own parameters come last. XLA passes no buffer twice, so their values must differ.
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


# Triton's settings are global to the process.
_COMPILING = threading.Lock()
_TYPES = {"float32": "*fp32", "bfloat16": "*bf16", "int32": "*i32"}


@functools.cache
def _ptx(
    name: str, dtypes: tuple[str, ...], constants: tuple, warps: int, stages: int, capability: int
) -> tuple[str, str, int, int]:
    """Compile a kernel: PTX, entry name, bytes of shared memory, number of Triton's parameters."""
    import triton
    from triton.backends.compiler import GPUTarget

    from persist_jax.kernels import triton_kernels

    kernel, constants = vars(triton_kernels)[name], dict(constants)
    arrays = dict(zip(kernel.arg_names, (_TYPES[dtype] for dtype in dtypes), strict=False))
    source = triton.compiler.ASTSource(
        kernel,
        arrays | dict.fromkeys(constants, "constexpr"),
        constants,
        # XLA aligns every buffer, so Triton may read several numbers at once if shapes allow it.
        {(k,): [["tt.divisibility", 16]] for k in range(len(arrays))},
    )
    # The GPU's driver compiles the PTX. A driver older than Triton knows these versions, but not
    # the newest.
    version = 80 if capability <= 90 else 88
    options = dict(num_warps=warps, num_stages=stages, ptx_version=version, enable_fp_fusion=True)
    with _COMPILING, triton.knobs.compilation.scope():
        triton.knobs.compilation.disable_line_info = True
        compiled = triton.compile(source, GPUTarget("cuda", capability, 32), options)
    ptx = compiled.asm["ptx"]
    parameters = re.search(r"\.entry [^(]*\(([^)]*)\)", ptx)[1].count(".param")
    return ptx, compiled.metadata.name, compiled.metadata.shared, parameters - len(arrays)


def _capability() -> int:
    """The compute capability of the GPU; without a GPU, the least that the kernels need."""
    if jax.default_backend() != "gpu":
        return _LEAST_CAPABILITY
    number = re.fullmatch(r"(\d+)\.(\d)", jax.devices()[0].compute_capability)
    # GPUs of other vendors have a name there.
    return int(number[1] + number[2]) if number else 0


def _upper_tiles(n: int) -> int:
    return _over(n, _TILE) * (_over(n, _TILE) + 1) // 2


def _width(n: int) -> int:
    return min(_WIDTH, _power_of_two(n))


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _over(n: int, size: int) -> int:
    return -(-n // size)
