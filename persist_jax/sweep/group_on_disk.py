"""A group's runs in the store: what they begin with, go on from, and leave."""

import functools
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from persist_jax.store.checkpoints import BEST, Checkpoints
from persist_jax.store.ended import close_group
from persist_jax.store.group_file import write_group
from persist_jax.store.history import GrowingHistory, discard_parts
from persist_jax.store.origin import Origin
from persist_jax.store.record import Accuracy, has_result, write_result
from persist_jax.sweep.diagnosis import Diagnosis
from persist_jax.sweep.grid import Group
from persist_jax.sweep.saved import Saved, read_saved
from persist_jax.sweep.start import Start
from persist_jax.training.cohort import Cohort, Row, outcome
from persist_jax.training.programs import Programs
from persist_jax.training.state import Best, LaneState


class GroupOnDisk:
    """A group's runs in the store.

    The group's file holds everything that decides which programs it takes: the epoch and which
    lane is where. It is written after the checkpoints of its runs, so it never names one that is
    not whole, and what it and the state before it name is deleted only once a later one is whole.

    Args:
        programs: what trains the runs.
        diagnosis: what counts redundant neurons.
        group: the runs.
        workdir: the sweep's folder.
        origin: where and with what they are trained from here.
    """

    def __init__(
        self,
        programs: Programs,
        diagnosis: Diagnosis,
        group: Group,
        workdir: str | os.PathLike[str],
        origin: Origin,
    ):
        self._programs = programs
        self._diagnosis = diagnosis
        self._group = group
        self._workdir = Path(workdir)
        self._file = group.path(self._workdir)
        self._origins = [origin]
        self.folders = [group.folder(run, self._workdir) for run in group.runs]
        # Runs of one seed start alike, whatever their weight.
        self._initial_state = functools.cache(programs.start)
        self._initial_counts = functools.cache(
            lambda seed: diagnosis.of(self._initial_state(seed).variables)
        )

    def start(self, regularised: Callable) -> Start:
        """The group as it was left, or before its first epoch.

        Args:
            regularised: the programs that a run of the grid was trained with.
        """
        saved = read_saved(self._group, self._workdir)
        self._begun = saved is not None
        began = self._group.continued_at or 0
        epoch = saved.state.epoch if saved else began
        self._finished = [has_result(folder) for folder in self.folders]
        unfinished = tuple(run for run, done in enumerate(self._finished) if not done)
        states = {
            run: self._load(run, epoch) if epoch > began else self._fresh(run, regularised)
            for run in (saved.training if saved else unfinished)
        }
        if saved:
            self._go_on(saved)
        self._saved_at = epoch
        self._best_epochs = {run: int(state.best.epoch) for run, state in states.items()}
        return Start(
            epoch,
            states,
            tuple(self._finished),
            slots=saved.state.slots if saved else None,
            initial=saved.state.initial if saved else None,
        )

    def begin(self, cohort: Cohort, initial: tuple[Accuracy, ...]) -> None:
        """Be ready for the first epoch, and have the group's file there from now on.

        Args:
            cohort: at its start.
            initial: accuracy of each run before training.
        """
        self._history = {
            run: GrowingHistory(folder, cohort.epoch)
            for run, folder in enumerate(self.folders)
            if not self._finished[run]
        }
        self._initial = initial
        if cohort.training and not self._begun:
            self._write(cohort)

    def append(self, rows: dict[int, Row]) -> None:
        """Keep what an epoch adds to the histories."""
        for run, row in rows.items():
            if run in self._history:
                self._history[run].append(row.history)

    def finish(self, cohort: Cohort, accuracies: Mapping[int, Mapping[str, float]]) -> None:
        """Write the results of runs that have ended.

        Args:
            cohort: in which their states still are.
            accuracies: of these runs, on each part of the data.
        """
        states = cohort.states(accuracies)
        for run, trained in accuracies.items():
            folder, state = self.folders[run], states[run]
            Checkpoints(folder).save(BEST, state.best.variables)
            rows = self._history[run].finish()
            record = asdict(self._group.runs[run]) | outcome(
                state, cohort.epoch, self._programs.plan
            )
            accuracy = {"initial": self._initial[run].plain(), "trained": trained}
            record |= {"accuracy": accuracy, "seconds": float(rows["seconds"].sum())}
            record |= {"origins": [origin.plain() for origin in self._origins]}
            write_result(folder, record | self._diagnosed(run, state))
            del self._history[run]
            discard_parts(folder)
            self._finished[run], self._best_epochs[run] = True, int(state.best.epoch)

    def save(self, cohort: Cohort) -> None:
        """Checkpoint every run in training, then the group itself."""
        states = cohort.states(cohort.training)
        Checkpoints.save_all(cohort.epoch, {self.folders[run]: states[run] for run in states})
        for run, state in states.items():
            self._best_epochs[run] = int(state.best.epoch)
            if run in self._history:
                self._history[run].flush(cohort.epoch)
        self._write(cohort)
        for run, best_epoch in self._best_epochs.items():
            Checkpoints(self.folders[run]).prune(best_epoch, since=self._saved_at)
        self._saved_at = cohort.epoch

    def close(self) -> None:
        """Every run has ended: there is nothing to go on with."""
        close_group(self._file, self.folders)

    def _go_on(self, saved: Saved) -> None:
        """Say what is not as it was."""
        if saved.notice:
            print(saved.notice, file=sys.stderr, flush=True)
        (here,), before = self._origins, saved.state.origins
        if before[-1:] == (here,):
            self._origins = list(before)
            return
        self._origins = [*before, here]
        if before:
            changes = ", ".join(here.differences(before[-1]))
            print(
                f"{self._group.label}: goes on with {changes}; its results may differ in their "
                "last bits from those of one go",
                file=sys.stderr,
                flush=True,
            )

    def _write(self, cohort: Cohort) -> None:
        write_group(
            self._file,
            cohort.epoch,
            self._group.runs,
            cohort.slots,
            self._initial,
            self._origins,
        )

    def _diagnosed(self, run: int, state: LaneState) -> dict[str, Any]:
        # A run that is continued began with weights that are known no more after a resumption.
        fresh = self._group.continued_at is None
        initial = self._initial_counts(self._group.runs[run].seed) if fresh else None
        return self._diagnosis.record(initial, state.best.variables)

    def _load(self, run: int, epoch: int) -> LaneState:
        like = self._initial_state(self._group.runs[run].seed)
        return Checkpoints(self.folders[run]).load(epoch, like)

    def _fresh(self, run: int, regularised: Callable) -> LaneState:
        """The state before the first epoch: initial weights, or those of an epoch of the run."""
        point, epoch = self._group.runs[run], self._group.continued_at
        fresh = self._initial_state(point.seed)
        if not epoch:
            return fresh
        folder = point.folder(self._workdir)
        state = Checkpoints(folder).load(epoch, regularised(point).start(point.seed))
        best = Best(state.params, state.collections, fresh.best.loss, fresh.best.epoch)
        return fresh._replace(
            params=state.params,
            collections=state.collections,
            opt_state=state.opt_state,
            best=best,
        )
