"""The compiled programs that train and evaluate the lanes of one network and regulariser."""

from collections.abc import Callable

import jax
import numpy as np

from persist_jax.models.model import Model, Variables
from persist_jax.terms import Term
from persist_jax.training.compilation import Compilations
from persist_jax.training.epoch import EpochMetrics, EpochPlan, evaluate, make_epoch
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


class Evaluation:
    """Initial weights and accuracies of one network, whatever it is trained under.

    Args:
        model: the network.
        batch_size: examples that are evaluated together.
        layout: how lanes lie on devices.
        data: the data set, as `layout.replicate` gives it.
    """

    def __init__(self, model: Model, batch_size: int, layout: Layout, data: Data):
        self.layout = layout
        self.data = data
        axis_name = layout.axis_name
        shared = model.sharing(axis_name)

        def accuracies(variables, data):
            return {
                name: evaluate(shared, variables, split, batch_size, axis_name)[1]
                for name, split in data._asdict().items()
            }

        self._evaluate = layout.program(accuracies, trains=False)
        self._compiled = Compilations()
        input_shape = data.train.x.shape[2:]
        # One program for all seeds, instead of one per shape of an array.
        self.draw = jax.jit(lambda seed: initial_variables(model, input_shape, seed))

    def initial_variables(self, seed: int) -> Variables:
        """The weights that a run of that seed starts from."""
        return self.compile_draw()(seed)

    def compile_draw(self) -> Callable:
        """The program of `initial_variables`."""
        return self._compiled.get("draw", lambda: self.draw.lower(0))

    def accuracies(self, variables: Variables, wanted: np.ndarray) -> dict[str, np.ndarray]:
        """Accuracy of the wanted lanes' weights on train, validation and test."""
        evaluate = self.compile(len(wanted))
        wanted = self.layout.place(list(wanted))
        return self.layout.fetch(evaluate(variables, wanted, self.data))

    def compile(self, lanes: int) -> Callable:
        """The program that evaluates so many lanes; see `Programs.compile`."""
        if self.layout.spans_processes:
            return self._evaluate
        return self._compiled.get(lanes, lambda: self._evaluate.lower(*self._shapes(lanes)))

    def _shapes(self, lanes: int) -> tuple:
        variables = dict(jax.eval_shape(self.draw, 0))
        return *self.layout.shapes((variables, np.ones((), bool)), lanes), self.data


class Programs:
    """Trains lanes of a network under one regulariser; compiles once per number of lanes.

    Args:
        model: the network.
        term: what is added to the cross-entropy.
        options: hyperparameters.
        evaluation: of the network, with the layout and the data that it is trained on too.
    """

    def __init__(
        self,
        model: Model,
        term: Term,
        options: Options,
        evaluation: Evaluation,
    ):
        self.options = options
        self.evaluation = evaluation
        self.layout = evaluation.layout
        self.data = evaluation.data
        self.plan = EpochPlan(
            self.data.train.y.shape[1], options.batch_size, options.snapshot_every
        )
        self._model = model
        self._optimiser = make_optimiser(options.optimiser)
        self._with_term = term.of != "nothing"
        self._train = self._train_program(term)
        self._train_without = self._train_program(options.term("none"))
        self._compiled = Compilations()

    def start(self, seed: int) -> LaneState:
        """The state of a run before its first step, on the host."""
        # Of an array that failed, as there was no memory for it, NumPy would end the process.
        state = self._initial(self.evaluation.initial_variables(seed), seed)
        return jax.tree.map(np.asarray, jax.block_until_ready(state))

    def train_epoch(self, lanes: Lane, wanted: np.ndarray, epoch: int) -> Callable:
        """The wanted lanes' epoch of that number, compiled: `() -> (lanes, metrics)`.

        Calling it trains and nothing else, so it may be timed. The given lanes are used up.
        """
        compiled = self.compile(len(wanted), epoch)
        number = self.layout.replicate(np.asarray(epoch, np.int32))
        arguments = lanes, self.layout.place(list(wanted)), self.data, number

        def run() -> tuple[Lane, EpochMetrics]:
            lanes, metrics = compiled(*arguments)
            return lanes, self.layout.fetch(metrics)

        return run

    def compile(self, lanes: int, epoch: int = 0) -> Callable:
        """The program that trains so many lanes in that epoch, compiled once.

        Another thread may ask for it ahead of time; whoever needs it meanwhile waits. Nothing but
        the data is put on a device.
        """
        term_epochs = self.options.term_epochs
        without = term_epochs is not None and epoch >= term_epochs
        program = self._train_without if without else self._train
        # What is compiled ahead of its call takes the arrays of one process only.
        if self.layout.spans_processes:
            return program
        return self._compiled.get(
            (without, lanes), lambda: program.lower(*self._shapes(lanes))
        )

    def accuracies(self, lanes: Lane, wanted: np.ndarray) -> dict[str, np.ndarray]:
        """Accuracy of the wanted lanes' best weights on train, validation and test."""
        return self.evaluation.accuracies(lanes.state.best.variables, wanted)

    def _initial(self, variables: Variables, seed: int) -> LaneState:
        return initial_state(
            variables, self._optimiser, self.options, seed, with_term=self._with_term
        )

    def _shapes(self, lanes: int) -> tuple:
        """What a program is called with, as shapes."""
        state = jax.eval_shape(lambda: self._initial(self.evaluation.draw(0), 0))
        lane = Lane(state, np.zeros((), np.float32))
        of_lanes = self.layout.shapes((lane, np.ones((), bool)), lanes)
        return *of_lanes, self.data, self.layout.shapes(np.zeros((), np.int32), None)

    def _train_program(self, term: Term) -> Callable:
        epoch = make_epoch(
            self._model,
            self._optimiser,
            term,
            self.options,
            self.plan.examples,
            self.layout.axis_name,
        )

        def train(lane, data, number):
            state, metrics = epoch(lane.state, lane.weight, data, number)
            return lane._replace(state=state), metrics

        return self.layout.program(train, trains=True)
