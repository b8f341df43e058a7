"""Compare our Triton kernels on an NVIDIA GPU with XLA's, side by side in one run.

    python -m benchmarks.gpu [--only trees terms errors large steps trace] [--lanes 1 15 51]
        [--output DIR]

prints Markdown tables and writes `gpu.json`; two to three minutes on an H100. Times are medians
in milliseconds. Many calls are in flight at once, so a figure is the device's time and not
Python's. "XLA" is the same function without our kernels, as it runs if Triton is not installed.
Without a GPU nothing is measured.
"""

import argparse
import contextlib
import functools
import glob
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import training_step
from persist_jax.kernels import (
    correlation_deaths,
    correlation_distance,
    gpu,
    mean_correlation,
    standardise,
    zeroth_deaths,
)
from persist_jax.models import build_model

BATCH = 256
# Number of lanes, and of points in each lane.
TREES = ((1, 256), (1, 1010), (15, 1010), (51, 1010), (1, 2048), (1, 5252))
TERMS = {
    "T1": ((1, 1010), (15, 1010), (51, 1010), (1, 5252)),
    "min_corr": ((1, 1010), (15, 1010), (51, 1010)),
}
LARGE = (40_960, 100_000, 524_298, 1_048_586)
# The most points for which the dense tree is timed too, and XLA's matrix-free search.
MOST_DENSE, MOST_XLA = 40_960, 100_000
STEPS = 188
PARTS = ("trees", "terms", "errors", "steps", "trace", "large")


@contextlib.contextmanager
def without_our_kernels() -> Iterator[None]:
    # A cached trace would ignore the switch.
    jax.clear_caches()
    with mock.patch.dict(os.environ, {gpu.SWITCH: "0"}):
        yield
    jax.clear_caches()


def points_of(lanes: int, n: int) -> jax.Array:
    """Activations of a ReLU layer on random inputs: some neurons never fire."""
    keys = jax.random.split(jax.random.key(0), 2)
    inputs = jax.random.normal(keys[0], (lanes, BATCH, 40))
    weights = jax.random.normal(keys[1], (lanes, 40, n))
    return jax.nn.relu(jnp.einsum("lbk,lkn->lnb", inputs, weights) - 1)


def both(function: Callable, *arrays: jax.Array) -> dict[str, Callable[[], object]]:
    """Compile the function for these arrays, with our kernels and without."""
    with without_our_kernels():
        xla = jax.jit(function).lower(*arrays).compile()
    ours = jax.jit(function).lower(*arrays).compile()
    return {"XLA": lambda: xla(*arrays), "ours": lambda: ours(*arrays)}


