"""Groups one after another in this process, the next ones compiled meanwhile."""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from persist_jax.sweep.executors.ending import attempt
from persist_jax.sweep.executors.view import View
from persist_jax.sweep.executors.work import Outcome, Work
from persist_jax.sweep.grid import Group
from persist_jax.sweep.group import compile_group, compile_rest, train_group
from persist_jax.sweep.host_devices import compilers
from persist_jax.sweep.progress import show_progress


def local(work: Work, groups: Sequence[Group], must_stop: Callable[[], bool]) -> Outcome:
    """Train every group here."""
    view = View(groups)
    ahead = _Ahead(work, groups)
    try:
        for number, group in enumerate(groups):

            def training(group: Group = group, number: int = number) -> bool:
                with show_progress(f"[{number + 1}/{len(groups)}] {group.label}") as report:
                    how = {"report": report, "must_stop": must_stop}
                    how |= {"tensorboard": work.tensorboard, "profile": work.profile and not number}
                    return train_group(work.config, group, work.workdir, **how)

            ending = attempt(training)
            ahead.ends(group)
            if ending.failure or ending.error:
                view.ends(number, ending)
            elif not ending.finished:
                return Outcome(False, tuple(view.failures))
    finally:
        ahead.stop()
    return Outcome(True, tuple(view.failures))


class _Ahead:
    """Programs of groups, compiled in threads: of the group that trains and of those after it."""

    def __init__(self, work: Work, groups: Sequence[Group]):
        self._work = work
        self._following = iter(groups)
        self._tasks: dict[Group, list[Future]] = {}
        threads = compilers()
        self._pool = ThreadPoolExecutor(threads, "compile")
        self._compile(threads + 1)

    def ends(self, group: Group) -> None:
        """A group takes no more programs: the next one has its place."""
        for task in self._tasks.pop(group):
            task.cancel()
        self._compile(1)

    def stop(self) -> None:
        """Whoever has stopped need not wait for what the next groups would have taken."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _compile(self, count: int) -> None:
        groups = list(itertools.islice(self._following, count))
        for task in (compile_group, compile_rest):  # first what every group begins with
            for group in groups:
                future = self._pool.submit(task, self._work.config, group, self._work.workdir)
                self._tasks.setdefault(group, []).append(future)
