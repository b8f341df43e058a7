"""What the record of a run says of a network whose redundant neurons are known."""

import jax.numpy as jnp
import numpy as np
import pytest

from persist_jax import models
from persist_jax.data import Dataset, Split
from persist_jax.sweep.diagnosis import Diagnosis
from persist_jax.training import Options


@pytest.fixture(scope="module")
def diagnosis():
    """Of eight hidden neurons three are a cluster, two a pair, one is constant."""

    def apply(params, x):
        a, b, c, d = x.T
        hidden = [9 * a, -7 * a + 0.1 * b, 8 * a - 0.1 * c, 5 * b, 4 - 3 * b, 0 * a + 6, c, d]
        return x[:, :1], [params["scale"] * jnp.stack(hidden, 1), x[:, 3:] ** 2]

    def split(seed, size):
        x = np.random.default_rng(seed).normal(size=(size, 4)).astype("float32")
        return Split(x, np.arange(size, dtype="int32") ** 2 % 5)

    dataset = Dataset("normal", split(0, 40), split(1, 50), split(2, 30), classes=5)
    options = Options(
        batch_size=32, epochs=1, sampling=0.75, optimiser={"name": "sgd", "learning_rate": 1.0}
    )
    network = models.function(lambda key, x: {"scale": jnp.ones(())}, apply)
    return Diagnosis(network, options, dataset)


def _scaled(scale):
    return {"params": {"scale": jnp.asarray(scale, jnp.float32)}}


def test_planted_neurons_are_counted(diagnosis):
    found = diagnosis.record(None, _scaled(1.0))["redundancy"]
    assert (found["examples"], found["threshold"], found["initial"]) == (32, 0.9, None)
    deaths, mean = (found["trained"].pop(name) for name in ("deaths", "mean_correlation"))
    assert found["trained"] == {"neurons": 7, "constant": 1, "clusters": 2, "clustered": 5}
    assert len(deaths) == 5 and deaths[0] < 0.01 and deaths[-1] == 1.0
    assert 4 / 15 < mean < 0.5  # 4 of the 15 pairs of those that vary are all but the same


def test_guessing_is_that_of_the_validation_labels(diagnosis):
    """Squares modulo 5 are 0, 1, 4, 4, 1: of 50 labels 20 are 1, and of no other more."""
    found = diagnosis.record(None, _scaled(1.0))
    assert found["points"] == 7
    assert found["chance"] == {"share": 0.4, "examples": 50}


def test_what_is_not_finite_is_not_counted(diagnosis):
    assert diagnosis.of(_scaled(np.inf)) is None
    assert diagnosis.of(_scaled(0.0))["constant"] == 6
