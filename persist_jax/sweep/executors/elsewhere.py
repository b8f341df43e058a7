"""Groups on machines of which this process only sees the sweep's folder."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from persist_jax.store.sweep_folder import stop_path
from persist_jax.sweep.executors.ending import Ending
from persist_jax.sweep.executors.view import View
from persist_jax.sweep.executors.work import Outcome, Work
from persist_jax.sweep.executors.worker import train
from persist_jax.sweep.grid import Group

_POLL = 0.5  # seconds between two looks at the tasks
# Seconds until a group is lost by a process whose machine died, as the others see it: of NFS, 90.
_PATIENCE = 120.0


class Task(Protocol):
    """A group that was given to somebody."""

    def done(self) -> bool:
        """Whether there is an ending."""

    def ending(self, stopping: bool) -> Ending:
        """What became of it."""

    def withdraw(self) -> None:
        """Take it back, if nobody has begun with it."""


def train_elsewhere(
    work: Work,
    groups: Sequence[Group],
    must_stop: Callable[[], bool],
    give: Callable[[int], Task],
    most: int,
) -> Outcome:
    """Give groups to others and wait for them; a file in the sweep's folder asks them to stop.

    Args:
        work: the sweep's.
        groups: what to train.
        must_stop: asked whether to stop.
        give: has a group trained, by its number; the other side calls `train_until_asked`.
        most: groups that are given at once.

    Raises:
        OSError: what every group would meet; the others end after their epoch.
    """
    view, stop = View(groups), stop_path(work.workdir)
    waiting, tasks = deque(range(len(groups))), {}

    def ask_to_stop() -> None:
        for task in tasks.values():
            task.withdraw()
        stop.touch()

    while tasks or (waiting and not stop.exists()):
        while waiting and len(tasks) < most and not stop.exists():
            number = waiting.popleft()
            tasks[number] = give(number)
        if not stop.exists() and must_stop():
            ask_to_stop()
        for number in [number for number, task in tasks.items() if task.done()]:
            view.looks_at(number, work)
            try:
                view.ends(number, tasks.pop(number).ending(stop.exists()))
            except OSError:
                with suppress(OSError):  # where there is no space for that either, they end too
                    ask_to_stop()
                raise
        view.breaks_silence(work, tasks)
        time.sleep(_POLL)
    stop.unlink(missing_ok=True)
    return Outcome(not waiting and not view.stopped, tuple(view.failures))


def forget_stop(work: Work) -> None:
    """A sweep that did not wait for its groups may have asked them to stop; not those of now."""
    stop_path(work.workdir).unlink(missing_ok=True)


def train_until_asked(
    work: Work, group: Group, must_stop: Callable[[], bool] = lambda: False
) -> Ending:
    """`train` on the other side: until the sweep asks to stop, or `must_stop` does."""
    stop = stop_path(work.workdir)
    if stop.exists():
        return Ending(False)
    must = {"must_stop": lambda: must_stop() or stop.exists()}
    return train(work, group, patience=_PATIENCE, **must)
