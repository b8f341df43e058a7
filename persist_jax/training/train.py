"""Train runs from a network, data and hyperparameters, without a folder or a configuration."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from persist_jax.data.dataset import Dataset
from persist_jax.models.model import Model, Variables
from persist_jax.models.precision import at_precision
from persist_jax.terms import REGULARISERS
from persist_jax.training.cohort import PARTS, Cohort, Row, outcome
from persist_jax.training.evaluation import Evaluate
from persist_jax.training.layout import Layout, make_layout
from persist_jax.training.memory import activations_and_points
from persist_jax.training.options import Options
from persist_jax.training.programs import Evaluation, Programs
from persist_jax.training.step import check_dropout

DEFAULT = Evaluate()


@dataclass(frozen=True)
class Trained:
    """A run that has ended.

    Attributes:
        weight: the regularisation weight.
        seed: the seed of the initial weights, the order of the examples and the dropout.
        variables: the variables of the epoch with the lowest validation loss.
        last: the variables of the last epoch.
        outcome: how the run ended: status, reason, epochs, best epoch, validation loss.
        accuracy: the accuracy of the `initial` and of the `trained` weights (`variables`) on each
            part of the data.
        evaluation: the evaluation of `variables`, as `best`, and of `last`, each by name; see
            `Evaluate`.
        history: arrays by name; see `persist_jax.training.cohort.history_rows`.
    """

    weight: float
    seed: int
    variables: Variables
    last: Variables
    outcome: dict[str, Any]
    accuracy: dict[str, dict[str, float]]
    evaluation: dict[str, dict[str, float]]
    history: dict[str, np.ndarray]


def assemble(
    model: Model,
    dataset: Dataset,
    options: Options,
    *,
    regulariser: str = "none",
    parameters: Mapping[str, Any] | None = None,
    evaluate: Evaluate = DEFAULT,
    parallel: str = "lanes",
    lane_strategy: str = "auto",
    devices: int | None = None,
) -> Programs:
    """Make the programs that train a network on a data set under one regulariser.

    Args:
        model: the network.
        dataset: train, validation and test arrays.
        options: the hyperparameters.
        regulariser: a registered name, or several names joined by `+`.
        parameters: the regulariser's parameters; see `parameters_of`.
        evaluate: the measures to take of a finished run.
        parallel: with several devices, "lanes": each device trains its share of the runs; "batch":
            each device takes its share of every batch.
        lane_strategy: "vmap": runs of one device advance together; "map": one after another;
            "auto": see `make_layout`.
        devices: how many devices to use; all by default.

    Returns:
        The programs; nothing is compiled yet.

    Raises:
        ValueError: one line that names the invalid argument.
    """
    options.check_iterations(dataset.train_examples)
    model = at_precision(model, options.matmul_precision)
    layout = layout_of(
        model, dataset, options, parallel=parallel, lane_strategy=lane_strategy, devices=devices
    )
    evaluation = Evaluation(model, dataset, options, evaluate, layout)
    term, added = options.terms(regulariser, parameters)
    check_dropout(model, term, added)
    return Programs(model, term, options, evaluation, added)


def layout_of(
    model: Model,
    dataset: Dataset,
    options: Options,
    *,
    parallel: str,
    lane_strategy: str,
    devices: int | None,
) -> Layout:
    """The placement of a network's runs on devices; see `assemble`."""
    shapes, _ = activations_and_points(model, dataset, options)
    return make_layout(
        parallel=parallel,
        lane_strategy=lane_strategy,
        devices=devices,
        batch_size=options.batch_size,
        convolutional=any(len(shape) > 1 for shape in shapes),
    )


def train(
    model: Model,
    dataset: Dataset,
    options: Options,
    *,
    regulariser: str = "none",
    weights: Sequence[float] = (0.0,),
    seeds: Sequence[int] = (0,),
    report: Callable[[int, dict[int, Row]], None] = lambda epoch, rows: None,
    **how: Any,
) -> list[Trained]:
    """Train a network under one regulariser, once for every weight and seed, in one program.

    Args:
        model: the network.
        dataset: train, validation and test arrays.
        options: the hyperparameters.
        regulariser: a registered name, or several names joined by `+`, such as "t2+l2".
        weights: weights of the regulariser, or of the first term of a sum. A negative weight
            maximises a term of neurons.
        seeds: seeds of the initial weights, the order of the examples and the dropout, and of the
            examples and labels if the data set draws them.
        report: called after every epoch with the epochs trained and a row per run in training.
        **how: further arguments of `assemble`: the regulariser's `parameters`, the measures to
            `evaluate`, and the placement of runs on devices.

    Returns:
        A run per weight and seed: all seeds of the first weight, then of the next.

    Raises:
        ValueError: one line that names the invalid argument.

    Example:
        >>> from persist_jax.data import load_images
        >>> from persist_jax.models import mlp
        >>> from persist_jax.training import Options, train
        >>> dataset = load_images("digits")
        >>> optimiser = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9}
        >>> options = Options(batch_size=200, epochs=2, optimiser=optimiser)
        >>> model = mlp(dataset.input_shape, hidden=(16,))
        >>> runs = train(model, dataset, options, regulariser="t2", weights=(0.1,), devices=1)
        >>> runs[0].outcome["status"], runs[0].history["train_loss"].shape
        ('completed', (12,))
    """
    if not weights or not all(map(math.isfinite, weights)):
        raise ValueError(f"weights: {weights!r} must be finite")
    kind = REGULARISERS[regulariser.partition("+")[0]].properties
    for weight in weights:
        if words := kind.refused(weight):
            raise ValueError(f"weights: {weight:g} of {regulariser} {words}")
    if not seeds or not all(isinstance(seed, int) and 0 <= seed < 2**31 for seed in seeds):
        raise ValueError(f"seeds: {seeds!r} must be whole numbers from 0 to {2**31 - 1}")
    programs = assemble(model, dataset, options, regulariser=regulariser, **how)
    grid = list(itertools.product(weights, seeds))
    cohort = Cohort(
        programs,
        [weight for weight, _ in grid],
        {run: programs.start(seed) for run, (_, seed) in enumerate(grid)},
    )
    initial = cohort.accuracies(cohort.training)
    rows: dict[int, list[Row]] = {run: [] for run in cohort.training}
    trained: dict[int, Trained] = {}
    for epoch in cohort.epochs():
        for run, row in epoch.rows.items():
            rows[run].append(row)
        for run, (state, evaluation) in epoch.ended.items():
            best = {part: evaluation["best"][part] for part in PARTS}
            trained[run] = Trained(
                *grid[run],
                variables=state.best.variables,
                last=state.variables,
                outcome=outcome(state, epoch.number, programs.plan),
                accuracy={"initial": initial[run], "trained": best},
                evaluation=evaluation,
                history=_joined(rows.pop(run)),
            )
        report(epoch.number, epoch.rows)
    return [trained[run] for run in range(len(grid))]


def _joined(rows: list[Row]) -> dict[str, np.ndarray]:
    names = rows[0].history
    return {name: np.concatenate([row.history[name] for row in rows]) for name in names}
