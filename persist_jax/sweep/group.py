"""One group of runs from its start to its results; any process that sees the folder can do it."""

import functools
import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from persist_jax.store.checkpoints import BEST, Checkpoints
from persist_jax.store.configuration import Configuration
from persist_jax.store.group_file import GroupFile, read_group, write_group
from persist_jax.store.history import GrowingHistory
from persist_jax.store.record import Accuracy, has_result, write_result
from persist_jax.store.sweep_folder import profile_folder
from persist_jax.sweep.diagnosis import Diagnosis
from persist_jax.sweep.experiment import load_experiment
from persist_jax.sweep.grid import Group
from persist_jax.sweep.profiling import profiled
from persist_jax.sweep.watching import Watcher
from persist_jax.training.cohort import Cohort, Row, outcome
from persist_jax.training.programs import Programs
from persist_jax.training.state import Best, LaneState


class Progress(NamedTuple):
    """What a person sees of a group after an epoch."""

    epoch: int
    epochs: int  # at most
    training: int
    validation_loss: float  # the lowest finite one of the lanes that were trained


def train_group(
    config: Configuration,
    group: Group,
    workdir: str | os.PathLike[str],
    *,
    report: Callable[[Progress], None] = lambda progress: None,
    must_stop: Callable[[], bool] = lambda: False,
    tensorboard: bool = False,
    profile: bool = False,
) -> bool:
    """Train every run of a group that has no result, and leave the results in the folder.

    Args:
        config: of the sweep; data and networks are loaded from what it names.
        group: the runs.
        workdir: the sweep's folder.
        report: called after every epoch.
        must_stop: asked after every epoch whether to stop.
        tensorboard: whether to write event files beside the lines of `epochs.jsonl`.
        profile: whether to profile the second epoch from here; the first has the start in it.

    Returns:
        Whether every run has ended. If not, everything is saved and the same call goes on later.

    Raises:
        ValueError: one line that names what cannot be read.
    """
    experiment = load_experiment(config)
    options = experiment.options(group.network)
    programs = experiment.programs(group.network, group.regulariser)
    disk = _GroupOnDisk(programs, experiment.diagnosis(group.network), group, workdir)
    cohort = disk.start(lambda run: experiment.programs(run.network, run.regulariser))
    folders = {run: disk.folders[run] for run in cohort.training}
    second = cohort.epoch + 1
    with Watcher(Path(workdir), folders, cohort.epoch, tensorboard=tensorboard) as watcher:
        while cohort.training:
            with _profiled(group, workdir, profile and cohort.epoch == second):
                rows = cohort.train_epoch()
            last = cohort.epoch >= options.epochs
            disk.append(rows)
            watcher.append(cohort.epoch, rows)
            ended = [run for run, row in rows.items() if row.ended or last]
            disk.finish(cohort, ended)
            cohort.end(ended)
            losses = [row.validation_loss for row in rows.values()]
            loss = min(filter(math.isfinite, losses), default=math.nan)
            report(Progress(cohort.epoch, options.epochs, len(cohort.training), loss))
            stop = must_stop()
            if cohort.training and (stop or cohort.epoch % options.checkpoint_every == 0):
                disk.save(cohort)
                if stop:
                    return False
    disk.close()
    return True


def _profiled(
    group: Group, workdir: str | os.PathLike[str], wanted: bool
) -> AbstractContextManager[None]:
    if not wanted:
        return nullcontext()
    return profiled(profile_folder(Path(workdir)), f"an epoch of {group.label}")


def compile_group(
    config: Configuration, group: Group, workdir: str | os.PathLike[str]
) -> None:
    """Compile what the first epoch of a group takes, for a `train_group` in the same process.

    What cannot be compiled or read is left for that to say.
    """
    file = group.path(Path(workdir))
    saved = read_group(file) if file.exists() else None
    epoch = saved.epoch if saved else group.continued_at or 0
    programs = load_experiment(config).programs(group.network, group.regulariser)
    slots = len(saved.slots) if saved else len(group.runs)
    programs.compile(programs.layout.lanes_for(slots), epoch)


