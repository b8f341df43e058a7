"""One group of runs, from where it is to its results."""

import functools
import math
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from persist_jax.store import checkpoints
from persist_jax.store.checkpoints import best_checkpoint, earlier_checkpoint
from persist_jax.store.files import discard_unfinished
from persist_jax.store.groups import (
    Group,
    GroupState,
    discard_group,
    read_plan,
    read_state,
    save_group,
)
from persist_jax.store.history import HISTORY_FILE, Rows, join_rows, write_history
from persist_jax.store.locks import Lock
from persist_jax.store.origin import Origin
from persist_jax.store.record import RESULT_FILE, Accuracy, has_result, write_result
from persist_jax.store.run import Run
from persist_jax.store.sweep_folder import profile_folder
from persist_jax.sweep.costs import Meter
from persist_jax.sweep.distributed import any_says
from persist_jax.sweep.experiment import Experiment
from persist_jax.sweep.origin import origin_of
from persist_jax.sweep.profiling import Profile
from persist_jax.sweep.watching import Watcher
from persist_jax.training.cohort import Cohort, Ended, Row, outcome
from persist_jax.training.programs import Programs
from persist_jax.training.state import Best, LaneState


class Progress(NamedTuple):
    """What a person sees of a group after an epoch."""

    epoch: int
    epochs: int  # at most
    training: int
    validation_loss: float  # the lowest finite one of the lanes that were trained


def train_group(
    experiment: Experiment,
    group: Group,
    workdir: Path,
    lock: Lock | None,
    *,
    report: Callable[[Progress], None] = lambda progress: None,
    must_stop: Callable[[], bool] = lambda: False,
    tensorboard: bool = False,
    profile: bool = False,
) -> bool:
    """Train every run of a group that has no result, and leave the results in the folder.

    Runs that have a result but were in training at the last checkpoint are trained along, so that
    the others go through the same programs as without the interruption.

    Args:
        experiment: data, networks and programs.
        group: the runs.
        workdir: the sweep's folder.
        lock: the group's lock; `None` in a process that trains along and writes nothing.
        report: called after every epoch.
        must_stop: asked after every epoch whether to stop.
        tensorboard: whether to write event files beside the lines of `epochs.jsonl`.
        profile: whether to profile the second epoch from here; the first has the start in it.

    Returns:
        Whether every run has ended. If not, everything is saved and the same call goes on later.

    Raises:
        LockLost: another process may train the group by now; this one writes nothing more.
        ValueError: one line that names what cannot be read.
    """
    programs = experiment.programs(group.network, group.regulariser)
    every = experiment.options(group.network).checkpoint_every
    epochs = experiment.options(group.network).epochs
    saved, problem = read_state(group, workdir)
    if problem and lock:
        print(problem, file=sys.stderr, flush=True)
    cohort = _cohort(experiment, programs, group, workdir, saved)
    accuracies = cohort.accuracies(cohort.training) if saved is None else {}
    if lock is None:
        for _ in cohort.epochs():
            if any_says(must_stop()) and cohort.training:
                return False
        return True
    folders = {run: group.folder(group.runs[run], workdir) for run in cohort.training}
    writer = _Writer(experiment, group, workdir, lock, cohort, saved, accuracies)
    del saved  # as large as the states in training
    with (
        Meter(workdir, group.label) as meter,
        Watcher(workdir, folders, cohort.epoch, tensorboard=tensorboard) as watcher,
        Profile(profile_folder(workdir), f"an epoch of {group.label}") as profiler,
    ):
        for epoch in cohort.epochs():
            profiler.stop()
            lock.check()
            meter.epoch(epoch.rows)
            watcher.append(epoch.number, epoch.rows)
            writer.append(epoch.rows)
            for run, ended in epoch.ended.items():
                writer.finish(run, ended)
            losses = [row.validation_loss for row in epoch.rows.values()]
            loss = min(filter(math.isfinite, losses), default=math.nan)
            report(Progress(epoch.number, epochs, len(cohort.training), loss))
            stop = any_says(must_stop()) and bool(cohort.training)
            if cohort.training and (stop or epoch.number % every == 0):
                writer.save()
            if stop:
                return False
            if profile:
                profiler.start()
                profile = False
    lock.check()
    discard_group(group, workdir)
    return True