def queued(functions: dict[str, Callable[[], object]], calls: int = 30) -> dict[str, float]:
    """Milliseconds per call with many calls in flight; the functions take turns."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(8):
        for name, function in functions.items():
            start = time.perf_counter()
            results = [function() for _ in range(calls)]
            jax.block_until_ready(results)
            # The first turn loads the kernels.
            if repeat:
                times[name].append((time.perf_counter() - start) / calls * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def trees() -> dict[str, dict[str, float]]:
    """Deaths of given matrices."""
    results = {}
    for lanes, n in TREES:
        matrices = jax.jit(jax.vmap(correlation_distance))(points_of(lanes, n))
        results[case(lanes, n)] = queued(both(jax.vmap(zeroth_deaths), matrices))
    return results


def terms() -> dict[str, dict[str, float]]:
    """Value and gradient of a term, from points."""
    found = {
        "T1": lambda x: -correlation_deaths(x, ordered=False).sum(),
        "min_corr": mean_correlation,
    }
    return {
        f"{name}, {case(lanes, n)}": queued(
            both(jax.vmap(jax.value_and_grad(term)), points_of(lanes, n))
        )
        for name, term in found.items()
        for lanes, n in TERMS[name]
    }


def programs_of_steps(lanes: int) -> dict[str, object]:
    """Compiled epochs of the first MNIST network by term, with our kernels and without."""
    network = build_model(training_step.NETWORKS["mlp_0"], (28, 28, 1), 10)

    def assembled(terms):
        made = training_step.assembled(network, BATCH, terms, "auto", STEPS)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda one: one.compile(lanes), made.values()))
        return made

    with without_our_kernels():
        xla = assembled(("t1", "min_corr"))
    return {f"{name}, XLA": one for name, one in xla.items()} | assembled(
        ("none", "t1", "t2", "min_corr")
    )


def steps(programs: dict[int, dict[str, object]]) -> dict[str, dict[str, float]]:
    """Milliseconds of a training step of all lanes."""
    results = {}
    for lanes, own in programs.items():
        times = training_step.timed(own, lanes, repeats=9)
        results[f"{lanes} lanes"] = {name: value * lanes for name, value in times.items()}
    return results


def trace(programs: dict[int, dict[str, object]]) -> dict[str, dict]:
    """Launches and the kernels that take most of a T1 step, with our kernels and without."""
    results = {}
    for lanes, own in programs.items():
        for name in ("t1, XLA", "t1"):
            run = training_step.epochs(own[name], lanes)
            run()
            count, kernels = launched(run)
            top = {kernel: round(us / STEPS, 2) for kernel, us in kernels.most_common(10)}
            total = kernels.total() / STEPS
            results[f"{name}, {lanes} lanes"] = {
                "launches a step": count / STEPS, "us a step": total, "top ten, us": top,
            }  # fmt: skip
    return results


def launched(function: Callable[[], object]) -> tuple[int, Counter]:
    """The number of kernels that a call launches, and the microseconds of each kernel by name."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(function())
        (path,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        planes = jax.profiler.ProfileData.from_file(path).planes
        events = [
            event
            for plane in planes
            if "GPU" in plane.name
            for line in plane.lines
            if line.name.startswith("Stream")
            for event in line.events
        ]
        kernels: Counter = Counter()
        for event in events:
            kernels[event.name] += event.duration_ns / 1e3
        return len(events), kernels


def errors(n: int = 1010) -> dict[str, dict[str, float]]:
    """The largest and the mean absolute error of distances against float64."""
    unit = jax.jit(standardise)(points_of(1, n)[0])
    exact = np.asarray(unit, np.float64)
    exact = 1 - np.abs(exact @ exact.T)
    # Leave out distances that are rounded to 0.
    counted = ~np.eye(n, dtype=bool) & (exact > 1e-5)
    found = {
        "one float32 product": lambda u: 1 - jnp.abs(jnp.matmul(u, u.T, precision="highest")),
        "six bfloat16 products": lambda u: gpu.distances(u[None])[0][0],
    }
    gaps = {name: np.abs(np.asarray(jax.jit(f)(unit)) - exact) for name, f in found.items()}
    return {
        name: {"largest": gap[counted].max(), "mean": gap[counted].mean()}
        for name, gap in gaps.items()
    }


def large() -> dict[str, dict[str, float]]:
    """T1 and its gradient without an n x n matrix, one call at a time, and our memory."""

    def t1(algorithm):
        return jax.value_and_grad(lambda x: -correlation_deaths(x, algorithm=algorithm).sum())

    results = {}
    for n in LARGE:
        points = points_of(1, n)[0]
        ours = jax.jit(t1("matrix_free")).lower(points).compile()
        ways = {"ours": ours}
        with without_our_kernels():
            if n <= MOST_DENSE:
                ways["dense, XLA"] = jax.jit(t1("boruvka")).lower(points).compile()
            if n <= MOST_XLA:
                ways["XLA"] = jax.jit(t1("matrix_free")).lower(points).compile()
        calls = {name: functools.partial(way, points) for name, way in ways.items()}
        results[case(1, n)] = queued(calls, calls=1)
        memory = ours.memory_analysis()
        results[case(1, n)]["ours, GB"] = 1e-9 * (
            memory.argument_size_in_bytes
            + memory.temp_size_in_bytes
            + memory.output_size_in_bytes
        )
    return results


def case(lanes: int, n: int) -> str:
    return f"n = {n}" if lanes == 1 else f"{lanes} lanes of n = {n}"


def print_table(title: str, rows: dict[str, dict[str, float]]) -> None:
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    print(f"\n{title}\n\n| | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    for name, row in rows.items():
        cells = (f"{row[column]:.3g}" if column in row else "-" for column in columns)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--lanes", nargs="+", type=int, default=(1, 15, 51))
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    arguments = parser.parse_args()
    if jax.default_backend() != "gpu":
        print("JAX sees no GPU: not measured")
        return
    device = jax.devices()[0]
    print(f"{device.device_kind}, JAX {jax.__version__}, float32, b = {BATCH}; milliseconds")
    results: dict[str, object] = {"device": device.device_kind, "jax": jax.__version__}
    tables = {
        "trees": ("Deaths of given matrices", trees),
        "terms": ("Value and gradient of a term, from points", terms),
        "errors": ("Distances, n = 1010: absolute errors", errors),
        "large": ("Matrix-free, value and gradient", large),
    }
    for part, (title, measure) in tables.items():
        if part in arguments.only:
            results[part] = measure()
            print_table(title, results[part])
    if {"steps", "trace"} & set(arguments.only):
        programs = {lanes: programs_of_steps(lanes) for lanes in arguments.lanes}
        if "steps" in arguments.only:
            results["steps"] = steps(programs)
            print_table("A step of mlp_0, all lanes", results["steps"])
            over = {
                lanes: {name: value / row["none"] for name, value in row.items()}
                for lanes, row in results["steps"].items()
            }
            print_table("The same over a step without a term", over)
        if "trace" in arguments.only:
            results["trace"] = trace(programs)
            print("\nT1 steps, traced:\n")
            for name, row in results["trace"].items():
                print(f"- {name}: {json.dumps(row)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nwritten to {arguments.output / 'gpu.json'}")


if __name__ == "__main__":
    main()
