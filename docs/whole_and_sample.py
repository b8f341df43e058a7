"""What the paper's sample of a network's neurons sees of the whole: docs/whole_and_sample.png.

    python docs/whole_and_sample.py DIR   # the four files of Fashion-MNIST

Two convolutions of width 64 on 28 x 28 pixels and the logits have 100 362 neurons, each a position
of a feature map. The paper takes the term over the most active 0.5 % of each layer. The network
trains on the first 6000 images without a term and with T1 over that sample; the deaths of the
sample and of all neurons are those of the first 256 validation images, before training and after
each epoch. Prints a Markdown table and how the two mean deaths go together.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

import persist_jax as pj
from persist_jax.data import load_images
from persist_jax.models import Network
from persist_jax.models.layers import Conv2D, Dense, Flatten
from persist_jax.results.plots import PLACES, death_density
from persist_jax.results.style import FONT, GRID, MUTED
from persist_jax.training import Options, assemble
from persist_jax.training.state import Lane

SHARE = 0.005
EXAMPLES, BATCH = 6000, 256
COLOURS = {"none": "#4d4d4d", "t1": "#0072b2"}


class Snapshot(NamedTuple):
    """Deaths of the sample and of all neurons under one set of weights."""

    epoch: int
    run: str
    accuracy: float
    sample: np.ndarray
    whole: np.ndarray

    @property
    def means(self) -> tuple[float, float]:
        return float(self.sample.mean()), float(self.whole.mean())


def measure(folder: str, width: int, epochs: int, weight: float) -> list[Snapshot]:
    """Both runs, as two lanes of one program."""
    dataset = load_images("fashion_mnist", manual_dir=folder, train_examples=EXAMPLES)
    convolution = Conv2D(width, (3, 3), padding="same", activation="relu")
    network = Network((convolution, convolution, Flatten(), Dense(10)), dataset.input_shape)
    optimiser = {"name": "sgd", "learning_rate": 0.01, "momentum": 0.9}
    options = Options(batch_size=BATCH, epochs=epochs, sampling=SHARE, optimiser=optimiser)
    programs = assemble(network, dataset, options, regulariser="t1", devices=1)
    lanes = programs.layout.place(
        [Lane(programs.start(0), np.float32(value)) for value in (0.0, weight)]
    )
    deaths = jax.jit(pj.correlation_deaths)

    @jax.jit
    def clouds(variables, x):
        _, activations = network.apply(variables, x, train=False)
        return [pj.sample_neurons(activations, share) for share in (SHARE, 1.0)]

    def look(epoch: int, accuracies) -> list[Snapshot]:
        found = []
        for lane, run in enumerate(COLOURS):
            state = programs.layout.fetch_lane(lanes.state, lane)
            points = clouds(state.variables, dataset.validation.x[:BATCH])
            both = [np.asarray(deaths(cloud)) for cloud in points]
            found.append(Snapshot(epoch, run, float(accuracies[lane]), *both))
            print(f"epoch {epoch}, {run}: {found[-1].means}, {time.ctime()}", flush=True)
        return found

    snapshots = look(0, [np.nan, np.nan])
    for epoch in range(epochs):
        lanes, metrics = programs.train_epoch(lanes, np.ones(2, bool), epoch)()
        snapshots += look(epoch + 1, metrics.validation_accuracy)
    return snapshots


def table(snapshots: list[Snapshot]) -> str:
    """Mean death, share of deaths below 0.1 and of those at 1, of sample and whole."""
    lines = [
        "| run | epoch | validation % | mean death: sample | whole | below 0.1: sample % | whole % "
        "| at 1: sample % | whole % |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    last = max(snapshot.epoch for snapshot in snapshots)
    for s in snapshots:
        if s.epoch not in (0, last):
            continue
        near, far = (
            [100 * float(np.mean(test(deaths))) for deaths in (s.sample, s.whole)]
            for test in (lambda d: d < 0.1, lambda d: d == 1)
        )
        cells = [f"{mean:.3f}" for mean in s.means] + [f"{v:.1f}" for v in (*near, *far)]
        accuracy = "" if np.isnan(s.accuracy) else f"{100 * s.accuracy:.2f}"
        lines.append(f"| {s.run} | {s.epoch} | {accuracy} | {' | '.join(cells)} |")
    return "\n".join(lines)


def together(snapshots: list[Snapshot], run: str) -> float:
    """Pearson's correlation of the two mean deaths over a run's snapshots."""
    means = np.array([s.means for s in snapshots if s.run == run])
    return float(np.corrcoef(means.T)[0, 1])


def draw(snapshots: list[Snapshot], path: Path) -> None:
    """Densities before and after training, and the mean deaths on the way."""
    last = max(snapshot.epoch for snapshot in snapshots)
    with rc_context(FONT):
        figure = Figure(figsize=(8.2, 2.7), layout="constrained")
        before, after, course = figure.subplots(1, 3)
        for panel, epoch, title in ((before, 0, "untrained"), (after, last, "trained")):
            for s in snapshots:
                if s.epoch == epoch and (epoch or s.run == "none"):
                    _densities(panel, s, MUTED if not epoch else COLOURS[s.run])
            panel.set_title(title, size=9, weight="bold")
            panel.set_xlabel("death")
            panel.set_yticks([])
            panel.spines["left"].set_visible(False)
            panel.set_xlim(0, 1)
        for run, colour in COLOURS.items():
            own = [s for s in snapshots if s.run == run]
            for which, dashes in enumerate(((0, (2, 1.2)), "-")):
                values = [s.means[which] for s in own]
                label = f"{run}, {('sample', 'all neurons')[which]}"
                course.plot([s.epoch for s in own], values, color=colour, ls=dashes, label=label)
        course.set_title("mean death", size=9, weight="bold")
        course.set_xlabel("epoch")
        course.grid(color=GRID, lw=0.6)
        figure.legend(
            *course.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
        )
        figure.savefig(path, dpi=150)


def _densities(panel, snapshot: Snapshot, colour: str) -> None:
    panel.plot(PLACES, death_density(snapshot.sample), color=colour, ls=(0, (2, 1.2)), lw=1.2)
    panel.plot(PLACES, death_density(snapshot.whole), color=colour, lw=1.4)
    panel.set_ylim(bottom=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="the four files of Fashion-MNIST")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--weight", type=float, default=3e-3)
    flags = parser.parse_args()
    snapshots = measure(flags.folder, flags.width, flags.epochs, flags.weight)
    print(f"\nn = {len(snapshots[0].whole) + 1}, sample {len(snapshots[0].sample) + 1}\n")
    print(table(snapshots))
    for run in COLOURS:
        print(f"{run}: correlation of the two mean deaths {together(snapshots, run):.3f}")
    draw(snapshots, Path(__file__).with_name("whole_and_sample.png"))


if __name__ == "__main__":
    main()