def _cohort(
    experiment: Experiment,
    programs: Programs,
    group: Group,
    workdir: Path,
    saved: GroupState | None,
) -> Cohort:
    """The group's runs as lanes, from the checkpoint or before their first epoch."""
    weights = [run.weight for run in group.runs]
    index = {run: i for i, run in enumerate(group.runs)}
    if saved is None:
        states = {i: _first_state(experiment, group, run, workdir) for run, i in index.items()}
        return Cohort(programs, weights, states, epoch=group.continued_at or 0)
    states = {
        index[run]: _unflattened(leaves, programs.start(run.seed), group.path(workdir))
        for run, leaves in saved.states.items()
    }
    slots = [None if run is None else index[run] for run in saved.slots]
    return Cohort(programs, weights, states, slots=slots, epoch=saved.epoch)


def _first_state(experiment: Experiment, group: Group, run: Run, workdir: Path) -> LaneState:
    """The state before the first epoch: initial weights, or those of an epoch of the run."""
    fresh = experiment.programs(group.network, group.regulariser).start(run.seed)
    if not group.continued_at:
        return fresh
    like = experiment.programs(run.network, run.regulariser).start(run.seed)
    folder = earlier_checkpoint(run.folder(workdir), group.continued_at)
    state = checkpoints.load(folder, like)
    best = Best(state.params, state.collections, fresh.best.loss, fresh.best.epoch)
    return fresh._replace(
        params=state.params, collections=state.collections, opt_state=state.opt_state, best=best
    )


def _unflattened(leaves: list[np.ndarray], like: LaneState, folder: Path) -> LaneState:
    wanted, structure = jax.tree.flatten(like)
    if [(leaf.shape, leaf.dtype) for leaf in leaves] != [(x.shape, x.dtype) for x in wanted]:
        raise ValueError(f"{folder}: its arrays are not those of this network and optimiser")
    return structure.unflatten(leaves)


