import numpy as np
import pytest
from sklearn.datasets import load_digits

from persist_jax import models, pgdl
from persist_jax.data.dataset import Dataset, Split
from persist_jax.training import Options, assemble
from persist_jax.training.state import Lane

# Whole batches and no snapshots: a test that needs a partial batch or snapshots says so, and pays
# for the larger program.
OPTIONS = Options(
    batch_size=35,
    epochs=6,
    patience=None,
    optimiser={
        "name": "sgd",
        "learning_rate": 0.05,
        "momentum": 0.9,
        "nesterov": True,
        "schedule": {"name": "staircase", "decay_rate": 0.95, "decay_steps": 5},
    },
    sampling=0.5,
    checkpoint_every=2,
    snapshot_every=0,
)


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32).reshape(-1, 8, 8, 1), y.astype(np.int32)
    cut = [slice(0, 140), slice(140, 210), slice(210, 270)]
    return Dataset("digits", *(Split(x[part], y[part]) for part in cut))


@pytest.fixture(scope="session")
def perceptron():
    return models.mlp((8, 8, 1), hidden=(12, 8), dropout=0.5)


@pytest.fixture(scope="session")
def convolutional():
    """Batch normalisation and dropout: everything that couples the examples of a batch."""
    config = {
        "input_shape": [8, 8, 1],
        "model_config": [
            {"layer_name": "Conv2D", "filters": 4, "kernel_size": 3, "activation": "relu"},
            {"layer_name": "BatchNormalization"},
            {"layer_name": "MaxPooling2D", "pool_size": 2},
            {"layer_name": "Dropout", "rate": 0.5},
            {"layer_name": "Flatten"},
            {"layer_name": "Dense", "units": 10},
        ],
    }
    return pgdl.network_from_config(config)


@pytest.fixture(scope="session")
def options() -> Options:
    return OPTIONS


@pytest.fixture(scope="session")
def build(dataset):
    """Programs and lanes of a network: `build(network, "t1", weights, **changes)`."""

    def make(
        network, regulariser, weights, *, parallel="lanes", lane_strategy="map", devices=1,
        **changes
    ):
        programs = assemble(
            network,
            dataset,
            OPTIONS.replace(**changes),
            regulariser=regulariser,
            parallel=parallel,
            lane_strategy=lane_strategy,
            devices=devices,
        )
        state, layout = programs.start(0), programs.layout
        count = layout.lanes_for(len(weights))
        padded = [*weights, *[weights[0]] * (count - len(weights))]
        lanes = layout.place([Lane(state, np.float32(weight)) for weight in padded])
        return programs, lanes, np.arange(count) < len(weights)

    return make


@pytest.fixture(scope="session")
def train(build):
    """Final states and per-epoch metrics of lanes after some epochs, on the host."""

    def run(*arguments, epochs=2, **changes):
        programs, lanes, wanted = build(*arguments, **changes)
        rows = []
        for epoch in range(epochs):
            lanes, metrics = programs.train_epoch(lanes, wanted, epoch)()
            rows.append(metrics)
        return programs.layout.fetch(lanes.state), rows

    return run
