"""Time matrix-free deaths and their gradient, in units of a full product; measure peak memory.

    python -m benchmarks.matrix_free [--n 16384 65536] [--cloud relu ...] [--batch 256]
        [--output DIR]

prints a Markdown table and writes `matrix_free.json`: the time of each tree, how many groups each
row looked at, on average, and the result of `check_tree` on 64 random rows against all others. A
full product is every correlation once, tile by tile, `2 n^2 b` operations, timed in turns with the
tree in the same process. From 65 536 points on, its time is extrapolated from a product of 8192
points. Every row of the table has its own process, so that its memory is measured alone.
"""

import argparse
import functools
import json
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.measure import interleaved_medians, own_peak_megabytes
from persist_jax.check import check_tree
from persist_jax.kernels import correlation_tree, standardise
from persist_jax.kernels.matrix_free import grow

# From `_LARGE` points on, the tree is timed once, and the product on `_PART` points.
_LARGE, _PART = 65_536, 8192


def low_rank(n: int, b: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(n, 32)) @ rng.normal(size=(32, b))


def relu(n: int, b: int, rng: np.random.Generator) -> np.ndarray:
    """The layers of a random ReLU network; only the first neurons of each feed the next."""
    hidden, layers = rng.normal(size=(b, 64)), []
    for width in (n // 2, n // 4, n - n // 2 - n // 4):
        hidden = hidden[:, :256].astype(np.float32)
        weights = rng.normal(size=(hidden.shape[1], width)).astype(np.float32)
        hidden = np.maximum(hidden @ weights * np.sqrt(2 / hidden.shape[1]), 0)
        layers.append(hidden)
    return np.concatenate(layers, 1).T


def clusters(n: int, b: int, rng: np.random.Generator) -> np.ndarray:
    """Clusters of about 20 correlated neurons."""
    centres = rng.normal(size=(n // 20, b))
    noise = rng.uniform(0.05, 1, (n, 1)) * rng.normal(size=(n, b))
    return centres[rng.integers(0, len(centres), n)] + noise


def convolution(n: int, b: int, rng: np.random.Generator) -> np.ndarray:
    """All neurons of a network like the paper's: two convolutions on 32 x 32 pixels, and logits.

    For n = 2048 w + 10 the convolutions have w channels: 256 for n = 524 298, 512 for
    n = 1 048 586. Images are smooth noise, weights are initial weights.
    """
    width = max((n - 10) // 2048, 1)
    x = jnp.asarray(rng.normal(size=(b, 32, 32, 3)), jnp.float32)
    x, layers = (x + jnp.roll(x, 1, 1) + jnp.roll(x, 1, 2)) / 3, []
    for _ in range(2):
        kernel = rng.normal(size=(3, 3, x.shape[3], width)) * np.sqrt(2 / (9 * x.shape[3]))
        kernel = jnp.asarray(kernel, jnp.float32)
        numbers = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
        x = jax.nn.relu(x)
        layers.append(x.reshape(b, -1))
    head = rng.normal(size=(layers[-1].shape[1], 10)) / np.sqrt(layers[-1].shape[1])
    layers.append(layers[-1] @ jnp.asarray(head, jnp.float32))
    return np.concatenate([np.asarray(layer).T for layer in layers])


CLOUDS = {"low_rank": low_rank, "relu": relu, "clusters": clusters, "convolution": convolution}


@functools.partial(jax.jit, static_argnames="tile")
def full_product(points, tile=1024):
    """Compute all correlations once; the minimum over each tile keeps XLA from dropping any."""
    unit = standardise(points)
    tiles = unit.shape[0] // tile

    def add_tile(k, least):
        left = lax.dynamic_slice_in_dim(unit, k // tiles * tile, tile)
        right = lax.dynamic_slice_in_dim(unit, k % tiles * tile, tile)
        product = jnp.matmul(left, right.T, precision=lax.Precision.HIGHEST)
        return jnp.minimum(least, (1 - jnp.abs(product)).min())

    return lax.fori_loop(0, tiles * tiles, add_tile, jnp.inf)


@jax.jit
def tree_and_gradient(points):
    def value(points):
        tree = correlation_tree(points, algorithm="matrix_free")
        return -tree.deaths.sum(), tree

    (_, tree), gradient = jax.value_and_grad(value, has_aux=True)(points)
    return tree, gradient


def measure(cloud: str, n: int, b: int) -> dict:
    """One row of the table; memory is measured before the product is compiled."""
    points = jnp.asarray(CLOUDS[cloud](n, b, np.random.default_rng(0)).astype(np.float32))
    n = points.shape[0]
    row = {"n": n, "cloud": cloud}
    if n < _LARGE:
        tree, _ = jax.block_until_ready(tree_and_gradient(points))
        row["resident_mb"] = own_peak_megabytes()
        times = interleaved_medians(
            {"own": lambda: tree_and_gradient(points), "product": lambda: full_product(points)},
            most=5,
        )
        forest = jax.jit(lambda points: grow(standardise(points)))(points)
        row |= {"passes": int(forest.passes), "looks_per_row": int(forest.looked) / n}
    else:
        run = tree_and_gradient.lower(points).compile()
        start = time.perf_counter()
        tree, _ = jax.block_until_ready(run(points))
        times = {"own": time.perf_counter() - start}
        row["resident_mb"] = own_peak_megabytes()
        part = points[:_PART]
        times |= interleaved_medians({"product": lambda: full_product(part)}, most=5)
        times["product"] *= (n / _PART) ** 2
    row |= {"seconds": times["own"], "products": times["own"] / times["product"]}
    return row | {"check": str(check_tree(np.asarray(points), tree, rows=min(64, n)))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[16384, 65536])
    parser.add_argument("--batch", type=int, default=256, help="examples that a point is seen on")
    parser.add_argument("--cloud", nargs="+", choices=list(CLOUDS), default=list(CLOUDS))
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(measure(arguments.cloud[0], arguments.n[0], arguments.batch)))
        return
    print("| n | points | s | products | looks a row | resident, MB | `check_tree` |")
    print("|---:|---|---:|---:|---:|---:|---|")
    rows = []
    for n in arguments.n:
        for cloud in arguments.cloud:
            command = [sys.executable, "-m", "benchmarks.matrix_free", "--here"]
            command += ["--n", str(n), "--cloud", cloud, "--batch", str(arguments.batch)]
            row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            rows.append(row)
            looks = f"{row['looks_per_row']:.1f}" if "looks_per_row" in row else ""
            cells = f"{row['seconds']:.2f} | {row['products']:.2f} | {looks} "
            cells += f"| {row['resident_mb']:.0f} | {row['check']}"
            print(f"| {row['n']} | {cloud} | {cells} |", flush=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "matrix_free.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