class _Writer:
    """Writes the results and the checkpoints of a group in training."""

    def __init__(
        self,
        experiment: Experiment,
        group: Group,
        workdir: Path,
        lock: Lock,
        cohort: Cohort,
        saved: GroupState | None,
        accuracies: dict[int, dict[str, float]],
    ):
        self._group, self._workdir, self._lock, self._cohort = group, workdir, lock, cohort
        self._continued = experiment.config.continued and group.continued_at is None
        self._programs = experiment.programs(group.network, group.regulariser)
        self._diagnosis = experiment.diagnosis(group.network)
        # Runs of one seed start alike, whatever their weight.
        self._initial_counts = functools.cache(
            lambda seed: self._diagnosis.of(self._programs.start(seed).best.variables)
        )
        self._rows: dict[Run, list[Rows]] = {group.runs[i]: [] for i in cohort.training}
        self._earlier: dict[Run, tuple[int, list[np.ndarray]]] = {}
        # The states of the last regular checkpoint: a run is continued from one of these, so that
        # it does not depend on when the sweep was stopped.
        self._last: dict[Run, tuple[int, list[np.ndarray]]] = {}
        self._every = experiment.options(group.network).checkpoint_every
        if saved is None:
            self._initial = {group.runs[i]: Accuracy(**parts) for i, parts in accuracies.items()}
        else:
            self._initial = dict(saved.initial)
            self._rows = {run: [rows] for run, rows in saved.histories.items()}
            self._earlier = dict(saved.earlier)
            if self._continued and saved.epoch % self._every == 0:
                self._last = {run: (saved.epoch, state) for run, state in saved.states.items()}
            elif self._continued:
                self._last = dict(saved.last)
        origin = origin_of(experiment, group.network, group.regulariser)
        self._origins = _origins(saved.origins if saved else (), origin, group.label)

    def append(self, rows: dict[int, Row]) -> None:
        """Keep what an epoch adds to the histories."""
        for run, row in rows.items():
            self._rows[self._group.runs[run]].append(row.history)

    def finish(self, number: int, ended: Ended) -> None:
        """Write the result of a run that has ended; one that is there already stays."""
        run, state = self._group.runs[number], ended.state
        folder, rows = self._group.folder(run, self._workdir), join_rows(self._rows.pop(run))
        if has_result(folder):
            return
        best = {"params": state.best.params, **state.best.collections}
        checkpoints.save(best_checkpoint(folder), best)
        self._note_earlier(run, state)
        if run in self._earlier:
            epoch, leaves = self._earlier.pop(run)
            earlier = jax.tree.structure(state).unflatten(leaves)
            checkpoints.save(earlier_checkpoint(folder, epoch), earlier)
        for name in (HISTORY_FILE, RESULT_FILE):
            discard_unfinished(folder / name)
        write_history(folder, rows)
        record = asdict(run) | outcome(state, self._cohort.epoch, self._programs.plan)
        # The weights that a continued run began with are not its initial ones.
        initial = self._initial_counts(run.seed) if self._group.continued_at is None else None
        record |= self._diagnosis.record(initial, state.best.variables)
        record |= {
            "accuracy": {"initial": self._initial[run].plain(), "trained": ended.accuracy},
            "seconds": float(rows["seconds"].sum()),
            "origins": [origin.plain() for origin in self._origins],
        }
        self._lock.check()
        write_result(folder, record)

    def save(self) -> None:
        """Write a checkpoint of the group."""
        runs, states = self._group.runs, self._cohort.states(self._cohort.training)
        for run, state in states.items():
            self._note_earlier(runs[run], state)
        leaves = {runs[run]: jax.tree.leaves(state) for run, state in states.items()}
        for run in leaves:
            self._rows[run] = [join_rows(self._rows[run])]
        if self._continued and self._cohort.epoch % self._every == 0:
            self._last = {run: (self._cohort.epoch, state) for run, state in leaves.items()}
        irregular = self._cohort.epoch % self._every != 0
        state = GroupState(
            epoch=self._cohort.epoch,
            slots=[None if slot is None else runs[slot] for slot in self._cohort.slots],
            states=leaves,
            histories={run: self._rows[run][0] for run in leaves},
            earlier={run: self._earlier[run] for run in leaves if run in self._earlier},
            last={run: self._last[run] for run in leaves if irregular and run in self._last},
            initial=self._initial,
            origins=self._origins,
        )
        save_group(self._group, self._workdir, state)

    def _note_earlier(self, run: Run, state: LaneState) -> None:
        """Keep the state of the last regular checkpoint, if the best weights are younger."""
        epoch, leaves = self._last.get(run, (0, []))
        if self._continued and leaves and int(state.best.epoch) > epoch:
            self._earlier[run] = epoch, leaves


def _origins(before: tuple[Origin, ...], here: Origin, label: str) -> list[Origin]:
    """The origins of a group that is trained here from now on; a change is said."""
    if before[-1:] == (here,):
        return list(before)
    if before:
        changes = ", ".join(here.differences(before[-1]))
        print(
            f"{label}: goes on with {changes}; its results may differ in their last bits from "
            "those of one go",
            file=sys.stderr,
            flush=True,
        )
    return [*before, here]


def compile_group(experiment: Experiment, group: Group, workdir: Path) -> None:
    """Compile what the next epoch of a group takes, for a `train_group` in the same process."""
    programs = experiment.programs(group.network, group.regulariser)
    epoch, slots = read_plan(group, workdir)
    lanes = programs.layout.lanes_for(slots)
    programs.compile(lanes, epoch)
    programs.evaluation.compile_draw()
    programs.evaluation.compile(lanes)


def compile_rest(experiment: Experiment, group: Group, workdir: Path) -> None:
    """Compile the smaller programs of a group's last epochs, where it is known which they are.

    Lanes that advance together have few of them. Where lanes go one after another, on cores, most
    of the many sizes would be compiled for nothing.
    """
    programs = experiment.programs(group.network, group.regulariser)
    epoch, slots = read_plan(group, workdir)
    if programs.layout.lane_strategy == "vmap":
        for fewer in programs.layout.later(programs.layout.lanes_for(slots)):
            programs.compile(fewer, epoch)
            programs.evaluation.compile(fewer)
