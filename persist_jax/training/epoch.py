"""One epoch of one run as a single scan, and what follows it: validation and early stopping."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from persist_jax.data.dataset import Drawn, Split
from persist_jax.models.model import Model, Variables
from persist_jax.terms import Term, constant_neurons, measures
from persist_jax.training.options import Options
from persist_jax.training.state import VALIDATION, Best, Data, LaneState
from persist_jax.training.step import Added, Batch, StepMetrics, make_step


class EpochMetrics(NamedTuple):
    """The metrics of one epoch of a run."""

    loss: Float[Array, "steps"]
    term: Float[Array, "steps"]
    deaths: Float[Array, "snapshots m"]  # a row per snapshot of this epoch, then rows of NaN
    validation_loss: Float[Array, ""]
    validation_accuracy: Float[Array, ""]
    constant_neurons: Int[Array, ""]  # among the sampled neurons
    measures: dict[str, Float[Array, ""]]  # empty unless the options request them


class EpochPlan(NamedTuple):
    """How an epoch is split into steps, and at which steps the deaths are recorded."""

    examples: int
    batch_size: int
    snapshot_every: int

    @property
    def full_steps(self) -> int:
        return self.examples // self.batch_size

    @property
    def steps(self) -> int:
        return math.ceil(self.examples / self.batch_size)

    @property
    def ends_with_one(self) -> bool:
        """Whether the last batch is a single example, on which every neuron is constant."""
        return self.examples % self.batch_size == 1

    @property
    def snapshots(self) -> int:
        """The largest number of snapshots that any epoch takes."""
        return math.ceil(self.steps / self.snapshot_every) if self.snapshot_every else 0

    def cut(
        self, order: Int[Array, "examples"]
    ) -> tuple[Int[Array, "full_steps batch"], Int[Array, "rest"]]:
        """The full batches of an epoch's order, and the remaining examples."""
        count = self.full_steps * self.batch_size
        return order[:count].reshape(self.full_steps, self.batch_size), order[count:]

    def snapshot_iterations(self, epoch: int) -> list[int]:
        """Iterations of an epoch (0-based) at which the deaths are recorded."""
        if not self.snapshot_every:
            return []
        iterations = range(epoch * self.steps, (epoch + 1) * self.steps - self.ends_with_one)
        return [i for i in iterations if i % self.snapshot_every == 0]


Epoch = Callable[
    [LaneState, Float[Array, ""], Data, Int[Array, ""], Drawn | None],
    tuple[LaneState, EpochMetrics],
]


