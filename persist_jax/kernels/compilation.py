"""How a part of a program is compiled for a CPU: a loop of many short steps as one kernel."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax.experimental.xla_metadata import set_xla_metadata

from persist_jax.kernels.sharding import left_to_the_compiler

# XLA marks loops over little memory like this by itself. Without the mark a loop is a sequence of
# kernels, and starting them takes longer than a step over one row.
_ONE_KERNEL = {"inlineable": "false", "xla_cpu_small_call": "true"}


def as_one_kernel(function: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """`function` of an array, which XLA is asked to compile for a CPU as one kernel, on one core.

    It may hold elementwise operations, reductions, slices and loops of them. A version of XLA that
    does not know the mark compiles it as it does everything else; the results are the same.
    For programs of other platforms it is not meant.
    """

    def unmarked(array):
        with set_xla_metadata(**dict.fromkeys(_ONE_KERNEL)):
            return function(array)

    called = jax.jit(unmarked)

    def marked(array):
        # The call is one device's: there is no place in it for what moves data between several.
        if left_to_the_compiler(array):
            return function(array)
        with set_xla_metadata(**_ONE_KERNEL):
            return called(array)

    return marked
