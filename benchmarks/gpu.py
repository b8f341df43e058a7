"""The checks that need a GPU: seconds, launches and memory; "not measured" without one."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks.measure import interleaved_medians
from persist_jax.kernels import (
    correlation_deaths,
    correlation_distance,
    minimum_spanning_tree,
)

# What is measured: points n, lanes, algorithm, and the milliseconds it should stay under.
CHECKS = {
    "n = 1010, value and gradient": (1010, 1, "auto", 0.5),
    "51 lanes of n = 1010": (1010, 51, "auto", 3.0),
    "n = 5252": (5252, 1, "auto", 3.0),
    "n = 100 000, matrix-free": (100_000, 1, "matrix_free", 1500.0),
}
BATCH = 256
# Of given matrices: points and lanes for which the ways to the tree are compared.
TREES = ((256, 1), (1010, 1), (1010, 15), (1010, 51))


def measure(device: str) -> dict[str, dict | None]:
    """Per check its milliseconds, kernels and peak GB; None where there is no GPU."""
    if device != "gpu":
        return dict.fromkeys(CHECKS)
    if jax.default_backend() != "gpu":
        print("no GPU is visible to JAX: nothing is measured")
        return dict.fromkeys(CHECKS)
    results = {}
    for name, (n, lanes, algorithm, _) in CHECKS.items():
        print(name, flush=True)
        points = jax.random.normal(jax.random.key(0), (lanes, n, BATCH))
        results[name] = _one(_value_and_gradient(algorithm, lanes), points)
    return results


def trees(device: str) -> dict[str, dict[str, float]]:
    """Milliseconds of the trees of given matrices, by points and lanes; nothing without a GPU."""
    if device != "gpu" or jax.default_backend() != "gpu":
        return {}
    results = {}
    for n, lanes in TREES:
        points = jax.random.normal(jax.random.key(0), (lanes, n, BATCH))
        matrices = jax.vmap(correlation_distance)(points)
        runs = {}
        for name in ("boruvka", "prim"):
            tree = functools.partial(minimum_spanning_tree, algorithm=name)
            runs[name] = functools.partial(jax.jit(jax.vmap(tree)), matrices)
        seconds = interleaved_medians(runs)
        results[_case(n, lanes)] = {name: 1e3 * value for name, value in seconds.items()}
    return results


def _case(n: int, lanes: int) -> str:
    return f"n = {n}, {lanes} at once"


def _value_and_gradient(algorithm: str, lanes: int) -> Callable:
    def term(points):
        return correlation_deaths(points, algorithm=algorithm).sum()

    function = jax.value_and_grad(term)
    return jax.vmap(function) if lanes > 1 else lambda points: function(points[0])


def _one(function: Callable, points: jax.Array) -> dict:
    compiled = jax.jit(function).lower(points).compile()
    seconds = interleaved_medians({"": lambda: compiled(points)})[""]
    memory = jax.local_devices()[0].memory_stats() or {}
    return {
        "milliseconds": 1e3 * seconds,
        # Each fusion, product, sort or scatter outside another fusion is one launch.
        "kernels in the program": _launches(compiled.as_text()),
        "peak GB so far": memory.get("peak_bytes_in_use", 0) / 1e9,
        "finite": bool(jnp.isfinite(jax.tree.leaves(compiled(points))[0]).all()),
    }


def _launches(program: str) -> int:
    fused = False
    count = 0
    for line in program.splitlines():
        if line.startswith(("%", "ENTRY")):
            fused = "fused" in line or "region" in line
        launching = (" fusion(", " custom-call(", " sort(", " scatter(", " copy(")
        count += not fused and any(kind in line for kind in launching)
    return count


def print_table(results: dict[str, dict | None]) -> None:
    print("\n| on a GPU | should stay under, ms | measured |\n|---|---|---|")
    for name, (*_, limit) in CHECKS.items():
        row = results[name]
        cell = ", ".join(f"{k}: {v:.4g}" for k, v in row.items()) if row else "not measured"
        print(f"| {name} | {limit:g} | {cell} |")


def print_trees(results: dict[str, dict[str, float]]) -> None:
    print("\n| tree of given matrices | boruvka, ms | prim, ms |\n|---|---|---|")
    for case in (_case(n, lanes) for n, lanes in TREES):
        row = results.get(case, {})
        cells = [f"{row[name]:.3g}" if row else "not measured" for name in ("boruvka", "prim")]
        print(f"| {case} | {' | '.join(cells)} |")