def make_epoch(
    model: Model,
    optimiser: optax.GradientTransformation,
    term: Term,
    options: Options,
    examples: int,
    axis_name: str | None = None,
    added: Sequence[Added] = (),
) -> Epoch:
    """Make the function that trains one lane for one epoch, independently of other lanes.

    The order of the examples depends only on the run's seed and the epoch's number, so a resumed
    run sees the same batches as an uninterrupted run.

    Args:
        model: the network, for whole batches.
        optimiser: the optimiser of the weights.
        term: the term added to the cross-entropy, for whole batches.
        options: the hyperparameters.
        examples: number of training examples.
        axis_name: the mapped axis over which every batch is split.
        added: further terms, each with a weight that is the same for every lane.

    Returns:
        `epoch(state, weight, data, number, drawn)`, which returns the state after the epoch of this
        number (0-based) and its metrics. `drawn` holds the run's examples; None for all training
        examples.
    """
    plan = EpochPlan(examples, options.batch_size, options.snapshot_every)
    shared, shared_term = model.sharing(axis_name), replace(term, axis_name=axis_name)
    shared_added = [(replace(one, axis_name=axis_name), weight) for one, weight in added]
    step = _recorded(shared, shared_term, optimiser, options, shared_added)
    # The last, partial batch need not divide over the devices, so each device takes it whole. On a
    # single example, a term of activations and the deaths would be those of constant neurons.
    last_term, last_added = term, added
    if plan.ends_with_one:
        options = options.replace(snapshot_every=0)
        last_term = options.term("none") if term.of in ("deaths", "points") else term
        last_added = [pair for pair in added if pair[0].of not in ("deaths", "points")]
    last_step = _recorded(model, last_term, optimiser, options, last_added)

    def epoch(state, weight, data, number, drawn=None):
        batches, rest = plan.cut(_order(state.seed, number, plan.examples))
        first = number * plan.steps
        deaths = _empty_snapshots(model, term, state, data.train, plan)

        def body(carry, inputs):
            indices, i = inputs
            batch = take(data.train, own_share(indices, axis_name), first + i, drawn)
            return step(carry, batch, weight, first)

        carry, metrics = jax.lax.scan(
            body, (state, deaths), (batches, jnp.arange(plan.full_steps, dtype=jnp.int32))
        )
        if len(rest):
            batch = take(data.train, rest, first + plan.full_steps, drawn)
            carry, last = last_step(carry, batch, weight, first)
            metrics = jax.tree.map(lambda rows, row: jnp.append(rows, row), metrics, last)
        state, deaths = carry
        loss, accuracy = evaluate(
            shared, state.variables, data.validation, options.batch_size, axis_name
        )
        constant, measured = watch(
            shared,
            shared_term,
            state.variables,
            data.validation,
            options.batch_size,
            measured=options.measures,
        )
        state = _stop_early(state, loss, number + 1, plan.steps, options)
        return state, EpochMetrics(
            metrics.loss, metrics.term, deaths, loss, accuracy, constant, measured
        )

    return epoch


