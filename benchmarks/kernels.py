"""Compare the kernels with other libraries and a lower bound, on a CPU; see also `benchmarks.gpu`.

    python -m benchmarks.kernels [--n 256 1010 2048] [--output DIR]
        [--synchronous]

prints Markdown tables and writes `kernels.json` and `kernels.png`. A few minutes on 2 cores.
Times are medians in milliseconds; the functions take turns. Other libraries are left out ("-")
above the size at which they take minutes. JAX passes a call on a CPU to another thread, which takes
10 to 30 microseconds, unless `--synchronous` is given.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform
from tqdm import tqdm

from benchmarks.measure import (
    floor_rates,
    interleaved_medians,
    own_peak_megabytes,
    peak_megabytes,
)
from benchmarks.peers import PEERS
from benchmarks.plot import plot_growth
from persist_jax.kernels import (
    correlation_deaths,
    correlation_distance,
    mean_correlation,
    standardise,
    zeroth_deaths,
)
from persist_jax.terms import t1

SIZES = (256, 512, 1010, 2048, 4096, 8192)
BATCH = 256


def points_of(n: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, BATCH)).astype(np.float32)


def from_matrix(n: int) -> dict[str, float]:
    """Seconds for the deaths of a given matrix, ours and the other libraries'."""
    distances = correlation_distance(points_of(n))
    functions = {}
    for algorithm in ("auto", "boruvka"):
        compiled = jax.jit(lambda d, a=algorithm: zeroth_deaths(d, algorithm=a))
        functions[f"ours ({algorithm})"] = lambda f=compiled: f(distances)
    for name, peer in PEERS.items():
        if n <= peer.largest:
            functions[name] = peer.prepare(np.array(distances))
    return interleaved_medians(functions)


def from_points(n: int) -> dict[str, float]:
    """Seconds from points: our deaths with their gradient, and the linkage of scipy."""
    points = points_of(n)
    ours = jax.jit(jax.value_and_grad(lambda x: correlation_deaths(x).sum()))
    on_device = jnp.asarray(points)

    def peer():
        distances = 1 - np.abs(np.corrcoef(points))
        return linkage(squareform(distances, checks=False), "single")

    return interleaved_medians(
        {"ours, value and gradient": lambda: ours(on_device), "corrcoef + linkage": peer}
    )


def over_product(n: int) -> dict[str, float]:
    """Seconds of value and gradient of the terms, and of the product that every method needs."""
    points = jnp.asarray(points_of(n))
    unit = standardise(points)
    product = jax.jit(lambda u: jnp.matmul(u, u.T, precision="highest"))
    total = jax.jit(jax.value_and_grad(lambda x: t1(correlation_deaths(x))))
    mean = jax.jit(jax.value_and_grad(mean_correlation))
    return interleaved_medians(
        {
            "one product": lambda: product(unit),
            "T1 and its gradient": lambda: total(points),
            "min_corr and its gradient": lambda: mean(points),
        }
    )


def lanes(n: int = 1010, count: int = 10) -> dict[str, float]:
    """Seconds for the deaths of one matrix, and of several under `vmap`."""
    many = jnp.stack([correlation_distance(points_of(n))] * count)
    one, batched = jax.jit(zeroth_deaths), jax.jit(jax.vmap(zeroth_deaths))
    return interleaved_medians(
        {"one matrix": lambda: one(many[0]), f"vmap over {count}": lambda: batched(many)}
    )


def print_table(title: str, rows: dict[int, dict[str, float]], base: str) -> None:
    """Print milliseconds and, in brackets, the ratio to `base` in the same run."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    print(f"\n{title}\n\n| n | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
    for n, row in rows.items():
        cells = [
            f"{1e3 * row[name]:.3g} ({row[name] / row[base]:.2f})" if name in row else "-"
            for name in names
        ]
        print(f"| {n} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, nargs="+", default=SIZES)
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--synchronous", action="store_true")
    parser.add_argument("--memory-of", choices=("dense", "matrix_free"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    jax.config.update("jax_cpu_enable_async_dispatch", not arguments.synchronous)
    if arguments.memory_of:
        algorithm = "prim" if arguments.memory_of == "dense" else "matrix_free"
        loss = jax.jit(jax.grad(lambda x: correlation_deaths(x, algorithm=algorithm).sum()))
        jax.block_until_ready(loss(points_of(arguments.n[0])))
        print(own_peak_megabytes())
        return
    results = {"device": jax.devices()[0].device_kind} | measure_on_cpu(arguments.n)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "kernels.json").write_text(json.dumps(results, indent=1))
    plot_growth(results, arguments.output / "kernels.png")
    print(f"\nwritten to {arguments.output}")


def measure_on_cpu(sizes) -> dict:
    read, product = floor_rates()
    matrix, points, products, memory = {}, {}, {}, {}
    for n in tqdm(sizes, desc="sizes"):
        matrix[n] = from_matrix(n)
        points[n] = from_points(n)
        products[n] = over_product(n)
        memory[n] = {
            kind: peak_megabytes("benchmarks.kernels", "--memory-of", kind, "--n", str(n))
            for kind in ("dense", "matrix_free")
        }
    many = lanes()
    print_table("Deaths of a given matrix, ms (ratio to scipy)", matrix, "scipy linkage")
    print_table("Deaths of points, b = 256, ms", points, "corrcoef + linkage")
    print_table("Terms of points over one product, b = 256, ms", products, "one product")
    one, ten = many.values()
    print(f"\n10 matrices of n = 1010 under vmap take {ten / one:.2f} times one matrix")
    print("\nPeak resident memory of value and gradient, MB:")
    for n, row in memory.items():
        cells = (f"{k} {v:.0f}" if v else f"{k} failed" for k, v in row.items())
        print(f"  n = {n}: " + ", ".join(cells))
    floor = {n: {"read": 4 * n * n / read, "product": 2 * n * n * BATCH / product} for n in sizes}
    results = {"matrix": matrix, "points": points, "products": products}
    return results | {"lanes": many, "memory": memory, "floor": floor}


if __name__ == "__main__":
    main()
