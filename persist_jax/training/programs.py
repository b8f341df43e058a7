"""The compiled programs that train and evaluate the lanes of one network and regulariser."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from persist_jax.models.model import Model
from persist_jax.regularisers import Regulariser
from persist_jax.training.epoch import EpochMetrics, EpochPlan, evaluate, make_epoch
from persist_jax.training.layout import Layout
from persist_jax.training.optimisers import make_optimiser
from persist_jax.training.options import Options
from persist_jax.training.state import Data, Lane, LaneState, initial_state


class Programs:
    """Trains lanes of a network under one regulariser; compiles once per number of lanes.

    Args:
        model: the network.
        regulariser: the term, or `None`.
        options: hyperparameters.
        layout: how lanes lie on devices.
        data: the data set, as `layout.replicate` gives it.
    """

    def __init__(
        self,
        model: Model,
        regulariser: Regulariser | None,
        options: Options,
        layout: Layout,
        data: Data,
    ):
        self.options = options
        self.layout = layout
        self.plan = EpochPlan(
            data.train.y.shape[1], options.batch_size, options.snapshot_every
        )
        self._model = model
        self._optimiser = make_optimiser(options.optimiser)
        self._regulariser = regulariser
        self.data = data
        self._train = self._train_program(self._regulariser)
        self._train_without = self._train_program(None)
        self._evaluate = layout.program(self._accuracies, trains=False)
        self._compiled: dict[tuple, Callable] = {}

    def start(self, seed: int) -> LaneState:
        """The state of a run before its first step, on the host."""
        one_example = jnp.zeros((1, *self.data.train.x.shape[2:]))
        variables = self._model.init(jax.random.key(seed), one_example)
        state = initial_state(
            variables,
            self._optimiser,
            self.options,
            seed,
            with_term=self._regulariser is not None,
        )
        return jax.tree.map(np.asarray, state)

    def train_epoch(self, lanes: Lane, wanted: np.ndarray, epoch: int) -> Callable:
        """The wanted lanes' epoch of that number, compiled: `() -> (lanes, metrics)`.

        Calling it trains and nothing else, so it may be timed. The given lanes are used up.
        """
        term_epochs = self.options.term_epochs
        without = term_epochs is not None and epoch >= term_epochs
        arguments = (
            lanes,
            self.layout.place(list(wanted)),
            self.data,
            self.layout.replicate(np.asarray(epoch, np.int32)),
        )
        key = (without, len(wanted))
        if key not in self._compiled:
            program = self._train_without if without else self._train
            self._compiled[key] = program.lower(*arguments).compile()

        def run() -> tuple[Lane, EpochMetrics]:
            lanes, metrics = self._compiled[key](*arguments)
            return lanes, self.layout.fetch(metrics)

        return run

    def accuracies(self, lanes: Lane, wanted: np.ndarray) -> dict[str, np.ndarray]:
        """Accuracy of the wanted lanes' best weights on train, validation and test."""
        wanted = self.layout.place(list(wanted))
        return self.layout.fetch(self._evaluate(lanes, wanted, self.data))

    def _train_program(self, regulariser: Regulariser | None) -> Callable:
        epoch = make_epoch(
            self._model,
            self._optimiser,
            regulariser,
            self.options,
            self.plan.examples,
            self.layout.axis_name,
        )

        def train(lane, data, number):
            state, metrics = epoch(lane.state, lane.weight, data, number)
            return lane._replace(state=state), metrics

        return self.layout.program(train, trains=True)

    def _accuracies(self, lane, data):
        axis_name = self.layout.axis_name
        model, variables = self._model.sharing(axis_name), lane.state.best.variables
        return {
            name: evaluate(model, variables, split, self.options.batch_size, axis_name)[1]
            for name, split in data._asdict().items()
        }
