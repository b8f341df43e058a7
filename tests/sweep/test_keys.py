"""States with typed keys of `jax.random`: trained, saved, resumed, loaded."""

import jax
import numpy as np
import optax
import pytest
from flax import linen

import persist_jax as pj
from persist_jax import models
from persist_jax.store.configuration import settle
from persist_jax.store.record import read_results
from persist_jax.sweep import load_experiment, run_sweep
from persist_jax.training import OPTIMISERS, Options, train
from tests.sweep.conftest import some_digits, stop_after


@OPTIMISERS.register("noisy_of_tests")
def noisy(learning_rate):
    """Keeps a key, whose noise is another one in every step."""
    return optax.chain(optax.add_noise(0.01, 0.5, jax.random.key(7)), optax.sgd(learning_rate))


class Counting(linen.Module):
    """Keeps a key in a collection, and renews it in training."""

    @linen.compact
    def __call__(self, x, train=False):
        key = self.variable("noise", "key", lambda: jax.random.key(3))
        if train and not self.is_initializing():
            key.value = jax.random.split(key.value)[0]
        x = x.reshape(len(x), -1) + 0.1 * jax.random.normal(key.value, (1, 64))
        hidden = linen.relu(linen.Dense(6)(x))
        logits = linen.Dense(10)(hidden)
        return logits, [hidden, logits]


@models.register("counting_of_tests")
def counting(input_shape, classes):
    return models.linen(Counting())


OPTIMISER = {"name": "noisy_of_tests", "learning_rate": 0.05}


@pytest.mark.slow
def test_such_a_state_is_trained():
    options = Options(batch_size=70, epochs=2, optimiser=OPTIMISER)
    model = counting((8, 8, 1), 10)
    one, other = train(model, some_digits(), options, regulariser="t1", weights=(0.0, 0.1))
    assert one.outcome["status"] == other.outcome["status"] == "completed"
    kept = one.variables["noise"]["key"]
    assert jax.dtypes.issubdtype(kept.dtype, jax.dtypes.prng_key)
    assert (jax.random.key_data(kept) != jax.random.key_data(jax.random.key(3))).any()


@pytest.fixture(scope="module")
def experiment(small):
    models = {"counting": {"kind": "counting_of_tests"}}
    changes = {"networks": ["counting"], "models": models, "weights": [0.1]}
    return load_experiment(small(**changes, **{"train.optimiser": OPTIMISER}))


@pytest.mark.slow
def test_resumed_is_uninterrupted_to_the_bit_and_a_run_loads(experiment, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        settle(experiment.config, folder, ())
    assert run_sweep(experiment, whole)
    assert not run_sweep(experiment, parts, stop_after(3))
    assert run_sweep(experiment, parts)
    one, other = (pj.load_run(folder, "counting", "l2", 0.1) for folder in (whole, parts))
    jax.tree.map(np.testing.assert_array_equal, *(map(_data, (one.trained, other.trained))))
    np.testing.assert_array_equal(one.history["train_loss"], other.history["train_loss"])
    logits, _ = one.model.apply(one.trained, one.dataset.test.x)
    right = np.mean(np.asarray(logits).argmax(1) == one.dataset.test.y)
    (record,) = read_results(whole)
    np.testing.assert_allclose(right, record.accuracy.trained.test, atol=1e-6)


def _data(variables):
    typed = variables["noise"]["key"]
    return dict(variables) | {"noise": jax.random.key_data(typed)}
