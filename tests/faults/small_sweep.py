"""A small real sweep to put faults into, and what it leaves, to compare.

Two runs on scikit-learn's digits, five epochs with a checkpoint after each.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from configs import mnist
from persist_jax.store import read_history, read_results
from persist_jax.store.checkpoints import best_checkpoint, load
from persist_jax.store.configuration import Configuration, settle
from persist_jax.sweep import load_experiment, run_sweep
from persist_jax.sweep.reading import defaults, free_fields, read_configuration
from tests.commands import ROOT, environment

OVERRIDES = {
    "networks": "mlp_0",
    "models.mlp_0.hidden": "12,8",
    "regularisers": "l2",
    "weights": "0.001,0.1",
    "devices": "1",
    "train.batch_size": "300",
    "train.epochs": "5",
    "train.patience": "100",
    "train.checkpoint_every": "1",
    "train.snapshot_every": "3",
}
# Makes it two groups of two lanes, which train for some seconds.
GROUPS = {
    "networks": "mlp_0,mlp_1",
    "models.mlp_1.hidden": "6",
    "train.epochs": "600",
    "train.patience": "1000",
    "train.checkpoint_every": "250",
    "train.snapshot_every": "1000",
}


def command(workdir: Path, *flags: str, changed: Mapping[str, str | None] = {}) -> list[str]:
    """The sweep as a person starts it, with some of its fields changed, or left as they are."""
    fields = OVERRIDES | dict(changed)
    overrides = [f"--config.{name}={value}" for name, value in fields.items() if value is not None]
    start = [sys.executable, "-m", "launch.sweep", "--config=configs/mnist.py:digits"]
    return [*start, *overrides, f"--workdir={workdir}", *flags]


def start(words: list[str], **how) -> subprocess.Popen:
    """A command in a process of its own, whose output can be read."""
    how = {"env": environment(), "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
    return subprocess.Popen(words, cwd=ROOT, text=True, **how)


def run(workdir: Path, *flags: str, **how) -> subprocess.CompletedProcess:
    """The sweep, to its end."""
    with start(command(workdir, *flags), **how) as process:
        out, error = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def configuration() -> Configuration:
    """The sweep's configuration, for this process."""
    config = mnist.get_config("digits")
    config.networks, config.regularisers = ("mlp_0",), ("l2",)
    config.models.mlp_0.hidden = (12, 8)
    config.weights, config.devices = (0.001, 0.1), 1
    config.train.update(
        batch_size=300, epochs=5, patience=100, checkpoint_every=1, snapshot_every=3
    )
    return read_configuration(config)[0]


def train(config: Configuration, workdir: Path, must_stop=lambda: False) -> bool:
    """The sweep in this process, where its programs are compiled once."""
    experiment = load_experiment(config)
    settle(experiment.config, workdir, free_fields(config), defaults(config))
    return run_sweep(experiment, workdir, must_stop)


def left_by(config: Configuration, workdir: Path) -> dict[str, object]:
    """Everything a sweep leaves, by name; what depends on the clock is left out."""
    experiment = load_experiment(config)
    x = np.zeros((1, *experiment.dataset.input_shape), np.float32)
    likes = {name: model.init(jax.random.key(0), x) for name, model in experiment.models.items()}
    found: dict[str, object] = {}
    for record in read_results(workdir):
        history = read_history(record.folder)
        weights = load(best_checkpoint(record.folder), likes[record.run.network])
        found[record.run.label] = record.plain() | {"seconds": None, "origins": None}
        arrays = {name: array for name, array in history.items() if name != "seconds"}
        leaves = jax.tree_util.tree_leaves_with_path(weights)
        arrays |= {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
        found |= {f"{record.run.label} {name}": array for name, array in arrays.items()}
    return found


def differences(ours: dict[str, object], theirs: dict[str, object]) -> list[str]:
    """Names of what is not the same to the bit."""
    return [
        name
        for name in sorted(ours.keys() | theirs.keys())
        if name not in ours
        or name not in theirs
        or not np.array_equal(np.asarray(ours[name]), np.asarray(theirs[name]))
    ]
