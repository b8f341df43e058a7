"""One step of training, pure: `(state, batch, weight) -> (state, metrics)`."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from persist_jax.kernels import correlation_deaths
from persist_jax.models.model import Model, Variables
from persist_jax.regularisers import Regulariser
from persist_jax.training.options import Options
from persist_jax.training.state import GRADIENT, LOSS, LaneState, Term


class Batch(NamedTuple):
    """Examples of one step and the step's number, which all lanes share."""

    x: Float[Array, "b ..."]
    y: Int[Array, "b"]
    iteration: Int[Array, ""]


class StepMetrics(NamedTuple):
    """What a step minimised, and how much of it was the weighted term."""

    loss: Float[Array, ""]
    term: Float[Array, ""]


Step = Callable[[LaneState, Batch, Float[Array, ""]], tuple[LaneState, StepMetrics]]


def make_step(
    model: Model,
    optimiser: optax.GradientTransformation,
    regulariser: Regulariser | None,
    options: Options,
    axis_name: str | None = None,
) -> Step:
    """A step that minimises `cross_entropy + weight * term`.

    A step whose loss or gradient is not finite changes no weight and ends the lane; so does every
    later step of a lane that has ended. With an axis, every device of it holds its share of
    the batch and the step equals one on the whole batch.

    Args:
        model: applied in training mode for the cross-entropy and in inference mode for the term;
            one pass serves both where the modes do not differ. With an axis, one that shares it.
        optimiser: of the weights.
        regulariser: the term, or `None`.
        options: the hyperparameters; `sampling`, `neurons` and `term_every` are used here.
        axis_name: the mapped axis over which the batch is shared out.

    Returns:
        The step. `weight` is an argument, so one compilation serves every weight.
    """
    gradients = _separate if regulariser and options.term_every > 1 else _together
    differentiate = gradients(model, regulariser, options, axis_name)

    def step(state, batch, weight):
        metrics, gradient, collections, last_term = differentiate(state, batch, weight)
        metrics, gradient = _mean_over_devices((metrics, gradient), axis_name)
        fine_loss, fine_gradient = jnp.isfinite(metrics.loss), _all_finite(gradient)
        updates, opt_state = optimiser.update(gradient, state.opt_state, state.params)
        moved = state._replace(
            params=optax.apply_updates(state.params, updates),
            collections=collections,
            opt_state=opt_state,
            last_term=last_term,
        )
        stopped = state._replace(
            active=jnp.zeros_like(state.active),
            reason=jnp.where(
                state.active, jnp.where(fine_loss, GRADIENT, LOSS), state.reason
            ).astype(jnp.int32),
            ended_at=jnp.where(state.active, batch.iteration, state.ended_at),
        )
        moves = state.active & fine_loss & fine_gradient
        return jax.tree.map(lambda new, old: jnp.where(moves, new, old), moved, stopped), metrics

    return step


def deaths_of(
    model: Model,
    variables: Variables,
    x: Float[Array, "b ..."],
    options: Options,
    axis_name: str | None = None,
) -> Float[Array, "m"]:
    """The deaths of a network on a batch, as the regularisers see them."""
    _, activations = model.apply(variables, x, train=False)
    return correlation_deaths(options.points(activations, axis_name), axis_name=axis_name)


def cross_entropy(logits: Float[Array, "b c"], y: Int[Array, "b"]) -> Float[Array, ""]:
    """Mean cross-entropy of the logits against the labels, in nats."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))


def _forward(model: Model, params, state: LaneState, batch: Batch):
    """Logits and activations in training mode, and the collections after it."""
    key = jax.random.fold_in(jax.random.key(state.seed), batch.iteration)
    return model.apply_in_training({"params": params, **state.collections}, batch.x, key)


def _term(model, regulariser, options, axis_name, params, collections, activations, batch):
    if regulariser.takes == "params":
        return regulariser.term(params)
    if activations is None or model.training_differs:
        variables = {"params": params, **jax.lax.stop_gradient(collections)}
        _, activations = model.apply(variables, batch.x, train=False)
    points = options.points(activations, axis_name)
    if regulariser.takes == "points":
        return regulariser.term(points)
    deaths = correlation_deaths(points, axis_name=axis_name, ordered=regulariser.ordered)
    return regulariser.term(deaths)


def _together(model, regulariser, options, axis_name):
    """Cross-entropy and term in one backward pass."""

    def loss(params, state, batch, weight):
        (logits, activations), collections = _forward(model, params, state, batch)
        entropy, term = cross_entropy(logits, batch.y), jnp.float32(0)
        if regulariser is not None:
            term = weight * _term(
                model, regulariser, options, axis_name, params, collections, activations, batch
            )
        return entropy + term, (StepMetrics(entropy + term, term), collections)

    def differentiate(state, batch, weight):
        (_, (metrics, collections)), gradient = jax.value_and_grad(loss, has_aux=True)(
            state.params, state, batch, weight
        )
        return metrics, gradient, collections, state.last_term

    return differentiate


def _separate(model, regulariser, options, axis_name):
    """The term has a backward pass of its own, taken only in the iterations where it is due."""

    def entropy(params, state, batch):
        (logits, _), collections = _forward(model, params, state, batch)
        return cross_entropy(logits, batch.y), collections

    def weighted_term(params, collections, batch, weight):
        term = _term(model, regulariser, options, axis_name, params, collections, None, batch)
        return (weight * term).astype(jnp.float32)

    def differentiate(state, batch, weight):
        (loss, collections), gradient = jax.value_and_grad(entropy, has_aux=True)(
            state.params, state, batch
        )

        def fresh():
            term = jax.value_and_grad(weighted_term)(state.params, collections, batch, weight)
            # Kept in the state, which is the same on every device.
            return Term(*_mean_over_devices(term, axis_name))

        due = batch.iteration % options.term_every == 0
        last_term = jax.lax.cond(due, fresh, lambda: state.last_term)
        metrics = StepMetrics(loss + last_term.value, last_term.value)
        gradient = jax.tree.map(jnp.add, gradient, last_term.gradient)
        return metrics, gradient, collections, last_term

    return differentiate


def _mean_over_devices(tree: PyTree, axis_name: str | None) -> PyTree:
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
