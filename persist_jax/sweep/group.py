"""Train one group of runs, from its last checkpoint to its results."""

import functools
import hashlib
import math
import re
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from persist_jax.data.dataset import Dataset
from persist_jax.store import checkpoints
from persist_jax.store.checkpoints import best_checkpoint, earlier_checkpoint, last_checkpoint
from persist_jax.store.files import discard_unfinished
from persist_jax.store.groups import (
    Group,
    GroupState,
    Leaves,
    discard_group,
    read_state,
    save_group,
)
from persist_jax.store.history import HISTORY_FILE, Rows, join_rows, write_history
from persist_jax.store.locks import Lock
from persist_jax.store.record import RESULT_FILE, Accuracy, Origin, has_result, write_result
from persist_jax.store.sweep_folder import PROFILE_FOLDER
from persist_jax.sweep.distributed import any_says
from persist_jax.sweep.experiment import Experiment
from persist_jax.sweep.origin import origin_of
from persist_jax.sweep.profiling import Profile
from persist_jax.sweep.watching import Watcher
from persist_jax.training.cohort import PARTS, Cohort, Ended, Row, outcome
from persist_jax.training.evaluation import loss_reached
from persist_jax.training.programs import Programs
from persist_jax.training.state import Best, LaneState


class Progress(NamedTuple):
    """Progress of a group after an epoch, to be shown to the user."""

    epoch: int
    epochs: int  # at most
    training: int  # runs still in training
    validation_loss: float  # smallest finite loss of the lanes of this epoch


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
    """Train every run of a group that has no result, and write the results to the folder.

    A run that was in training at the last checkpoint but has a result is trained again with the
    others: they then use the same programs as without the interruption.

    Args:
        experiment: data, networks and programs.
        group: the runs.
        workdir: the sweep's folder.
        lock: the group's lock; `None` in a process that only trains and writes nothing.
        report: called after every epoch.
        must_stop: called after every epoch; whether to stop.
        tensorboard: whether to write event files in addition to `epochs.jsonl`.
        profile: whether to profile the second epoch of this call; the first includes the start.

    Returns:
        Whether every run has finished. If not, all is saved, and the same call resumes later.

    Raises:
        LockLost: another process has the lock; nothing more is written.
    """
    programs = experiment.programs(group.network, group.regulariser)
    options = experiment.options(group.network)
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
        Watcher(workdir, group.label, folders, cohort.epoch, tensorboard=tensorboard) as watcher,
        Profile(workdir / PROFILE_FOLDER, f"an epoch of {group.label}") as profiler,
    ):
        for epoch in cohort.epochs():
            profiler.stop()
            lock.check()
            watcher.append(epoch.number, epoch.rows)
            writer.append(epoch.rows)
            for run, ended in epoch.ended.items():
                writer.finish(run, ended)
            losses = [row.validation_loss for row in epoch.rows.values()]
            loss = min(filter(math.isfinite, losses), default=math.nan)
            report(Progress(epoch.number, options.epochs, len(cohort.training), loss))
            stop = any_says(must_stop()) and bool(cohort.training)
            if cohort.training and (stop or epoch.number % options.checkpoint_every == 0):
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
    """Return the group's runs as lanes, from the checkpoint or before their first epoch."""
    weights = [run.weight for run in group.runs]
    if saved is None:
        runs = range(len(group.runs))
        states = {run: _first_state(experiment, programs, group, run, workdir) for run in runs}
        return Cohort(programs, weights, states, epoch=group.continued_at or 0)
    states = {
        run: _unflattened(leaves, programs.start(group.runs[run].seed), group.path(workdir))
        for run, leaves in saved.states.items()
    }
    return Cohort(programs, weights, states, slots=saved.slots, epoch=saved.epoch)


def _first_state(
    experiment: Experiment, programs: Programs, group: Group, place: int, workdir: Path
) -> LaneState:
    """Return the state before the first epoch: initial weights, or those to continue from."""
    run = group.runs[place]
    fresh = programs.start(run.seed)
    if not group.continued_at:
        return fresh
    like = experiment.programs(run.network, run.regulariser).start(run.seed)
    state = checkpoints.load(earlier_checkpoint(run.folder(workdir), group.continued_at), like)
    best = Best(state.params, state.collections, fresh.best.loss, fresh.best.epoch)
    return fresh._replace(
        params=state.params, collections=state.collections, opt_state=state.opt_state, best=best
    )


