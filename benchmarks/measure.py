"""Interleaved medians, peak memory of a child process, and rates for lower bounds on times."""

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

_SHORT = 0.05


def interleaved_medians(
    functions: dict[str, Callable[[], object]], seconds: float = 4.0, most: int = 31
) -> dict[str, float]:
    """The median seconds of every function; all take turns, so that noise affects them alike."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        jax.block_until_ready(function())
    end = time.perf_counter() + seconds
    for repeat in range(most):
        if repeat >= 3 and time.perf_counter() > end:
            break
        for name, function in functions.items():
            if repeat and times[name][0] < _SHORT:
                # The other functions' turns have emptied the caches.
                jax.block_until_ready(function())
            start = time.perf_counter()
            jax.block_until_ready(function())
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def peak_megabytes(module: str, *arguments: str) -> float | None:
    """The peak resident memory of `python -m module arguments`, which prints it last."""
    command = [sys.executable, "-m", module, *arguments]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(child.stdout.split()[-1]) if child.returncode == 0 else None


def own_peak_megabytes() -> float:
    # `getrusage` would start at the parent's peak.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


def floor_rates() -> tuple[float, float]:
    """Bytes read per second from a large array, and operations per second of a matrix product."""
    array = jnp.ones(2**26)
    read = jax.jit(jnp.max)
    square = jnp.ones((2048, 2048))
    product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    times = interleaved_medians(
        {"read": lambda: read(array), "product": lambda: product(square)}, most=9
    )
    return array.nbytes / times["read"], 2 * 2048**3 / times["product"]
