"""Optimisers and learning rate schedules by name, from optax."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import optax

from persist_jax._plumbing.registry import Registry
from persist_jax._plumbing.validation import Mistakes
from persist_jax.parameters import Count, NotNegative, Positive, Rate, Share, Size

# An optimiser is `function(learning_rate, *, parameters) -> optax.GradientTransformation`, where
# the learning rate is a number or a schedule; a schedule is `function(learning_rate, *,
# parameters) -> optax.Schedule` of the step's number.
OPTIMISERS: Registry = Registry("optimiser")
SCHEDULES: Registry = Registry("schedule")
_OF_EVERY_OPTIMISER = {"learning_rate": (Positive, ...), "schedule": (Any, None)}


def make_optimiser(
    fields: Mapping[str, Any], where: str = "optimiser"
) -> optax.GradientTransformation:
    """Make the optimiser that a section `config.train.optimiser` describes.

    Args:
        fields: `name`, a registered optimiser; `learning_rate`, the first or the highest, depending
            on the schedule; the optimiser's own parameters; and, if the learning rate changes,
            `schedule`: a `name` and the schedule's own parameters.
        where: name of the section, for error messages.

    Returns:
        The optimiser.

    Raises:
        ValueError: a line for every invalid field.

    Example:
        >>> import jax.numpy as jnp
        >>> optimiser = make_optimiser({"name": "sgd", "learning_rate": 0.5})
        >>> updates, _ = optimiser.update(jnp.array(2.0), optimiser.init(jnp.array(0.0)))
        >>> float(updates)
        -1.0
    """
    mistakes, rate_of = Mistakes(), None
    with mistakes:
        entry, given = OPTIMISERS.choose(fields, where, "name", _OF_EVERY_OPTIMISER)
    schedule = fields.get("schedule") if isinstance(fields, Mapping) else None
    if schedule is not None:
        with mistakes:
            chosen, parameters = SCHEDULES.choose(schedule, f"{where}.schedule", "name")
            rate_of = partial(chosen.function, **parameters)
    mistakes.check()
    rate, _ = given.pop("learning_rate"), given.pop("schedule")
    return entry.function(rate_of(rate) if rate_of else rate, **given)


@OPTIMISERS.register("sgd")
def sgd(learning_rate, *, momentum: Rate = 0.0, nesterov: bool = False):
    """SGD with Keras' momentum: the learning rate scales a gradient as it enters the velocity."""
    return optax.chain(
        optax.scale_by_learning_rate(learning_rate),
        optax.trace(decay=momentum, nesterov=nesterov),
    )


@OPTIMISERS.register("adam")
def adam(learning_rate, *, b1: Rate = 0.9, b2: Rate = 0.999, eps: Positive = 1e-8):
    """Adam, from optax."""
    return optax.adam(learning_rate, b1=b1, b2=b2, eps=eps)


@OPTIMISERS.register("adamw")
def adamw(
    learning_rate,
    *,
    b1: Rate = 0.9,
    b2: Rate = 0.999,
    eps: Positive = 1e-8,
    weight_decay: NotNegative = 1e-4,
):
    """Adam with decoupled weight decay, from optax."""
    return optax.adamw(learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)


@SCHEDULES.register("constant")
def constant(learning_rate):
    """The same learning rate in every step."""
    return optax.constant_schedule(learning_rate)


@SCHEDULES.register("staircase")
def staircase(learning_rate, *, decay_rate: Positive, decay_steps: Count):
    """Multiply the learning rate by `decay_rate` every `decay_steps` steps; 0 steps: constant."""
    if decay_steps == 0:
        return optax.constant_schedule(learning_rate)
    return optax.exponential_decay(learning_rate, decay_steps, decay_rate, staircase=True)


@SCHEDULES.register("cosine")
def cosine(learning_rate, *, cosine_steps: Size, final: Share = 0.0):
    """Half a cosine over `cosine_steps` steps, down to the share `final` of the learning rate."""
    return optax.cosine_decay_schedule(learning_rate, cosine_steps, alpha=final)


@SCHEDULES.register("warm_up")
def warm_up(learning_rate, *, warm_up_steps: Size, cosine_steps: Count = 0, final: Share = 0.0):
    """Rise linearly from 0 over `warm_up_steps`, then `cosine`; 0 `cosine_steps`: constant."""
    rise = optax.linear_schedule(0.0, learning_rate, warm_up_steps)
    if cosine_steps:
        rest = optax.cosine_decay_schedule(learning_rate, cosine_steps, alpha=final)
    else:
        rest = optax.constant_schedule(learning_rate)
    return optax.join_schedules([rise, rest], [warm_up_steps])
