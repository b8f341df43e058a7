"""The compiled programs that train and evaluate the lanes of one network and regulariser."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from persist_jax.data.dataset import Dataset
from persist_jax.models.model import Model, Variables
from persist_jax.terms import Term
from persist_jax.training.compilation import Compilations
from persist_jax.training.epoch import EpochMetrics, EpochPlan, make_epoch
from persist_jax.training.evaluation import (
    FITTED,
    Evaluate,
    chain_of,
    make_evaluation,
    make_test_accuracy,
    pruned,
    pruning_names,
)
from persist_jax.training.layout import Layout
from persist_jax.training.optimisers import make_optimiser
from persist_jax.training.options import Options
from persist_jax.training.state import (
    Data,
    Lane,
    LaneState,
    initial_state,
    initial_variables,
)
from persist_jax.training.step import Added, has_term


class Evaluation:
    """Initial weights and evaluations of one network, shared by all of its regularisers.

    Args:
        model: the network.
        dataset: its train, validation and test examples.
        options: hyperparameters, of which the batch size and the sampling are used here.
        evaluate: the measures to take.
        layout: placement of lanes on devices.
        data: the data set after `layout.replicate`; by default it is put on the devices here.
    """

    def __init__(
        self,
        model: Model,
        dataset: Dataset,
        options: Options,
        evaluate: Evaluate,
        layout: Layout,
        data: Data | None = None,
    ):
        self.layout = layout
        self.dataset = dataset
        self.data = layout.replicate(Data.of(dataset)) if data is None else data
        self.evaluate = evaluate
        self._model = model
        how = options.batch_size, layout.axis_name
        evaluation = make_evaluation(model, options.term(), evaluate, *how)
        self._evaluate = layout.program(
            lambda lane, data: evaluation(*lane, data), trains=False
        )
        self._test = layout.program(make_test_accuracy(model, *how), trains=False)
        self._apply = jax.jit(model.apply)
        self._compiled = Compilations()
        # One program for all seeds, instead of one for each shape of a weight.
        shape = dataset.input_shape
        self.draw = jax.jit(lambda seed: initial_variables(model, shape, seed))

    def initial_variables(self, seed: int) -> Variables:
        """The initial weights of a run with this seed."""
        return self.compile_draw()(seed)

    def compile_draw(self) -> Callable:
        """The compiled program of `initial_variables`."""
        return self._compiled.get("draw", lambda: self.draw.lower(0))

    def numbers(
        self, variables: Variables, lanes: Lane, wanted: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The evaluation of the wanted lanes' weights, except pruning; see `make_evaluation`."""
        evaluate = self.compile(len(wanted))
        wanted = self.layout.place(list(wanted))
        weights = variables, lanes.state.seed, lanes.drawn
        return self.layout.fetch(evaluate(weights, wanted, self.data))

    def of_pruned(
        self, variables: Variables, lanes: Lane, wanted: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Test accuracy of the wanted lanes' weights after pruning; NaN if it is impossible."""
        if not chain_of(self._model) or not self.evaluate.pruning:
            return {}
        host, seeds = self.layout.fetch((variables, lanes.state.seed))
        examples = {
            lane: np.array(self.dataset.of_seed(int(seeds[lane])).train.x[:FITTED])
            for lane in np.flatnonzero(wanted)
        }
        found = {}
        for name, keep, repair in pruning_names(self.evaluate):
            smaller = [jax.tree.map(lambda leaf, lane=lane: leaf[lane], host)
                       for lane in range(len(wanted))]  # fmt: skip
            impossible = np.zeros(len(wanted), bool)
            for lane, x in examples.items():
                one = pruned(self._model, smaller[lane], x, keep, repair=repair, apply=self._apply)
                impossible[lane] = one is None
                smaller[lane] = smaller[lane] if one is None else one
            placed = self.layout.place(smaller), self.layout.place(list(wanted)), self.data
            accuracy = self.layout.fetch(self._test(*placed))
            found[name] = np.where(impossible, np.float32(np.nan), accuracy)
        return found

    def compile(self, lanes: int) -> Callable:
        """The program that evaluates this many lanes; see `Programs.compile`."""
        if self.layout.spans_processes:
            return self._evaluate
        return self._compiled.get(lanes, lambda: self._evaluate.lower(*self._shapes(lanes)))

    def _shapes(self, lanes: int) -> tuple:
        variables = dict(jax.eval_shape(self.draw, 0))
        lane = variables, np.zeros((), np.int32), self.dataset.drawn(0)
        return *self.layout.shapes((lane, np.ones((), bool)), lanes), self.data


class Programs:
    """Train lanes of a network under one regulariser; compile once per number of lanes.

    Args:
        model: the network.
        term: the term added to the cross-entropy.
        options: hyperparameters.
        evaluation: the network's evaluation, which also provides the layout and the data.
        added: further terms, each with a weight that is the same for every lane.
    """

    def __init__(
        self,
        model: Model,
        term: Term,
        options: Options,
        evaluation: Evaluation,
        added: Sequence[Added] = (),
    ):
        self.options = options
        self.evaluation = evaluation
        self.layout = evaluation.layout
        self.data = evaluation.data
        examples = evaluation.dataset.train_examples
        self.plan = EpochPlan(examples, options.batch_size, options.snapshot_every)
        self._model = model
        self._optimiser = make_optimiser(options.optimiser)
        self._with_term = has_term(term, added)
        self._train = self._train_program(term, added)
        self._train_without = self._train_program(options.term("none"), ())
        self._compiled = Compilations()

    def start(self, seed: int) -> LaneState:
        """The state of a run before its first step, on the host."""
        # Wait first: NumPy ends the process on an array whose computation ran out of memory.
        state = self._initial(self.evaluation.initial_variables(seed), seed)
        return jax.tree.map(np.asarray, jax.block_until_ready(state))

    def lane(self, state: LaneState, weight: float) -> Lane:
        """A lane on the host: a run's state, its weight, and the examples of its seed."""
        drawn = self.evaluation.dataset.drawn(int(state.seed))
        return Lane(state, np.asarray(weight, np.float32), drawn)

    def train_epoch(self, lanes: Lane, wanted: np.ndarray, epoch: int) -> Callable:
        """Compile the epoch of the wanted lanes; return `() -> (lanes, metrics)`, which trains.

        The returned function does nothing but train, so it may be timed. It consumes `lanes`.
        """
        compiled = self.compile(len(wanted), epoch)
        number = self.layout.replicate(np.asarray(epoch, np.int32))
        arguments = lanes, self.layout.place(list(wanted)), self.data, number

        def run() -> tuple[Lane, EpochMetrics]:
            lanes, metrics = compiled(*arguments)
            return lanes, self.layout.fetch(metrics)

        return run

    def compile(self, lanes: int, epoch: int = 0) -> Callable:
        """The program that trains this many lanes in this epoch, compiled once.

        Another thread may compile the program ahead of time; a caller then waits for it. Compiling
        puts no lanes on a device.
        """
        term_epochs = self.options.term_epochs
        without = term_epochs is not None and epoch >= term_epochs
        program = self._train_without if without else self._train
        # A program that is compiled ahead of time takes arrays of one process only.
        if self.layout.spans_processes:
            return program
        return self._compiled.get(
            (without, lanes), lambda: program.lower(*self._shapes(lanes))
        )

    def numbers(self, lanes: Lane, wanted: np.ndarray) -> dict[str, np.ndarray]:
        """The evaluation of the wanted lanes' best weights, except pruning."""
        return self.evaluation.numbers(lanes.state.best.variables, lanes, wanted)

    def evaluations(
        self, lanes: Lane, wanted: np.ndarray
    ) -> dict[str, dict[str, np.ndarray]]:
        """The evaluation of the wanted lanes' `best` and `last` weights, each by name."""
        weights = {"best": lanes.state.best.variables, "last": lanes.state.variables}
        return {
            name: self.evaluation.numbers(variables, lanes, wanted)
            | self.evaluation.of_pruned(variables, lanes, wanted)
            for name, variables in weights.items()
        }

    def _initial(self, variables: Variables, seed: int) -> LaneState:
        return initial_state(
            variables, self._optimiser, self.options, seed, with_term=self._with_term
        )

    def _shapes(self, lanes: int) -> tuple:
        """The shapes of a program's arguments."""
        state = jax.eval_shape(lambda: self._initial(self.evaluation.draw(0), 0))
        drawn = self.evaluation.dataset.drawn(0)
        lane = Lane(state, np.zeros((), np.float32), drawn)
        of_lanes = self.layout.shapes((lane, np.ones((), bool)), lanes)
        return *of_lanes, self.data, self.layout.shapes(np.zeros((), np.int32), None)

    def _train_program(self, term: Term, added: Sequence[Added]) -> Callable:
        epoch = make_epoch(
            self._model,
            self._optimiser,
            term,
            self.options,
            self.plan.examples,
            self.layout.axis_name,
            added,
        )

        def train(lane, data, number):
            state, metrics = epoch(lane.state, lane.weight, data, number, lane.drawn)
            return lane._replace(state=state), metrics

        return self.layout.program(train, trains=True)
