"""What each term costs in training: a step with it over a step without, of one lane.

    python -m benchmarks.training_step [--network mlp_0] [--batch 256] [--lanes 1]
        [--lane_strategy auto] [--terms none t1 ...] [--output DIR]

prints a Markdown table and writes `training_step.json`. The step is the one that training runs,
as an epoch of one scan on synthetic images; the medians are of epochs taken in turn.
"""

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np

from configs import mnist
from persist_jax.data.dataset import Dataset, Split
from persist_jax.models import build_model
from persist_jax.regularisers import REGULARISERS
from persist_jax.training import Options, assemble
from persist_jax.training.layout import STRATEGIES
from persist_jax.training.state import Lane

STEPS = 40


CONFIG = mnist.get_config()
NETWORKS = {
    name: {field: value for field, value in section.items() if field != "sampling"}
    for name, section in json.loads(CONFIG.models.to_json()).items()
}


def options(batch: int) -> Options:
    """The experiment's hyperparameters, without what happens between the steps."""
    options = Options.read(json.loads(CONFIG.train.to_json()))
    return options.replace(batch_size=batch, patience=None, snapshot_every=0)


def synthetic(examples: int, shape: tuple[int, ...] = (28, 28, 1)) -> Split:
    """Ten noisy prototypes: enough structure for the activations to be correlated."""
    rng = np.random.default_rng(0)
    prototypes = rng.random((10, *shape), np.float32)
    y = rng.integers(0, 10, examples).astype(np.int32)
    noise = rng.random((examples, *shape), np.float32)
    return Split((prototypes[y] + noise) / 2, y)


def measure(
    network, batch: int, lanes: int, repeats: int, terms: Sequence[str], lane_strategy: str
) -> dict[str, float]:
    """Milliseconds per step and lane, by regulariser."""
    sizes = (batch * STEPS, batch, batch)
    dataset = Dataset("synthetic", *(synthetic(size) for size in sizes))
    programs = {
        name: assemble(
            network, dataset, options(batch),
            regulariser=name, lane_strategy=lane_strategy, devices=1,
        )
        for name in terms
    }
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda one: one.compile(lanes), programs.values()))
    wanted, trained = np.ones(lanes, bool), {}
    for name, one in programs.items():
        lane = Lane(one.start(0), np.float32(1e-3))
        trained[name] = one.train_epoch(one.layout.place([lane] * lanes), wanted, 0)()[0]
    times: dict[str, list[float]] = {name: [] for name in trained}
    for epoch in range(1, repeats + 1):
        for name, one in programs.items():
            run = one.train_epoch(trained[name], wanted, epoch)
            start = time.perf_counter()
            trained[name], _ = run()
            times[name].append((time.perf_counter() - start) / (STEPS * lanes) * 1e3)
    return {name: float(np.median(values)) for name, values in times.items()}


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
