"""Train a sweep in a folder: any number of processes claim its groups, one at a time each."""

import errno
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import jax

from persist_jax.store import groups
from persist_jax.store.configuration import Configuration
from persist_jax.store.groups import Group
from persist_jax.store.locks import Lock, Locked, LockLost, locked, locked_folder
from persist_jax.sweep.ahead import Ahead
from persist_jax.sweep.distributed import any_says, is_alone, is_first, name_of_first
from persist_jax.sweep.experiment import Experiment
from persist_jax.sweep.grid import form_groups, missing_runs, open_groups
from persist_jax.sweep.group import train_group
from persist_jax.sweep.progress import show_progress

_POLL = 1.0  # seconds between two checks of groups that other processes train
# Errors that would hit every other group too: full disk, read-only disk, closed output.
_OF_ALL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EPIPE}


def run_sweep(
    experiment: Experiment,
    workdir: Path,
    must_stop: Callable[[], bool] = lambda: False,
    *,
    wait: bool = True,
    worker: bool = False,
    tensorboard: bool = False,
    profile: bool = False,
) -> bool:
    """Train all runs without a result, shared with every process that runs the same sweep.

    Args:
        experiment: the experiment of the configuration in the folder.
        workdir: the sweep's folder.
        must_stop: called after every epoch; whether to stop.
        wait: whether to wait for groups that other processes train, and to train the group of a
            process that dies.
        worker: whether this is one of several processes on a machine; it then prints lines instead
            of a bar and compiles nothing ahead.
        tensorboard: whether to write event files.
        profile: whether to profile an epoch of the first group.

    Returns:
        Whether every run has its result; `False` after a stop, with everything saved, or while
        other processes still train.

    Raises:
        ChildProcessError: groups failed and all others are finished; one line that names them.
        OSError: an error that would hit every group, as a full disk; no other group is started.
    """
    config = experiment.config
    how = {"must_stop": must_stop, "tensorboard": tensorboard, "profile": profile}
    for continued in (False, True) if config.continued else (False,):
        # For workers, the command that started them has formed the groups of the grid.
        if is_first() and (continued or not worker):
            with locked_folder(workdir):
                form_groups(config, workdir, continued=continued, retry=not worker)
        # With --distributed, the other processes would time out while the first one waits.
        claims = _Claims(config, workdir, continued, wait and is_alone(), must_stop)
        with nullcontext() if worker or not is_alone() else Ahead(experiment, workdir) as ahead:
            if not _train_groups(experiment, workdir, claims, ahead, bar=not worker, how=how):
                return False
    if is_first():
        with locked_folder(workdir):  # delete groups that killed processes left
            form_groups(config, workdir, retry=False)
    if missing := missing_runs(config, workdir):
        raise ValueError(
            f"{workdir}: {len(missing)} runs have no result and no group, {missing[0]} the "
            "first; files were deleted while the sweep ran; run the same command again"
        )
    return True


class _Claims:
    """Claims groups for this process to train, one after another, each with its lock."""

    def __init__(
        self,
        config: Configuration,
        workdir: Path,
        continued: bool,
        wait: bool,
        must_stop: Callable[[], bool],
    ):
        self._config, self._workdir, self._continued = config, workdir, continued
        self._wait, self._must_stop = wait, must_stop
        self._numbers: dict[Path, int] = {}  # by folder of a group, in the order of the grid

    def open(self) -> list[Group]:
        """List the groups with runs to train that have not failed."""
        found = open_groups(self._config, self._workdir, continued=self._continued)
        for group in found:
            self._numbers.setdefault(group.path(self._workdir), len(self._numbers) + 1)
        return [group for group in found if not groups.has_failed(group, self._workdir)]

    def label(self, group: Group) -> str:
        """Return the group's name in messages, with its number."""
        number = self._numbers.get(group.path(self._workdir))
        return f"[{number}/{len(self._numbers)}] {group.label}"

    def check(self) -> None:
        """Raise an error if groups failed, here or in other processes."""
        found = open_groups(self._config, self._workdir, continued=self._continued)
        if failed := [group.label for group in found if groups.has_failed(group, self._workdir)]:
            raise ChildProcessError(
                f"{len(failed)} of {len(self._numbers)} groups failed: "
                f"{', '.join(dict.fromkeys(failed))}; run the same command again to retry them"
            )

    @contextmanager
    def next(self) -> Iterator[tuple[Group | None, Lock | None]]:
        """Claim a group while the block runs; `None` if there is none to train.

        With `--distributed`, the first process claims for all.
        """
        with ExitStack() as stack:
            group, lock = self._claim(stack) if is_first() else (None, None)
            name = name_of_first(group.path(self._workdir).name if group else "")
            if name and group is None:
                found = groups.read_groups(self._workdir)
                group = next(g for g in found if g.path(self._workdir).name == name)
            yield group, lock

    def _claim(self, stack: ExitStack) -> tuple[Group | None, Lock | None]:
        waiting = False
        while found := self.open():
            for group in found:
                try:
                    lock = stack.enter_context(locked(group.lock(self._workdir)))
                except Locked:
                    continue
                if group in self.open() and groups.reread_group(group, self._workdir) == group:
                    return group, lock
                # Another process has finished, split or failed the group in the meantime.
                stack.close()
                break
            else:
                if not self._wait or self._must_stop():
                    break
                if not waiting:
                    count = f"{len(found)} group{'s' if len(found) > 1 else ''}"
                    print(f"Waiting for {count} that other processes train", flush=True)
                    waiting = True
                time.sleep(_POLL)
        return None, None


