"""Train runs together as lanes of one program, and track which lane trains which run."""

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
        history: the epoch's entries of the run's history, by name; see `history_rows`.
        validation_loss: the validation loss after the epoch.
        ended: whether the run diverged or exceeded its patience, and so trains no further.
    """

    history: dict[str, np.ndarray]
    validation_loss: float
    ended: bool


class Ended(NamedTuple):
    """A run that has ended.

    Attributes:
        state: its last state, on the host.
        evaluation: the evaluation of its `best` and of its `last` weights, each by name.
    """

    state: LaneState
    evaluation: dict[str, dict[str, float]]


class Epoch(NamedTuple):
    """An epoch of a cohort.

    Attributes:
        number: epochs trained so far.
        rows: the row of every run that was trained.
        ended: the runs that ended with this epoch.
    """

    number: int
    rows: dict[int, Row]
    ended: dict[int, Ended]


class Cohort:
    """Runs that train together, epoch by epoch, until each has ended.

    A run is identified by its index in `weights`, a lane by its slot. The lane of an ended run is
    idle. Once few runs are left, they continue in a smaller program (`Layout.later`). Which
    programs run depends only on the arguments and on when runs end, so a cohort that is restored
    from saved states, slots and epoch continues through the same programs.

    Args:
        programs: the programs that train the lanes.
        weights: the regularisation weight of every run, including ended runs.
        states: the state of every run that is in training, at the same epoch.
        slots: the run of each lane, `None` for a padding lane; by default one lane per run.
        epoch: number of epochs for which the states have been trained.
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
        """The run that each lane trains or has trained; `None` for a padding lane."""
        return self._slots

    @property
    def training(self) -> list[int]:
        """The runs that have not ended."""
        return [self._slots[slot] for slot in np.flatnonzero(self._wanted)]

    def epochs(self) -> Iterator[Epoch]:
        """Train epoch after epoch until every run has ended; all training uses this loop.

        Between two epochs, the caller may read `states`, `slots` and `epoch`, and may stop.
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
            A row per trained run.
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
        """The runs that end with the epoch of these rows."""
        last = self.epoch >= self._programs.options.epochs
        return [run for run, row in rows.items() if row.ended or last]

    def accuracies(self, runs: Iterable[int]) -> dict[int, dict[str, float]]:
        """Accuracy of runs with their best weights so far, on each part of the data."""
        found = self._of_runs(runs, self._programs.numbers)
        return {run: {part: numbers[part] for part in PARTS} for run, numbers in found.items()}

    def evaluations(self, runs: Iterable[int]) -> dict[int, dict[str, dict[str, float]]]:
        """The evaluation of runs with their `best` weights so far and with their `last` weights."""
        return self._of_runs(runs, self._programs.evaluations)

    def _of_runs(self, runs: Iterable[int], function: Callable) -> dict[int, Any]:
        """Apply a function to the lanes of these runs and split its numbers by run."""
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
        # All lanes at once: one transfer per array, and no program that selects a lane.
        state = self._programs.layout.fetch(self._lanes.state)
        lanes = [self._slots.index(run) for run in runs]
        return {
            run: jax.tree.map(lambda leaf, lane=lane: np.array(leaf[lane]), state)
            for run, lane in zip(runs, lanes, strict=True)
        }

    def end(self, runs: Iterable[int]) -> None:
        """Stop training these runs; once few are left, continue without idle lanes."""
        ended = list(runs)
        self._wanted &= ~np.isin([-1 if run is None else run for run in self._slots], ended)
        training = self.training
        sizes = self._programs.layout.later(len(self._slots))
        large_enough = [size for size in sizes if size >= len(training)]
        if training and large_enough:
            spare = [None] * (large_enough[-1] - len(training))
            self._place([*training, *spare], self.states(training))

    def _place(self, slots: list[int | None], states: Mapping[int, LaneState]) -> None:
        """Place the states on devices; a slot without a state gets a copy that is not trained."""
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
        metrics: the epoch's metrics of one run.
        epoch: the epoch's number, from 0.
        seconds: the epoch's duration, divided by the number of trained lanes.
        plan: how the epoch is split into steps.
        ended_at: the iteration at which the run diverged, or -1. Later iterations are dropped.

    Returns:
        `train_loss` and `train_term` per iteration; `validation_loss`, `validation_accuracy`,
        `constant_neurons`, `seconds` and each measure as `measures/<name>` per epoch; `deaths` and
        `deaths_iteration` per snapshot.
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
    """The fields of a run's record that training decides: how the run ended, and its best epoch."""
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
