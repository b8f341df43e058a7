"""Small sweeps: a data set of some digits, and configurations of perceptrons on it."""

import pytest
from sklearn.datasets import load_digits

from persist_jax.data import Dataset, Split, register
from persist_jax.store.groups import Group
from persist_jax.store.locks import locked
from persist_jax.store.record import write_result
from persist_jax.store.run import Run
from persist_jax.sweep.experiment import Experiment
from persist_jax.sweep.grid import form_groups, open_groups
from persist_jax.sweep.group import train_group
from persist_jax.sweep.reading import read_configuration


@register("some_digits", places=("where",))
def some_digits(*, first: int = 0, where: str = "here", label_noise: float = 0.0) -> Dataset:
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype("float32").reshape(-1, 8, 8, 1), y.astype("int32")
    ends = (first, first + 140, first + 210, first + 270)
    cuts = [slice(*pair) for pair in zip(ends, ends[1:], strict=False)]
    parts = (Split(x[cut], y[cut]) for cut in cuts)
    return Dataset("some_digits", *parts, label_noise=label_noise)


def fields(**changes):
    """Every field of a configuration; dotted names change nested ones."""
    result = {
        "name": "small",
        "dataset": {"kind": "some_digits"},
        "networks": ["mlp"],
        "models": {
            "mlp": {"kind": "mlp", "hidden": [12, 8], "dropout": 0.5},
            "other": {"kind": "mlp", "hidden": [6]},
        },
        "regularisers": ["l2"],
        "terms": {},
        "weights": [1e-3, 1e38, 0.1],  # the second overflows in its first step
        "seeds": [0],
        "train": {
            "batch_size": 70,
            "epochs": 5,
            "patience": None,
            "min_delta": 0.0,
            "optimiser": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9},
            "sampling": 0.5,
            "term_every": 1,
            "term_epochs": None,
            "checkpoint_every": 2,
            "snapshot_every": 3,
        },
        "continued": False,
        "parallel": "lanes",
        "lane_strategy": "map",
        "devices": 1,
        "max_lanes": 0,
        "report": {"significance": 0.05, "test": "nemenyi", "correction": "holm"},
    }
    for name, value in changes.items():
        *rooms, field = name.split(".")
        target = result
        for room in rooms:
            target = target[room]
        target[field] = value
    return result


@pytest.fixture(scope="session")
def small():
    """`small(**changes)`: the configuration; `small.fields(**changes)`: what it is read from."""

    def configuration(**changes):
        return read_configuration(fields(**changes))[0]

    configuration.fields = fields
    return configuration


def groups_of(config, workdir) -> list[Group]:
    """Form the groups of a folder, as a sweep does; those with runs to train."""
    form_groups(config, workdir)
    return open_groups(config, workdir)


def train(experiment: Experiment, workdir, **how) -> bool:
    """Train the only group of a folder, as a sweep does."""
    (group,) = groups_of(experiment.config, workdir)
    with locked(group.lock(workdir)) as lock:
        return train_group(experiment, group, workdir, lock, **how)


def stop_after(epochs: int):
    """A wish to stop that comes during the epoch of that number."""
    calls = iter(range(1000))
    return lambda: next(calls) >= epochs - 1


def finish(run: Run, workdir, *, folder: str = "", best_epoch: int = 1) -> None:
    """Write a result of a run that was not trained."""
    accuracy = dict.fromkeys(("train", "validation", "test"), 0.5)
    write_result(
        run.folder(workdir) / folder,
        {
            "network": run.network, "regulariser": run.regulariser, "weight": run.weight,
            "seed": run.seed, "status": "completed", "reason": None, "epochs": 30,
            "best_epoch": best_epoch,
            "best_iteration": 1, "validation_loss": 1.0, "seconds": 1.0,
            "accuracy": {"initial": accuracy, "trained": accuracy},
        },
    )  # fmt: skip
