"""Train a convolutional network with T1 over all of its neurons, without sampling.

    python -m benchmarks.whole_network [--width 48] [--steps 4] [--weight 1e-5] [--output DIR]

The network has two convolutions of this width w on 32 x 32 pixels, with a neuron per position and
channel, and the logits: 2048 w + 10 neurons, on batches of 256 synthetic images. It trains for two
epochs of this many steps, once without a term and once with T1. The command prints a Markdown table
of the second epoch's seconds per step, the mean death before the first and before the last step,
and the peak of resident memory, and writes `whole_network.json`.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import numpy as np

from benchmarks.measure import own_peak_megabytes
from benchmarks.training_step import synthetic
from persist_jax.data.dataset import Dataset
from persist_jax.models import Network
from persist_jax.models.layers import Conv2D, Dense, Flatten
from persist_jax.training import Options, assemble
from persist_jax.training.state import Lane

BATCH, SHAPE = 256, (32, 32, 3)


def network(width: int) -> Network:
    """Two convolutions that keep the size of the image, and logits."""
    convolution = Conv2D(width, (3, 3), padding="same", activation="relu")
    return Network((convolution, convolution, Flatten(), Dense(10)), SHAPE)


def measure(width: int, steps: int, regulariser: str, weight: float) -> dict[str, float]:
    """One row of the table."""
    train, part = synthetic(BATCH * steps, SHAPE), synthetic(BATCH, SHAPE)
    optimiser = {"name": "sgd", "learning_rate": 0.01, "momentum": 0.9}
    options = Options(batch_size=BATCH, epochs=2, sampling=1.0, optimiser=optimiser)
    programs = assemble(
        network(width),
        Dataset("synthetic", train, part, part),
        options,
        regulariser=regulariser,
        devices=1,
    )
    lanes = programs.layout.place([Lane(programs.start(0), np.float32(weight))])
    terms = []
    for epoch in range(2):
        run = programs.train_epoch(lanes, np.ones(1, bool), epoch)
        start = time.perf_counter()
        lanes, metrics = run()
        seconds = (time.perf_counter() - start) / steps
        terms += metrics.term[0].tolist()
    neurons = 2 * SHAPE[0] * SHAPE[1] * width + 10
    return {
        "regulariser": regulariser,
        "neurons": neurons,
        "seconds": seconds,
        "deaths": [-term / weight / (neurons - 1) for term in terms] if weight else [],
        "resident_mb": own_peak_megabytes(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--weight", type=float, default=1e-5)
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    arguments = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}, batch {BATCH}\n")
    print("| term | neurons | s per step | mean death, first to last step | resident, MB |")
    print("|---|---:|---:|---:|---:|")
    rows = []
    for regulariser, weight in (("none", 0.0), ("t1", arguments.weight)):
        row = measure(arguments.width, arguments.steps, regulariser, weight)
        rows.append(row)
        deaths = row["deaths"]
        death = f"{deaths[0]:.4f} to {deaths[-1]:.4f}" if deaths else ""
        cells = f"{row['seconds']:.3g} | {death} | {row['resident_mb']:.0f}"
        print(f"| {regulariser} | {row['neurons']} | {cells} |", flush=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "whole_network.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
