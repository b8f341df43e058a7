"""Runs in training as lanes of one program: which lane is whose, and who has ended."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from persist_jax.training.epoch import EpochMetrics, EpochPlan
from persist_jax.training.programs import Programs
from persist_jax.training.state import REASONS, Data, LaneState

PARTS = Data._fields


class Row(NamedTuple):
    """One epoch of one run.

    Attributes:
        history: arrays by name, as a run's history has them; see `history_rows`.
        validation_loss: after the epoch.
        ended: whether the run trains no further: it diverged, or its patience is exceeded.
    """

    history: dict[str, np.ndarray]
    validation_loss: float
    ended: bool


class Ended(NamedTuple):
    """A run that trains no further.

    Attributes:
        state: its last state, on the host.
        evaluation: what was measured of its `best` and of its `last` weights, by name.
    """

    state: LaneState
    evaluation: dict[str, dict[str, float]]


class Epoch(NamedTuple):
    """An epoch of a cohort.

    Attributes:
        number: epochs trained by now.
        rows: of every run that was trained.
        ended: the runs that train no further.
    """

    number: int
    rows: dict[int, Row]
    ended: dict[int, Ended]


class Cohort:
    """Runs that train together, epoch by epoch, until each has ended.

    A run is known by its place in `weights`, a lane by its slot. A run that has ended leaves its
    lane idle, and once few are left they go on in a smaller program (`Layout.later`). Nothing here
    depends on anything but the arguments and the runs' own ends: a cohort made again from saved
    states, slots and epoch goes on through the same programs.

    Args:
        programs: what trains the lanes.
        weights: the regularisation weight of every run, those that have ended too.
        states: the state of every run that is in training, at the same epoch.
        slots: which run each lane trains, `None` for a lane that only fills up; a lane a run if
            not given.
        epoch: epochs that the states have behind them.
    """

    def __init__(
        self,
        programs: Programs,
        weights: Sequence[float],
        states: Mapping[int, LaneState],
        *,
        slots: Sequence[int | None] | None = None,
        epoch: int = 0,
    ):
        self._programs = programs
        self._weights = weights
        self.epoch = epoch
        self._place(list(range(len(weights)) if slots is None else slots), states)

    @property
    def slots(self) -> list[int | None]:
        """Which run each lane trains or has trained; `None` for a lane that only fills up."""
        return self._slots

    @property
    def training(self) -> list[int]:
        """The runs that have not ended."""
        return [self._slots[slot] for slot in np.flatnonzero(self._wanted)]

    def epochs(self) -> Iterator[Epoch]:
        """Train epoch after epoch until every run has ended; the loop of every training.

        Whoever iterates may read `states`, `slots` and `epoch` between two epochs, and stop there.
        """
        while self.training:
            rows = self.train_epoch()
            ended = self.ended(rows)
            evaluations, states = self.evaluations(ended), self.states(ended)
            self.end(ended)
            runs = {run: Ended(states[run], evaluations[run]) for run in ended}
            yield Epoch(self.epoch, rows, runs)

    def train_epoch(self) -> dict[int, Row]:
        """Train every run in training for one epoch.

        Returns:
            A row per run that was trained.
        """
        run = self._programs.train_epoch(self._lanes, self._wanted, self.epoch)
        start = time.perf_counter()
        self._lanes, metrics = run()
        seconds = (time.perf_counter() - start) / sum(self._wanted)
        state = self._lanes.state
        active, ended_at = self._programs.layout.fetch((state.active, state.ended_at))
        rows = {}
        for slot in np.flatnonzero(self._wanted):
            own = jax.tree.map(lambda leaf, slot=slot: leaf[slot], metrics)
            plan = self._programs.plan
            history = history_rows(own, self.epoch, seconds, plan, int(ended_at[slot]))
            loss = float(own.validation_loss)
            rows[self._slots[slot]] = Row(history, loss, not active[slot])
        self.epoch += 1
        return rows

    def ended(self, rows: Mapping[int, Row]) -> list[int]:
        """The runs that train no further after the epoch of these rows."""
        last = self.epoch >= self._programs.options.epochs
        return [run for run, row in rows.items() if row.ended or last]

    def accuracies(self, runs: Iterable[int]) -> dict[int, dict[str, float]]:
        """Accuracy of runs with their best weights so far, on each part of the data."""
        found = self._of_runs(runs, self._programs.numbers)
        return {run: {part: numbers[part] for part in PARTS} for run, numbers in found.items()}

    def evaluations(self, runs: Iterable[int]) -> dict[int, dict[str, dict[str, float]]]:
        """The evaluation of runs with their `best` weights so far and with their `last`."""
        return self._of_runs(runs, self._programs.evaluations)

    def _of_runs(self, runs: Iterable[int], function: Callable) -> dict[int, Any]:
        """A function's numbers of all lanes, run by run."""
        runs = list(runs)
        if not runs:
            return {}
        chosen = np.isin([-1 if run is None else run for run in self._slots], runs)
        numbers = function(self._lanes, chosen)
        return {
            self._slots[slot]: jax.tree.map(lambda values, slot=slot: float(values[slot]), numbers)
            for slot in np.flatnonzero(chosen)
        }

    def states(self, runs: Iterable[int]) -> dict[int, LaneState]:
        """The states of runs, on the host."""
        runs = list(runs)
        if not runs:
            return {}
        # All lanes at once: one transfer an array, and no program that picks a lane.
        state = self._programs.layout.fetch(self._lanes.state)
        lanes = [self._slots.index(run) for run in runs]
        return {
            run: jax.tree.map(lambda leaf, lane=lane: np.array(leaf[lane]), state)
            for run, lane in zip(runs, lanes, strict=True)
        }

    def end(self, runs: Iterable[int]) -> None:
        """Train these runs no further; once few are left, leave idle lanes out."""
        ended = list(runs)
        self._wanted &= ~np.isin([-1 if run is None else run for run in self._slots], ended)
        training = self.training
        sizes = self._programs.layout.later(len(self._slots))
        large_enough = [size for size in sizes if size >= len(training)]
        if training and large_enough:
            spare = [None] * (large_enough[-1] - len(training))
            self._place([*training, *spare], self.states(training))

    def _place(self, slots: list[int | None], states: Mapping[int, LaneState]) -> None:
        """Lay the states out; a slot without one is filled with a copy that is not trained."""
        layout = self._programs.layout
        spare = layout.lanes_for(len(slots)) - len(slots)
        self._slots = [*slots, *[None] * spare]
        self._wanted = np.array([run in states for run in self._slots])
        if not states:
            return
        filler = next(iter(states))
        used = [run if run in states else filler for run in self._slots]
        self._lanes = layout.place(
            [self._programs.lane(states[run], self._weights[run]) for run in used]
        )


