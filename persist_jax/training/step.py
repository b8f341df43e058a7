"""One step of training, pure: `(state, batch, weight) -> (state, metrics)`."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from persist_jax.models.model import Model
from persist_jax.models.network import Network
from persist_jax.models.precision import unwrapped
from persist_jax.terms import Term
from persist_jax.training.options import Options
from persist_jax.training.state import (
    GRADIENT,
    LOSS,
    LaneState,
    TermGradient,
    pack_keys,
    unpack_keys,
)


class Batch(NamedTuple):
    """Examples of one step and the step's number, which all lanes share."""

    x: Float[Array, "b ..."]
    y: Int[Array, "b"]
    iteration: Int[Array, ""]


class StepMetrics(NamedTuple):
    """The loss that a step minimised, and its weighted terms."""

    loss: Float[Array, ""]
    term: Float[Array, ""]


Added = tuple[Term, float]
Step = Callable[[LaneState, Batch, Float[Array, ""]], tuple[LaneState, StepMetrics]]


def make_step(
    model: Model,
    optimiser: optax.GradientTransformation,
    term: Term,
    options: Options,
    added: Sequence[Added] = (),
) -> Step:
    """Make a step that minimises `cross_entropy + weight * term` and the `added` terms.

    A step whose loss or gradient is not finite changes no weight and ends the lane. Further steps
    of an ended lane change nothing. With a mapped axis, every device holds its share of the batch,
    and the step equals a step on the whole batch.

    Args:
        model: applied in training mode for the cross-entropy and in inference mode for the term;
            one pass serves both if the modes do not differ. With a mapped axis, the network's
            `sharing` over this axis.
        optimiser: the optimiser of the weights.
        term: the first term; its `axis_name` is the mapped axis over which the batch is split.
        options: the hyperparameters, of which `term_every` is used here.
        added: further terms, each with a weight that is the same for every lane.

    Returns:
        The step. `weight` is an argument, so one compilation serves every weight.
    """
    axis_name = term.axis_name
    if has_term(term, added) and options.term_every > 1:
        differentiate = _separate(model, term, added, options.term_every)
    else:
        differentiate = _together(model, term, added)

    def step(state, batch, weight):
        state = unpack_keys(state)
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
        chosen = jax.tree.map(
            lambda new, old: jnp.where(moves, new, old), pack_keys(moved), pack_keys(stopped)
        )
        return chosen, metrics

    return step


def has_term(term: Term, added: Sequence[Added]) -> bool:
    """Whether any term is added to the cross-entropy."""
    return any(one.adds for one, _ in ((term, None), *added))


def check_dropout(model: Model, term: Term, added: Sequence[Added], where: str = "") -> None:
    """Raise `ValueError` for dropout in a network that is not a `Network` with hidden layers."""
    network = unwrapped(model)
    if _rate(term, added, 0.5) is None:
        return
    if not isinstance(network, Network) or not network.hidden_layers:
        name = "dropout" if term.of == "dropout" else f"{term.name}+dropout"
        raise ValueError(
            f"regularisers: {name}{where} drops values of hidden layers, but this network is not a "
            "chain of layers with hidden layers"
        )


def cross_entropy(logits: Float[Array, "b c"], y: Int[Array, "b"]) -> Float[Array, ""]:
    """Mean cross-entropy of the logits against the labels, in nats."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))


def _forward(model: Model, params, state: LaneState, batch: Batch, rate):
    """Logits and activations in training mode, and the collections after it."""
    key = jax.random.fold_in(jax.random.key(state.seed), batch.iteration)
    variables = {"params": params, **state.collections}
    how = {} if rate is None else {"dropout": rate}
    return model.apply_in_training(variables, batch.x, key, **how)


def _rate(term: Term, added: Sequence[Added], weight):
    """The rate of dropout; None if dropout is not among the terms."""
    rates = [own for one, own in ((term, weight), *added) if one.of == "dropout"]
    return jnp.asarray(rates[0], jnp.float32) if rates else None


def _weighted(model: Model, term: Term, added, params, collections, x, weight, activations=None):
    """The sum of all terms, each times its weight."""
    total = jnp.float32(0)
    for one, own in ((term, weight), *added):
        if one.adds:
            seen = _seen(model, one, params, collections, x, activations)
            value = own * one(seen, params)
            total = value if one is term else total + value
    return total


def _seen(model: Model, term: Term, params, collections, x, activations=None):
    """The activations for the term, in inference mode."""
    # The given activations are those of training mode, which are often the same.
    if term.of == "params" or (activations is not None and not model.training_differs):
        return activations
    variables = {"params": params, **jax.lax.stop_gradient(collections)}
    return model.apply(variables, x, train=False)[1]


def _together(model: Model, term: Term, added: Sequence[Added]):
    """Cross-entropy and terms in one backward pass."""

    def loss(params, state, batch, weight):
        rate = _rate(term, added, weight)
        (logits, activations), collections = _forward(model, params, state, batch, rate)
        entropy = cross_entropy(logits, batch.y)
        seen = activations if rate is None else None
        weighted = _weighted(model, term, added, params, collections, batch.x, weight, seen)
        return entropy + weighted, (StepMetrics(entropy + weighted, weighted), collections)

    def differentiate(state, batch, weight):
        (_, (metrics, collections)), gradient = jax.value_and_grad(loss, has_aux=True)(
            state.params, state, batch, weight
        )
        return metrics, gradient, collections, state.last_term

    return differentiate


def _separate(model: Model, term: Term, added: Sequence[Added], every: int):
    """Cross-entropy and terms in separate backward passes; that of the terms only when due."""

    def entropy(params, state, batch, weight):
        rate = _rate(term, added, weight)
        (logits, _), collections = _forward(model, params, state, batch, rate)
        return cross_entropy(logits, batch.y), collections

    def weighted_term(params, collections, batch, weight):
        value = _weighted(model, term, added, params, collections, batch.x, weight)
        return value.astype(jnp.float32)

    def differentiate(state, batch, weight):
        (loss, collections), gradient = jax.value_and_grad(entropy, has_aux=True)(
            state.params, state, batch, weight
        )

        def fresh():
            found = jax.value_and_grad(weighted_term)(state.params, collections, batch, weight)
            # The state that keeps this gradient must be the same on every device.
            return TermGradient(*_mean_over_devices(found, term.axis_name))

        due = batch.iteration % every == 0
        last_term = jax.lax.cond(due, fresh, lambda: state.last_term)
        metrics = StepMetrics(loss + last_term.value, last_term.value)
        gradient = jax.tree.map(jnp.add, gradient, last_term.gradient)
        return metrics, gradient, collections, last_term

    return differentiate


def _mean_over_devices(tree: PyTree, axis_name: str | None) -> PyTree:
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