def evaluate(
    model: Model,
    variables: Variables,
    split: Split,
    batch_size: int,
    axis_name: str | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean cross-entropy and accuracy of a network on a split, in inference mode."""
    examples = split.y.shape[0]

    def body(sums, indices):
        indices = own_share(indices, axis_name)
        batch = take(split, jnp.minimum(indices, examples - 1), None)
        logits, _ = model.apply(variables, batch.x, train=False)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.y)
        right = jnp.argmax(logits, axis=-1) == batch.y
        counted = indices < examples
        loss, correct = sums
        return (
            loss + jnp.sum(jnp.where(counted, losses, 0)).astype(loss.dtype),
            correct + jnp.sum(counted & right, dtype=jnp.int32),
        ), None

    positions = in_batches(examples, batch_size, axis_name)
    sums, _ = jax.lax.scan(body, (jnp.float32(0), jnp.int32(0)), positions)
    if axis_name is not None:
        sums = jax.lax.psum(sums, axis_name)
    loss, correct = sums
    return loss / examples, correct.astype(loss.dtype) / examples


def in_batches(
    examples: int, batch_size: int, axis_name: str | None
) -> Int[Array, "batches size"]:
    """Positions of all examples in batches; the last batch is filled up with positions beyond.

    No batch is larger than the examples need: a `batch_size` may be meant as "all at once".
    """
    devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
    size = min(batch_size, math.ceil(examples / devices) * devices)
    return jnp.arange(math.ceil(examples / size) * size).reshape(-1, size)


def watch(
    model: Model,
    term: Term,
    variables: Variables,
    split: Split,
    batch_size: int,
    *,
    measured: bool,
) -> tuple[Int[Array, ""], dict[str, Float[Array, ""]]]:
    """Measure the sampled neurons on a split's first batch, in inference mode.

    Args:
        model: the network; with a mapped axis, its `sharing` over this axis.
        term: the term that samples the neurons. If its mapped axis divides the batch, the batch is
            split over the axis.
        variables: the network's variables.
        split: the examples, of which the first `batch_size` are used.
        batch_size: examples per step.
        measured: whether to take the `measures` of the cloud.

    Returns:
        The number of constant neurons, and the measures, empty unless `measured`.
    """
    first = jnp.arange(min(batch_size, split.y.shape[0]))
    axis_name = term.axis_name
    if axis_name is not None and len(first) % jax.lax.axis_size(axis_name):
        axis_name = None
    batch = take(split, own_share(first, axis_name), None)
    _, activations = model.apply(variables, batch.x, train=False)
    points = replace(term, axis_name=axis_name).points(activations)
    constant = jnp.sum(constant_neurons(points), dtype=jnp.int32)
    if not measured:
        return constant, {}
    return constant, measures(
        activations,
        fraction=term.fraction,
        whole=term.whole,
        layers=term.layers,
        neurons=term.neurons,
        axis_name=axis_name,
        per_layer=False,
    )


def _order(seed, number, examples: int) -> Int[Array, "examples"]:
    # Dropout folds iterations into the same key; 2**31 - 1 keeps the two streams apart.
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 2**31 - 1), number)
    return jax.random.permutation(key, examples)


def take(
    split: Split, indices: Int[Array, "b"], iteration, drawn: Drawn | None = None
) -> Batch:
    """Examples of a split or, by position, of the examples drawn from it."""

    def rows(part, indices):
        return jnp.take(part, indices, axis=0, mode="clip")

    if drawn is None:
        return Batch(rows(split.x, indices), rows(split.y, indices), iteration)
    x = rows(split.x, rows(drawn.positions, indices))
    return Batch(x, rows(drawn.y, indices), iteration)


def own_share(indices: Int[Array, "b"], axis_name: str | None) -> Int[Array, "share"]:
    if axis_name is None:
        return indices
    share = len(indices) // jax.lax.axis_size(axis_name)
    return jax.lax.dynamic_slice_in_dim(indices, jax.lax.axis_index(axis_name) * share, share)


def _empty_snapshots(model: Model, term: Term, state, train: Split, plan: EpochPlan):
    shape = min(plan.batch_size, plan.examples), *train.x.shape[1:]
    deaths = jax.eval_shape(
        lambda x: _deaths(model, term, state, x), jax.ShapeDtypeStruct(shape, train.x.dtype)
    )
    return jnp.full((plan.snapshots, *deaths.shape), jnp.nan, deaths.dtype)


def _deaths(model: Model, term: Term, state: LaneState, x: Float[Array, "b ..."]):
    """The deaths of the network's sampled neurons on a batch, in inference mode."""
    _, activations = model.apply(state.variables, x, train=False)
    return term.deaths(activations)


def _recorded(
    model: Model, term: Term, optimiser, options: Options, added: Sequence[Added]
):
    """Make a step that first records the deaths if a snapshot is due."""
    step, every = make_step(model, optimiser, term, options, added), options.snapshot_every

    def recorded(carry, batch, weight, first) -> tuple[tuple, StepMetrics]:
        state, snapshots = carry
        if every:

            def record():
                deaths = _deaths(model, term, state, batch.x)
                # Rows count from the first multiple of `every` in this epoch.
                row = batch.iteration // every - (first + every - 1) // every
                return snapshots.at[row].set(deaths)

            snapshots = jax.lax.cond(batch.iteration % every == 0, record, lambda: snapshots)
        state, metrics = step(state, batch, weight)
        return (state, snapshots), metrics

    return recorded


def _stop_early(state: LaneState, loss, epochs, steps: int, options: Options) -> LaneState:
    """Keep the weights if they are the best so far; end the lane if its patience is exceeded."""
    diverged = state.active & ~jnp.isfinite(loss)
    better = state.active & (loss < state.best.loss - options.min_delta)
    here = Best(state.params, state.collections, loss, epochs)
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), here, state.best)
    wait = jnp.where(better, 0, state.wait + 1)
    patient = better | (options.patience is None or wait <= options.patience)
    return state._replace(
        best=best,
        wait=wait,
        active=state.active & patient & ~diverged,
        reason=jnp.where(diverged, VALIDATION, state.reason),
        ended_at=jnp.where(diverged, epochs * steps - 1, state.ended_at),
    )
