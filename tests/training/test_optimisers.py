"""Optimisers and schedules by name, against optax and formulas."""

import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from persist_jax.training.optimisers import make_optimiser


def _path(optimiser, steps=6):
    """Where a parameter goes under the gradients 1, 2, 3, ..."""
    value = jnp.zeros(3)
    state, places = optimiser.init(value), []
    for step in range(steps):
        updates, state = optimiser.update(jnp.full(3, step + 1.0), state, value)
        value = optax.apply_updates(value, updates)
        places.append(float(value[0]))
    return np.array(places)


def test_sgd_scales_a_gradient_as_it_enters_the_velocity():
    fields = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.5}
    fields["schedule"] = {"name": "staircase", "decay_rate": 0.5, "decay_steps": 2}
    velocity, place, places = 0.0, 0.0, []
    for step in range(6):
        velocity = 0.5 * velocity - 0.1 * 0.5 ** (step // 2) * (step + 1)
        place += velocity
        places.append(place)
    np.testing.assert_allclose(_path(make_optimiser(fields)), places, rtol=1e-5)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_is_optax(name):
    fields = {"name": name, "learning_rate": 0.1, "b1": 0.8}
    ours = _path(make_optimiser(fields))
    theirs = _path({"adam": optax.adam, "adamw": optax.adamw}[name](0.1, b1=0.8))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize(
    "schedule, rates",
    [
        ({"name": "constant"}, [2.0, 2.0, 2.0]),
        ({"name": "staircase", "decay_rate": 0.5, "decay_steps": 2}, [2.0, 1.0, 0.5]),
        ({"name": "staircase", "decay_rate": 0.5, "decay_steps": 0}, [2.0, 2.0, 2.0]),
        ({"name": "cosine", "cosine_steps": 4, "final": 0.1}, [2.0, 1.1, 0.2]),
        ({"name": "warm_up", "warm_up_steps": 4}, [0.0, 1.0, 2.0]),
        (
            {"name": "warm_up", "warm_up_steps": 2, "cosine_steps": 4},
            [0.0, 2.0, 1 + math.cos(math.pi / 2)],
        ),
    ],
)
def test_schedules_are_their_formulas(schedule, rates):
    """Rates at steps 0, 2 and 4."""
    fields = {"name": "sgd", "learning_rate": 2.0, "schedule": schedule}
    moves = -np.diff(_path(make_optimiser(fields), 5), prepend=0) / np.arange(1, 6)
    np.testing.assert_allclose(moves[[0, 2, 4]], rates, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"name": "sdg"}, "optimiser.name: 'sdg' is not one of sgd, adam, adamw"),
        ({"learning_rate": 0}, "optimiser.learning_rate: 0 must be above 0"),
        ({"learning_rate": float("inf")}, "optimiser.learning_rate: inf is not finite"),
        ({"learning_rate": None}, "optimiser.learning_rate: None is not a number"),
        ({"momentum": 1.0}, "optimiser.momentum: 1.0 must be below 1"),
        ({"nesterov": "false"}, "optimiser.nesterov: 'false' is not true or false"),
        ({"b1": 0.9}, "optimiser.b1: unknown field; known are momentum, nesterov"),
        ({"schedule": {"name": "step"}}, "optimiser.schedule.name: 'step' is not one of constant"),
        ({"schedule": {"name": "cosine"}}, "optimiser.schedule.cosine_steps: missing"),
        ({"schedule": {}}, "optimiser.schedule.name: missing; it is one of constant, staircase"),
        (
            {"schedule": {"name": "staircase", "decay_rate": float("nan"), "decay_steps": 1}},
            "optimiser.schedule.decay_rate: nan",
        ),
    ],
)
def test_what_is_wrong_is_named(change, message):
    fields = {"name": "sgd", "learning_rate": 0.1} | change
    with pytest.raises(ValueError, match=f"^{message}"):
        make_optimiser(fields)


