"""What `vmap` means for a tree: all at once on a GPU, one after another on a CPU."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array, lax


def in_sequence_on_cpu(function: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """`function`, for which `vmap` means a loop over the batch on a CPU.

    A CPU runs a batched matrix product and a batched step of Prim slower than the same ones in
    sequence, whose data stay in its cache.
    """

    @jax.custom_batching.custom_vmap
    def one(array):
        return function(array)

    @one.def_vmap
    def many(axis_size, in_batched, arrays):
        results = lax.platform_dependent(
            arrays,
            cpu=lambda arrays: lax.map(one, arrays),
            default=jax.vmap(function),
        )
        return results, jax.tree.map(lambda _: True, results)

    return one
