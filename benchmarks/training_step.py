"""Time a training step with each term, relative to a step without a term.

    python -m benchmarks.training_step [--network mlp_0] [--batch 256] [--lanes 1]
        [--lane_strategy auto] [--terms none t1 ...] [--output DIR]

prints a Markdown table and writes `training_step.json`. Training's own program runs epochs of one
scan on synthetic images. Times are medians over epochs; the terms take turns.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np

from configs import mnist
from persist_jax.data.dataset import Dataset, Split
from persist_jax.models import build_model
from persist_jax.terms.regularisers import REGULARISERS
from persist_jax.training import Options, assemble
from persist_jax.training.layout import STRATEGIES
from persist_jax.training.programs import Programs
from persist_jax.training.state import Lane

STEPS = 40


CONFIG = mnist.get_config()
NETWORKS = {
    name: {field: value for field, value in section.items() if field != "sampling"}
    for name, section in json.loads(CONFIG.models.to_json()).items()
}


def options(batch: int) -> Options:
    """The experiment's hyperparameters, without early stopping and snapshots."""
    options = Options.read(json.loads(CONFIG.train.to_json()))
    return options.replace(batch_size=batch, patience=None, snapshot_every=0)


def synthetic(examples: int, shape: tuple[int, ...] = (28, 28, 1)) -> Split:
    """Ten noisy prototypes: enough structure for the activations to be correlated."""
    rng = np.random.default_rng(0)
    prototypes = rng.random((10, *shape), np.float32)
    y = rng.integers(0, 10, examples).astype(np.int32)
    noise = rng.random((examples, *shape), np.float32)
    return Split((prototypes[y] + noise) / 2, y)


def assembled(
    network, batch: int, terms: Sequence[str], lane_strategy: str, steps: int = STEPS
) -> dict[str, Programs]:
    """The programs that train the network for epochs of this many steps, by regulariser."""
    dataset = Dataset("synthetic", *(synthetic(size) for size in (batch * steps, batch, batch)))
    return {
        name: assemble(
            network, dataset, options(batch),
            regulariser=name, lane_strategy=lane_strategy, devices=1,
        )
        for name in terms
    }  # fmt: skip


def epochs(programs: Programs, lanes: int) -> Callable[[], float]:
    """Make a function that trains the lanes for one more epoch and returns its seconds."""
    wanted, numbers = np.ones(lanes, bool), itertools.count()
    lane = Lane(programs.start(0), np.float32(1e-3))
    trained = [programs.layout.place([lane] * lanes)]

    def epoch():
        run = programs.train_epoch(trained.pop(), wanted, next(numbers))
        start = time.perf_counter()
        trained.append(run()[0])
        return time.perf_counter() - start

    return epoch


def timed(programs: dict[str, Programs], lanes: int, repeats: int) -> dict[str, float]:
    """Milliseconds per step and lane: medians over epochs, with the programs taking turns."""
    runs = {name: epochs(one, lanes) for name, one in programs.items()}
    for run in runs.values():
        run()
    times = [{name: run() for name, run in runs.items()} for _ in range(repeats)]
    return {
        name: float(np.median([turn[name] for turn in times])) * 1e3 / (one.plan.steps * lanes)
        for name, one in programs.items()
    }


def measure(
    network, batch: int, lanes: int, repeats: int, terms: Sequence[str], lane_strategy: str
) -> dict[str, float]:
    """Milliseconds per step and lane, by regulariser."""
    programs = assembled(network, batch, terms, lane_strategy)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda one: one.compile(lanes), programs.values()))
    return timed(programs, lanes, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="mlp_0", choices=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lanes", type=int, default=1)
    parser.add_argument("--lane_strategy", choices=STRATEGIES, default="auto")
    names = list(REGULARISERS)
    parser.add_argument("--terms", nargs="+", choices=names, default=names)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    arguments = parser.parse_args()
    network = build_model(NETWORKS[arguments.network], (28, 28, 1), 10)
    asked = {name: getattr(arguments, name) for name in ("batch", "lanes", "lane_strategy")}
    times = measure(network, repeats=arguments.repeats, terms=arguments.terms, **asked)
    device = jax.devices()[0].device_kind
    print(f"\n{arguments.network}, {device}, {asked}\n")
    first = arguments.terms[0]
    print(f"| term | ms per step and lane | over {first} |\n|---|---:|---:|")
    for name, value in times.items():
        print(f"| {name} | {value:.3g} | {value / times[first]:.2f} |")
    arguments.output.mkdir(parents=True, exist_ok=True)
    record = {"device": device, "milliseconds": times, "network": arguments.network} | asked
    (arguments.output / "training_step.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
