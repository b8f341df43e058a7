"""Compile the programs of the next groups in threads while a group trains."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from persist_jax.store.groups import Group, read_plan
from persist_jax.sweep.experiment import Experiment
from persist_jax.sweep.machine import compilers


class Ahead:
    """Threads that compile the programs of the current group and of the groups after it.

    Errors are ignored: the training compiles the program again and reports the error.
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
        """Compile for these groups in their order, and cancel compilations for all others."""
        wanted = groups[: self._threads + 1]
        for group in set(self._tasks) - set(wanted):
            for task in self._tasks.pop(group):
                task.cancel()
        new = [group for group in wanted if group not in self._tasks]
        for task in (compile_group, compile_rest):  # first the programs that each group starts with
            for group in new:
                future = self._pool.submit(task, self._experiment, group, self._workdir)
                self._tasks.setdefault(group, []).append(future)


def compile_group(experiment: Experiment, group: Group, workdir: Path) -> None:
    """Compile the programs of a group's next epoch, for `train_group` in the same process."""
    programs = experiment.programs(group.network, group.regulariser)
    epoch, slots = read_plan(group, workdir)
    lanes = programs.layout.lanes_for(slots)
    programs.compile(lanes, epoch)
    programs.evaluation.compile_draw()
    programs.evaluation.compile(lanes)


def compile_rest(experiment: Experiment, group: Group, workdir: Path) -> None:
    """Compile the programs for fewer lanes, which a group needs when some of its runs have stopped.

    Only for lanes that advance together: they use few sizes. Lanes that train one after another
    could have many sizes, and most of them would be compiled in vain.
    """
    programs = experiment.programs(group.network, group.regulariser)
    epoch, slots = read_plan(group, workdir)
    if programs.layout.lane_strategy == "vmap":
        for fewer in programs.layout.later(programs.layout.lanes_for(slots)):
            programs.compile(fewer, epoch)
            programs.evaluation.compile(fewer)
