"""Sweeps as a training would leave them, made up from a formula and a seed."""

import json

import numpy as np
import pytest

from persist_jax.store import Run, write_history, write_result

WEIGHTS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 5.0, 10.0, 100.0)
REGULARISERS = ("none", "t1", "t2", "min_corr", "l1", "l2")


def record(network="mlp_0", regulariser="t1", weight=1e-3, seed=0, **changes):
    """The fields of a `result.json`; `validation` and `test` are trained accuracies."""
    trained = {
        "train": 0.9,
        "validation": changes.pop("validation", 0.8),
        "test": changes.pop("test", 0.7),
    }
    fields = {
        "network": network,
        "regulariser": regulariser,
        "weight": weight,
        "seed": seed,
        "status": "completed",
        "reason": None,
        "epochs": 12,
        "best_epoch": 8,
        "best_iteration": 80,
        "validation_loss": 0.5,
        "accuracy": {
            "initial": {"train": 0.1, "validation": 0.1, "test": 0.1},
            "trained": trained,
        },
        "seconds": 3.25,
    }
    return fields | changes


def history(generator, epochs=12, steps=10, neurons=60, drift=0.5):
    """A falling loss, and deaths that spread while training goes on."""
    iterations = epochs * steps
    fall = 0.2 + 2 * np.exp(-np.arange(iterations) / (0.3 * iterations))
    snapshots = np.arange(0, iterations, max(steps // 2, 1))
    shape = np.linspace(0, 1, len(snapshots))[:, None]
    spread = generator.beta(2 + 6 * drift * shape, 5 - 3 * drift * shape, (len(snapshots), neurons))
    return {
        "train_loss": fall + 0.1 * generator.random(iterations),
        "train_term": -np.abs(generator.random(iterations)),
        "validation_loss": fall[steps - 1 :: steps] + 0.1 + 0.02 * np.arange(epochs) * drift,
        "validation_accuracy": 0.1 + 0.8 * np.linspace(0, 1, epochs),
        "seconds": np.full(epochs, 0.3),
        "deaths": np.sort(spread, axis=1).astype(np.float32),
        "deaths_iteration": snapshots,
    }


def write_config(workdir, name="mnist", **fields):
    workdir.mkdir(parents=True, exist_ok=True)
    config = {
        "name": name,
        "dataset": {"kind": name},
        "report": {"significance": 0.05, "test": "nemenyi", "correction": "holm"},
    }
    (workdir / "config.json").write_text(json.dumps(config | fields))
    return workdir


def write_run(workdir, fields, arrays=None):
    names = ("network", "regulariser", "weight", "seed")
    folder = Run(**{name: fields[name] for name in names}).folder(workdir)
    if arrays is not None:
        fields = fields | {"epochs": len(arrays["validation_loss"])}
    write_result(folder, fields)
    if arrays is not None:
        write_history(folder, arrays)
    return folder


def write_sweep(
    workdir,
    networks=("mlp_0", "mlp_1", "mlp_2"),
    regularisers=REGULARISERS,
    weights=WEIGHTS,
    seeds=(0,),
    name="mnist",
    **sizes,
):
    """A whole sweep; the largest weight diverges for l1 and l2."""
    generator = np.random.default_rng(0)
    gains = {"t1": 0.02, "t2": 0.025, "min_corr": 0.015, "l1": -0.01, "l2": 0.005}
    write_config(workdir, name, networks=list(networks), regularisers=list(regularisers))
    for network in networks:
        for regulariser in regularisers:
            for weight in (0.0,) if regulariser == "none" else weights:
                for seed in seeds:
                    gain = gains.get(regulariser, 0)
                    off = 0.01 * abs(np.log10(abs(weight) or 1) + 2)
                    level = 0.9 + gain - off + 0.004 * generator.normal()
                    fields = record(network, regulariser, weight, seed, validation=level)
                    fields["accuracy"]["trained"]["test"] = level - 0.01
                    if regulariser in ("l1", "l2") and weight == max(weights):
                        fields |= {"status": "diverged", "reason": "loss not finite at step 3"}
                        fields["validation_loss"] = None
                    drift = 0.2 + 10 * gain if regulariser != "l1" else 0.1
                    write_run(workdir, fields, history(generator, drift=max(drift, 0), **sizes))
    return workdir


class Sweeps:
    """What the tests of this folder build their folders from."""

    record = staticmethod(record)
    history = staticmethod(history)
    config = staticmethod(write_config)
    run = staticmethod(write_run)
    write = staticmethod(write_sweep)


@pytest.fixture(scope="session")
def sweeps():
    return Sweeps
