"""The compiled programs that train and evaluate the lanes of one network and regulariser."""

from collections.abc import Callable

import numpy as np
from jaxtyping import PyTree

from persist_jax.networks import Network
from persist_jax.regularisers import regulariser as regulariser_named
from persist_jax.training.epoch import EpochMetrics, Schedule, evaluate, make_epoch
from persist_jax.training.lanes import Layout
from persist_jax.training.options import Options, make_optimiser
from persist_jax.training.state import Data, Lane, LaneState, initial_state, join


class Programs:
    """Trains lanes of a network under one regulariser; compiles once per number of lanes.

    Args:
      network: the network.
      regulariser: its registered name.
      options: hyperparameters.
      layout: how lanes lie on devices.
      data: the data set, as ``layout.replicate`` gives it.
    """

    def __init__(
        self, network: Network, regulariser: str, options: Options, layout: Layout, data: Data
    ):
        self.options = options
        self.layout = layout
        self.schedule = Schedule(
            data.train.y.shape[1], options.batch_size, options.snapshot_every
        )
        self._network = network.clone(axis_name=layout.axis_name)
        self._optimiser = make_optimiser(options)
        self._regulariser = regulariser_named(regulariser)
        self._data = data
        self._train = self._train_program(self._regulariser)
        self._train_without = self._train_program(None)
        self._evaluate = layout.program(self._accuracies, trains=False)
        self._compiled: dict[tuple, Callable] = {}

    def initial_state(self, variables: dict[str, PyTree], seed: int) -> LaneState:
        """The state of a run before its first step."""
        with_term = self._regulariser is not None
        return initial_state(
            variables, self._optimiser, self.options, seed, with_term=with_term
        )

    def train_epoch(self, lanes: Lane, wanted: np.ndarray, epoch: int) -> Callable:
        """The wanted lanes' epoch of that number, compiled: ``() -> (lanes, metrics)``.

        Calling it trains and nothing else, so it may be timed. The given lanes are used up.
        """
        term_epochs = self.options.term_epochs
        without = term_epochs is not None and epoch >= term_epochs
        arguments = (
            lanes,
            self.layout.place(list(wanted)),
            self._data,
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
        return self.layout.fetch(self._evaluate(lanes, wanted, self._data))

    def _train_program(self, regulariser) -> Callable:
        epoch = make_epoch(
            self._network, self._optimiser, regulariser, self.options, self.schedule.examples
        )

        def train(lane, data, number):
            state, metrics = epoch(lane.state, lane.weight, data, number)
            return lane._replace(state=state), metrics

        return self.layout.program(train, trains=True)

    def _accuracies(self, lane, data):
        variables = join(lane.state.best.params, lane.state.best.batch_stats)
        return {
            name: evaluate(self._network, variables, split, self.options.batch_size)[1]
            for name, split in data._asdict().items()
        }
