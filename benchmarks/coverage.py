"""Simulate how often a confidence interval over seeds contains the true mean.

    python -m benchmarks.coverage [--draws 20000]

prints a Markdown table for nominal 95 % intervals of the mean difference: Student's t, which
reports use, and bootstrap percentiles. Half a minute on 2 cores.
"""

import argparse
from collections.abc import Callable

import numpy as np

from persist_jax.results.seeds import t_interval

# Distributions, of mean 0, of the difference between two runs of a seed.
SHAPES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "uniform": lambda rng, n: rng.uniform(-1, 1, n),
    "heavy tails (t of 5 degrees)": lambda rng, n: rng.standard_t(5, n),
    "of two test accuracies, 1000 images each": lambda rng, n: (
        rng.binomial(1000, 0.8, n) - rng.binomial(1000, 0.8, n)
    )
    / 1000,
    "skewed (gamma of shape 4)": lambda rng, n: rng.gamma(4, size=n) - 4,
}
# Seeds of each network.
CASES = {"1 network, 5 seeds": (5,), "1 network, 10 seeds": (10,), "3 networks, 5 seeds": (5, 5, 5)}
_RESAMPLES = 1000


def bootstrap_interval(strata: list[np.ndarray], rng: np.random.Generator) -> tuple[float, float]:
    means = [rng.choice(x, size=(_RESAMPLES, len(x))).mean(1) for x in strata]
    low, high = np.quantile(np.mean(means, axis=0), (0.025, 0.975))
    return float(low), float(high)


def coverage(shape: str, seeds: tuple[int, ...], draws: int) -> tuple[float, float]:
    """The shares of the draws in which Student's and the bootstrap interval contain 0."""
    rng, held = np.random.default_rng(0), np.zeros(2)
    few = draws // 10  # a bootstrap takes long
    for k in range(draws):
        strata = [SHAPES[shape](rng, n) for n in seeds]
        low, high = t_interval(strata)
        held[0] += low <= 0 <= high
        if k < few:
            low, high = bootstrap_interval(strata, rng)
            held[1] += low <= 0 <= high
    return held[0] / draws, held[1] / few


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=20_000)
    draws = parser.parse_args().draws
    print("| differences | seeds | Student's t, % | bootstrap, % |\n|---|---|---:|---:|")
    for shape in SHAPES:
        for case, seeds in CASES.items():
            ours, theirs = coverage(shape, seeds, draws)
            print(f"| {shape} | {case} | {100 * ours:.1f} | {100 * theirs:.1f} |", flush=True)


if __name__ == "__main__":
    main()