def history_rows(
    metrics: EpochMetrics, epoch: int, seconds: float, plan: EpochPlan, ended_at: int
) -> dict[str, np.ndarray]:
    """The entries that an epoch adds to a run's history.

    Args:
        metrics: of the epoch, for one run.
        epoch: its number, from 0.
        seconds: how long it took, in equal shares over the lanes that were trained.
        plan: how it was cut into steps.
        ended_at: the iteration at which the run diverged, after which nothing counts; else -1.

    Returns:
        `train_loss` and `train_term` per iteration; `validation_loss`, `validation_accuracy`,
        `constant_neurons`, `seconds` and what was measured, as `measures/<name>`, per epoch;
        `deaths` and `deaths_iteration` per snapshot.
    """
    first = epoch * plan.steps
    steps = plan.steps if ended_at < 0 else ended_at - first + 1
    taken = [i for i in plan.snapshot_iterations(epoch) if i < first + steps]
    whole = int(steps == plan.steps)
    measured = {
        f"measures/{name}": np.atleast_1d(value)[:whole]
        for name, value in metrics.measures.items()
    }
    return measured | {
        "train_loss": metrics.loss[:steps],
        "train_term": metrics.term[:steps],
        "validation_loss": np.atleast_1d(metrics.validation_loss)[:whole],
        "validation_accuracy": np.atleast_1d(metrics.validation_accuracy)[:whole],
        "constant_neurons": np.atleast_1d(metrics.constant_neurons)[:whole],
        "seconds": np.atleast_1d(np.float32(seconds)),
        "deaths": metrics.deaths[: len(taken)],
        "deaths_iteration": np.asarray(taken, np.int32),
    }


def outcome(state: LaneState, epochs: int, plan: EpochPlan) -> dict[str, Any]:
    """How a run ended: the fields of its record that training decides, by name."""
    reason = REASONS[int(state.reason)]
    best_epoch, loss = int(state.best.epoch), float(state.best.loss)
    return {
        "status": "diverged" if reason else "completed",
        "reason": f"{reason} at iteration {int(state.ended_at)}" if reason else None,
        "epochs": epochs,
        "best_epoch": best_epoch,
        "best_iteration": best_epoch * plan.steps,
        "validation_loss": loss if np.isfinite(loss) else None,
    }
