"""The batch axis of a search: all lanes at once on a GPU, one after another on a CPU."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array, lax


def in_sequence_on_cpu(search: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """`search`, for which `vmap` means a loop over lanes on a CPU.

    A CPU runs a batched matrix product and a batched step of Prim slower than the same lanes in
    sequence, whose data stay in its cache.
    """

    @jax.custom_batching.custom_vmap
    def lane(array):
        return search(array)

    @lane.def_vmap
    def lanes(axis_size, in_batched, arrays):
        results = lax.platform_dependent(
            arrays,
            cpu=lambda arrays: lax.map(lane, arrays),
            default=jax.vmap(search),
        )
        return results, jax.tree.map(lambda _: True, results)

    return lane