def _train_groups(
    experiment: Experiment,
    workdir: Path,
    claims: _Claims,
    ahead: Ahead | None,
    *,
    bar: bool,
    how: dict[str, Any],
) -> bool:
    """Train one group after another; return whether all have finished."""
    while True:
        with claims.next() as (group, lock):
            if group is None:
                break
            if ahead:
                others = [other for other in claims.open() if other != group]
                ahead.compile([group, *others])
            label, failure = claims.label(group), None
            try:
                silent = nullcontext(lambda progress: None)
                with show_progress(label, bar=bar) if lock else silent as report:
                    if not train_group(experiment, group, workdir, lock, report=report, **how):
                        return False
                how["profile"] = False  # profile only one group
            except LockLost as error:
                if not is_alone():
                    raise
                _say(f"{label}: {error}")
            except Exception as error:
                # With --distributed, the other processes are in the middle of this group.
                if not is_alone() or getattr(error, "errno", None) in _OF_ALL:
                    raise
                # Drop the traceback: it would keep arrays alive.
                failure = error.with_traceback(None) if ran_out(error) else error
            if failure and not (ran_out(failure) and _split(group, workdir)):
                _note(failure, experiment, group, workdir, claims)
    claims.check()
    return not any_says(bool(is_first() and claims.open()))


def _split(group: Group, workdir: Path) -> bool:
    """Split a group that does not fit into memory; return False for a single run."""
    with locked_folder(workdir):
        lanes = groups.split_group(group, workdir)
    if lanes:
        _say(f"{group.label}: out of memory; retrying with {lanes} lanes")
    return bool(lanes)


def _note(
    failure: Exception, experiment: Experiment, group: Group, workdir: Path, claims: _Claims
) -> None:
    """Print why a group failed, and record it so that no process tries it again."""
    network, label = group.network, claims.label(group)
    if ran_out(failure):
        line = (
            f"out of memory: {group.label}, one lane of n = {experiment.points(network)} points, "
            f"train.batch_size {experiment.options(network).batch_size}, "
            f"{experiment.layout(network).parallel}: lower train.batch_size, train.sampling "
            "(correlations take n x n numbers) or devices"
        )
        for other in claims.open():  # if one lane does not fit, no other lane does
            if (other.network, other.regulariser) == (network, group.regulariser):
                groups.note_failure(other, workdir, line)
    else:
        line = _in_one_line(failure)
    groups.note_failure(group, workdir, line)
    _say(f"{label}: {line}")


def ran_out(error: BaseException) -> bool:
    """Return whether an error means that a device or the machine ran out of memory."""
    words = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory")
    memory = isinstance(error, jax.errors.JaxRuntimeError) and any(w in str(error) for w in words)
    return isinstance(error, MemoryError) or memory


def _in_one_line(error: Exception) -> str:
    """Return the error as one line; print a traceback unless input or machine caused it."""
    words = " ".join(str(error).split())[:1000]
    of_input = isinstance(error, ValueError | OSError | ImportError | MemoryError)
    if of_input and words:
        return words
    if not of_input:
        traceback.print_exception(error, file=sys.stderr)
    return f"{type(error).__name__}: {words}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
