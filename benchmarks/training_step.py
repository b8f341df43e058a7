"""What each term costs in training: a step with it over a step without, of one lane.

    python -m benchmarks.training_step [--network mlp_0] [--batch 256] [--lanes 1] [--output DIR]

prints a Markdown table and writes `training_step.json`. The step is the one that training runs,
as an epoch of one scan on synthetic images; the medians are of epochs taken in turn.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import numpy as np

from configs import mnist
from persist_jax.data.dataset import Dataset, Split
from persist_jax.models import build_model
from persist_jax.regularisers import REGULARISERS
from persist_jax.training import Options, assemble
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


def measure(network, batch: int, lanes: int, repeats: int) -> dict[str, float]:
    """Milliseconds per step and lane, by regulariser."""
    sizes = (batch * STEPS, batch, batch)
    dataset = Dataset("synthetic", *(synthetic(size) for size in sizes))
    wanted, trained = np.ones(lanes, bool), {}
    for name in REGULARISERS:
        programs = assemble(network, dataset, options(batch), regulariser=name, devices=1)
        lane = Lane(programs.start(0), np.float32(1e-3))
        placed = programs.layout.place([lane] * lanes)
        trained[name] = programs, programs.train_epoch(placed, wanted, 0)()[0]
        print(f"compiled {name}", flush=True)
    times: dict[str, list[float]] = {name: [] for name in trained}
    for epoch in range(1, repeats + 1):
        for name, (programs, placed) in trained.items():
            run = programs.train_epoch(placed, wanted, epoch)
            start = time.perf_counter()
            placed, _ = run()
            times[name].append((time.perf_counter() - start) / (STEPS * lanes) * 1e3)
            trained[name] = programs, placed
    return {name: float(np.median(values)) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="mlp_0", choices=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lanes", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    arguments = parser.parse_args()
    network = build_model(NETWORKS[arguments.network], (28, 28, 1), 10)
    times = measure(network, arguments.batch, arguments.lanes, arguments.repeats)
    device = jax.devices()[0].device_kind
    print(f"\n{arguments.network}, batch {arguments.batch}, {arguments.lanes} lanes, {device}\n")
    print("| term | ms per step and lane | over none |\n|---|---:|---:|")
    for name, value in times.items():
        print(f"| {name} | {value:.2f} | {value / times['none']:.2f} |")
    arguments.output.mkdir(parents=True, exist_ok=True)
    record = {"device": device, "milliseconds": times} | {
        name: getattr(arguments, name) for name in ("network", "batch", "lanes")
    }
    (arguments.output / "training_step.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
