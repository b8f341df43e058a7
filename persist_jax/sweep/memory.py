"""A group that does not fit into memory: its runs train in two halves, one after the other."""

import os
from dataclasses import replace
from pathlib import Path

import jax

from persist_jax.store.group_file import write_group
from persist_jax.store.record import has_result
from persist_jax.sweep.experiment import Experiment
from persist_jax.sweep.grid import Group
from persist_jax.sweep.saved import read_saved

# What an allocation that fails raises: NumPy's, JAX's.
FAILED = (MemoryError, jax.errors.JaxRuntimeError)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there was no memory left, of a device or of the machine."""
    words = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def halve(group: Group, workdir: str | os.PathLike[str]) -> list[Group]:
    """Two groups of half of the runs that have no result, which go on from where they are.

    Returns:
        The groups; none where there is only one such run.
    """
    workdir = Path(workdir)
    left = [i for i, run in enumerate(group.runs) if not has_result(group.folder(run, workdir))]
    if len(left) < 2:
        return []
    middle = (len(left) + 1) // 2
    parts = [tuple(group.runs[i] for i in part) for part in (left[:middle], left[middle:])]
    first = replace(group, runs=parts[0])
    second = replace(group, runs=parts[1], file=group.file_for(parts[1][0]))
    if saved := read_saved(group, workdir):
        # The first takes the place of the whole: only once the second is on disk.
        for half, members in ((second, left[middle:]), (first, left[:middle])):
            state = saved.state
            initial = [state.initial[i] for i in members]
            slots = list(range(len(members)))
            write_group(
                half.path(workdir), state.epoch, half.runs, slots, initial, state.origins
            )
    return [first, second]


def too_large(experiment: Experiment, group: Group) -> str:
    """What a single run of a group needs memory for, and what takes less, in one line."""
    network, options = group.network, experiment.options(group.network)
    return (
        f"out of memory: {group.label}, one lane of n = {experiment.points(network)} points, "
        f"train.batch_size {options.batch_size}, {experiment.layout(network).parallel}: lower "
        "train.batch_size, train.sampling (correlations take n x n numbers) or devices"
    )
