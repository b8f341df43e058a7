"""One group of runs from its start to its results; any process that sees the folder can do it."""

import math
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

from persist_jax.store.configuration import Configuration
from persist_jax.store.lease import lease
from persist_jax.store.sweep_folder import profile_folder
from persist_jax.sweep.costs import Meter
from persist_jax.sweep.distributed import most, several
from persist_jax.sweep.experiment import load_experiment
from persist_jax.sweep.grid import Group
from persist_jax.sweep.group_on_disk import GroupOnDisk
from persist_jax.sweep.memory import FAILED, halve, ran_out, too_large
from persist_jax.sweep.origin import origin_of
from persist_jax.sweep.profiling import profiled
from persist_jax.sweep.saved import read_saved
from persist_jax.sweep.start import share_start
from persist_jax.sweep.watching import Watcher
from persist_jax.training.programs import Programs


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
        GroupTaken: one line, where another process trains the group.
        ValueError: one line that names what cannot be read.
        MemoryError: one line, where not even one run at a time fits.
    """
    how = {"report": report, "must_stop": must_stop, "tensorboard": tensorboard}
    with lease(group.path(Path(workdir))):
        try:
            with Meter(Path(workdir), group.label) as meter:
                return _train(config, group, workdir, meter, profile=profile, **how)
        except FAILED as error:
            # The others could not know that two halves train from here.
            if not ran_out(error) or several():
                raise
        # Outside of the handler, which would keep the arrays of that attempt alive.
        halves = halve(group, workdir)
        if not halves:
            raise MemoryError(too_large(load_experiment(config), group))
    lanes = max(len(half.runs) for half in halves)
    print(f"{group.label}: out of memory; going on with {lanes} lanes", file=sys.stderr, flush=True)
    return all(train_group(config, half, workdir, **how) for half in halves)


def _train(
    config: Configuration,
    group: Group,
    workdir: str | os.PathLike[str],
    meter: Meter,
    *,
    report: Callable[[Progress], None],
    must_stop: Callable[[], bool],
    tensorboard: bool,
    profile: bool,
) -> bool:
    experiment = load_experiment(config)
    options = experiment.options(group.network)
    programs = experiment.programs(group.network, group.regulariser)
    origin = origin_of(experiment, group.network, group.regulariser)
    disk = GroupOnDisk(
        programs, experiment.diagnosis(group.network), group, workdir, origin
    )
    start = share_start(group, disk.start(lambda r: experiment.programs(r.network, r.regulariser)))
    cohort = start.cohort(programs, group)
    disk.begin(cohort, start.initial_accuracies(cohort))
    folders = {run: disk.folders[run] for run in cohort.training}
    second = cohort.epoch + 1
    with Watcher(Path(workdir), folders, cohort.epoch, tensorboard=tensorboard) as watcher:
        while cohort.training:
            with _profiled(group, workdir, profile and cohort.epoch == second):
                rows = cohort.train_epoch()
            meter.epoch(rows)
            ended = cohort.ended(rows)
            disk.append(rows)
            watcher.append(cohort.epoch, rows)
            disk.finish(cohort, cohort.accuracies(start.unrecorded(ended)))
            cohort.end(ended)
            losses = [row.validation_loss for row in rows.values()]
            loss = min(filter(math.isfinite, losses), default=math.nan)
            report(Progress(cohort.epoch, options.epochs, len(cohort.training), loss))
            stop = bool(most(must_stop()))
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
    programs, lanes, epoch = _first(config, group, workdir)
    programs.compile(lanes, epoch)
    programs.evaluation.compile_draw()
    programs.evaluation.compile(lanes)


def compile_rest(
    config: Configuration, group: Group, workdir: str | os.PathLike[str]
) -> None:
    """Compile the smaller programs of a group's last epochs, where it is known which they are.

    Lanes that advance together have few of them. Where lanes go one after another, on cores, most
    of the many sizes would be compiled for nothing.
    """
    programs, lanes, epoch = _first(config, group, workdir)
    if programs.layout.lane_strategy == "vmap":
        for fewer in programs.layout.later(lanes):
            programs.compile(fewer, epoch)
            programs.evaluation.compile(fewer)


def _first(
    config: Configuration, group: Group, workdir: str | os.PathLike[str]
) -> tuple[Programs, int, int]:
    """Of a group's next epoch: what trains it, its lanes, and its number."""
    saved = read_saved(group, workdir)
    programs = load_experiment(config).programs(group.network, group.regulariser)
    slots = len(saved.state.slots) if saved else len(group.runs)
    epoch = saved.state.epoch if saved else group.continued_at or 0
    return programs, programs.layout.lanes_for(slots), epoch