def _unflattened(leaves: Leaves, like: LaneState, folder: Path) -> LaneState:
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
        self._to_be_continued = experiment.config.continued and group.continued_at is None
        self._programs = experiment.programs(group.network, group.regulariser)
        self._diagnosis = experiment.diagnosis(group.network)
        # Runs of one seed have the same initial weights, whatever their regularisation weight.
        self._initial_counts = functools.cache(
            lambda seed: self._diagnosis.of(self._programs.start(seed).best.variables)
        )
        self._every = experiment.options(group.network).checkpoint_every
        self._rows: dict[int, list[Rows]] = {run: [] for run in cohort.training}
        self._initial = {run: Accuracy(**parts) for run, parts in accuracies.items()}
        self._earlier: dict[int, tuple[int, Leaves]] = {}
        # The states of the last regular checkpoint. A run is continued from one of these, so that
        # the result does not depend on when the sweep was stopped.
        self._last: dict[int, tuple[int, Leaves]] = {}
        if saved is not None:
            self._rows = {run: [rows] for run, rows in saved.histories.items()}
            self._initial, self._earlier = dict(saved.initial), dict(saved.earlier)
            if self._to_be_continued and saved.epoch % self._every == 0:
                self._last = {run: (saved.epoch, leaves) for run, leaves in saved.states.items()}
            elif self._to_be_continued:
                self._last = dict(saved.last)
        origin = origin_of(experiment, group.network, group.regulariser)
        self._origins = _origins(saved.origins if saved else (), origin, group.label)

    def append(self, rows: dict[int, Row]) -> None:
        """Add an epoch's rows to the histories."""
        for run, row in rows.items():
            self._rows[run].append(row.history)

    def finish(self, place: int, ended: Ended) -> None:
        """Write the result of a finished run, unless it has one."""
        run, state, rows = self._group.runs[place], ended.state, join_rows(self._rows.pop(place))
        folder = self._group.folder(run, self._workdir)
        if has_result(folder):
            return
        for path, of in ((best_checkpoint, state.best), (last_checkpoint, state)):
            checkpoints.save(path(folder), {"params": of.params, **of.collections})
        self._note_earlier(place, state)
        if place in self._earlier:
            epoch, leaves = self._earlier.pop(place)
            earlier = jax.tree.structure(state).unflatten(leaves)
            checkpoints.save(earlier_checkpoint(folder, epoch), earlier)
        for name in (HISTORY_FILE, RESULT_FILE):
            discard_unfinished(folder, re.escape(name))
        write_history(folder, rows)
        record = asdict(run) | outcome(state, self._cohort.epoch, self._programs.plan)
        # A continued run does not start from initial weights.
        initial = self._initial_counts(run.seed) if self._group.continued_at is None else None
        record |= self._diagnosis.record(initial, state.best.variables)
        best = {part: ended.evaluation["best"][part] for part in PARTS}
        record |= {
            "accuracy": {"initial": self._initial[place].plain(), "trained": best},
            "examples": _examples(self._programs.evaluation.dataset, run.seed),
            "evaluation": ended.evaluation | {"loss": self._loss_reached(rows)},
            "seconds": float(rows["seconds"].sum()),
            "origins": [origin.plain() for origin in self._origins],
        }
        self._lock.check()
        write_result(folder, record)

    def _loss_reached(self, rows: Rows) -> dict[str, Any] | None:
        level, plan = self._programs.evaluation.evaluate.loss, self._programs.plan
        if level is None or self._group.continued_at is not None:
            return None
        epochs, reached = loss_reached(rows, plan.examples, plan.batch_size, level) or (None, None)
        return {"level": level, "epochs": epochs, "validation_accuracy": reached}

    def save(self) -> None:
        """Write a checkpoint of the group."""
        epoch, states = self._cohort.epoch, self._cohort.states(self._cohort.training)
        for run, state in states.items():
            self._note_earlier(run, state)
            self._rows[run] = [join_rows(self._rows[run])]
        leaves = {run: jax.tree.leaves(state) for run, state in states.items()}
        regular = epoch % self._every == 0
        if self._to_be_continued and regular:
            self._last = {run: (epoch, state) for run, state in leaves.items()}
        state = GroupState(
            epoch=epoch,
            slots=self._cohort.slots,
            states=leaves,
            histories={run: self._rows[run][0] for run in leaves},
            earlier={run: self._earlier[run] for run in leaves if run in self._earlier},
            last={run: self._last[run] for run in leaves if not regular and run in self._last},
            initial=self._initial,
            origins=self._origins,
        )
        save_group(self._group, self._workdir, state)

    def _note_earlier(self, run: int, state: LaneState) -> None:
        """Keep the state of the last regular checkpoint if the best weights are later."""
        if run in self._last and int(state.best.epoch) > self._last[run][0]:
            self._earlier[run] = self._last[run]


def _examples(dataset: Dataset, seed: int) -> dict[str, Any]:
    """Return the field `examples` of the records of a seed."""
    drawn, there = dataset.drawn(seed), len(dataset.train.y)
    if drawn is None:
        return {"train": there, "of": there, "wrong_labels": 0, "checksum": None}
    wrong = int(np.sum(drawn.y != dataset.train.y[drawn.positions]))
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(part).data for part in drawn))
    return {
        "train": len(drawn.y),
        "of": there,
        "wrong_labels": wrong,
        "checksum": digest.hexdigest()[:16],
    }


def _origins(before: tuple[Origin, ...], here: Origin, label: str) -> list[Origin]:
    """Add this process to a group's origins; print how it differs from the last one."""
    if before[-1:] == (here,):
        return list(before)
    if before:
        changes = ", ".join(here.differences(before[-1]))
        print(
            f"{label}: resumes with {changes}; its results may differ in their last bits from "
            "those of an uninterrupted sweep",
            file=sys.stderr,
            flush=True,
        )
    return [*before, here]
