"""What `vmap` means for a tree: all at once on a GPU, one after another on a CPU."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array, lax

from persist_jax.kernels import gpu
from persist_jax.kernels.sharding import in_its_mesh, lanes_where_they_are

Function = Callable[[Array], Any]


def by_platform(cpu: Function, default: Function, gpu_lanes: Function | None = None) -> Function:
    """A function of one array, computed in the way that suits the platform.

    A CPU runs a batched matrix product and a batched step of Prim slower than the same ones in
    sequence, whose data stay in its cache: there `vmap` means a loop over the batch.

    Args:
        cpu: the function for CPUs.
        default: the function for everything else.
        gpu_lanes: the function of arrays with lanes in front for NVIDIA GPUs, which is taken
            where `gpu.has_kernels_for` says so; `default` elsewhere.
    """

    def of_one(array):
        own = {}
        if gpu_lanes is not None and gpu.has_kernels_for(array):
            own["cuda"] = lambda array: jax.tree.map(lambda leaf: leaf[0], gpu_lanes(array[None]))
        return lax.platform_dependent(array, cpu=cpu, default=default, **own)

    def of_lanes(one, arrays):
        own = {}
        if gpu_lanes is not None and gpu.has_kernels_for(arrays[0]):
            own["cuda"] = gpu_lanes
        return lax.platform_dependent(
            arrays, cpu=lambda arrays: lax.map(one, arrays), default=jax.vmap(default), **own
        )

    return _with_lanes(of_one, of_lanes)


def in_sequence(function: Function) -> Function:
    """`function`, for which `vmap` means a loop over the batch everywhere."""
    return _with_lanes(function, lax.map)


def _with_lanes(function, lanes):
    @jax.custom_batching.custom_vmap
    def one(array):
        return in_its_mesh(function)(array)

    @one.def_vmap
    def many(axis_size, in_batched, arrays):
        results = lanes_where_they_are(lambda arrays: lanes(one, arrays))(arrays)
        return results, jax.tree.map(lambda _: True, results)

    return one