class _GroupOnDisk:
    """A group's runs in the store.

    The group's file holds everything that decides which programs it takes: the epoch and which
    lane is where. It is written after the checkpoints of its runs, so it never names one that is
    not whole.
    """

    def __init__(
        self,
        programs: Programs,
        diagnosis: Diagnosis,
        group: Group,
        workdir: str | os.PathLike[str],
    ):
        self._programs = programs
        self._diagnosis = diagnosis
        self._group = group
        self._workdir = Path(workdir)
        self._file = group.path(self._workdir)
        self.folders = [group.folder(run, self._workdir) for run in group.runs]
        # Runs of one seed start alike, whatever their weight.
        self._initial_state = functools.cache(programs.start)

    def start(self, regularised: Callable) -> Cohort:
        """The cohort as it was left, or before its first epoch.

        Args:
            regularised: the programs that a run of the grid was trained with.
        """
        saved = read_group(self._file) if self._file.exists() else None
        runs = range(len(self._group.runs))
        unfinished = [run for run in runs if not has_result(self.folders[run])]
        if saved:
            unfinished = [run for run in unfinished if run in saved.slots]
            states = {run: self._load(run, saved.epoch) for run in unfinished}
        else:
            states = {run: self._fresh(run, regularised) for run in unfinished}
        epoch = saved.epoch if saved else self._group.continued_at or 0
        self._history = [GrowingHistory(folder, epoch) for folder in self.folders]
        weights = [run.weight for run in self._group.runs]
        slots = saved.slots if saved else None
        cohort = Cohort(self._programs, weights, states, slots=slots, epoch=epoch)
        self._initial = self._initial_accuracies(cohort, saved)
        return cohort

    def append(self, rows: dict[int, Row]) -> None:
        """Keep what an epoch adds to the histories."""
        for run, row in rows.items():
            self._history[run].append(row.history)

    def finish(self, cohort: Cohort, ended: list[int]) -> None:
        """Write the results of runs that have ended."""
        for run, trained in cohort.accuracies(ended).items():
            folder, state = self.folders[run], cohort.state(run)
            checkpoints = Checkpoints(folder)
            checkpoints.save(BEST, state.best.variables)
            rows = self._history[run].finish()
            record = asdict(self._group.runs[run]) | outcome(
                state, cohort.epoch, self._programs.plan
            )
            accuracy = {"initial": self._initial[run].plain(), "trained": trained}
            record |= {"accuracy": accuracy, "seconds": float(rows["seconds"].sum())}
            write_result(folder, record | self._diagnosed(run, state))
            checkpoints.prune(int(state.best.epoch), newest=False)
            self._history[run].discard_parts()

    def save(self, cohort: Cohort) -> None:
        """Checkpoint every run in training, then the group itself."""
        best_epoch = {}
        for run in cohort.training:
            state = cohort.state(run)
            best_epoch[run] = int(state.best.epoch)
            Checkpoints(self.folders[run]).save(cohort.epoch, state)
            self._history[run].flush(cohort.epoch)
        write_group(self._file, cohort.epoch, self._group.runs, cohort.slots, self._initial)
        for run, epoch in best_epoch.items():
            Checkpoints(self.folders[run]).prune(epoch, newest=True)

    def close(self) -> None:
        """Every run has ended: there is nothing to go on with."""
        self._file.unlink(missing_ok=True)

    def _diagnosed(self, run: int, state: LaneState) -> dict[str, Any]:
        # A run that is continued began with weights that are known no more after a resumption.
        fresh = self._group.continued_at is None
        initial = self._initial_state(self._group.runs[run].seed).variables if fresh else None
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

    def _initial_accuracies(self, cohort: Cohort, saved: GroupFile | None) -> list[Accuracy]:
        if saved:
            return list(saved.initial)
        found = cohort.accuracies(cohort.training)
        nothing = dict.fromkeys(Accuracy.model_fields)
        return [Accuracy(**found.get(run, nothing)) for run in range(len(self._group.runs))]
