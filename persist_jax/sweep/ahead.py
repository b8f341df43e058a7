"""Programs of the next groups, compiled in threads while a group trains."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from persist_jax.store.groups import Group, read_plan
from persist_jax.sweep.experiment import Experiment
from persist_jax.sweep.machine import compilers


class Ahead:
    """Threads that compile: for the group that trains next and for those after it.

    A program that cannot be compiled here is left for the training, which says why.
    """

    def __init__(self, experiment: Experiment, workdir: Path):
        self._experiment, self._workdir = experiment, workdir
        self._tasks: dict[Group, list[Future]] = {}
        self._threads = compilers()
        self._pool = ThreadPoolExecutor(self._threads, "compile")

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *error: object) -> None:
        # Do not wait for programs that are no longer needed.
        self._pool.shutdown(wait=False, cancel_futures=True)

    def compile(self, groups: Sequence[Group]) -> None:
        """Compile for these groups in their order, and for no other one."""
        wanted = groups[: self._threads + 1]
        for group in set(self._tasks) - set(wanted):
            for task in self._tasks.pop(group):
                task.cancel()
        new = [group for group in wanted if group not in self._tasks]
        for task in (compile_group, compile_rest):  # first what every group begins with
            for group in new:
                future = self._pool.submit(task, self._experiment, group, self._workdir)
                self._tasks.setdefault(group, []).append(future)


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
