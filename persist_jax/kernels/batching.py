"""What `vmap` means for a tree: all at once on a GPU, one after another on a CPU."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array, lax

from persist_jax.kernels.sharding import in_its_mesh, lanes_where_they_are


def in_sequence_on_cpu(function: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """`function`, for which `vmap` means a loop over the batch on a CPU.

    A CPU runs a batched matrix product and a batched step of Prim slower than the same ones in
    sequence, whose data stay in its cache.
    """

    def lanes(one, arrays):
        return lax.platform_dependent(
            arrays,
            cpu=lambda arrays: lax.map(one, arrays),
            default=jax.vmap(function),
        )

    return _with_lanes(function, lanes)


def in_sequence(function: Callable[[Array], Any]) -> Callable[[Array], Any]:
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
