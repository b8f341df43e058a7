"""A sweep in a folder: what there is to do, and doing it group after group."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from persist_jax.store.configuration import Configuration
from persist_jax.store.ended import close_groups
from persist_jax.store.record import has_result
from persist_jax.sweep.experiment import Experiment
from persist_jax.sweep.grid import Group, continued_groups, grid, groups
from persist_jax.sweep.group import compile_group, train_group
from persist_jax.sweep.progress import show_progress
from persist_jax.sweep.saved import read_saved
from persist_jax.training.epoch import EpochPlan
from persist_jax.training.layout import Layout

# Groups whose programs are compiled while one trains: compilation takes one core, and training
# little of a second one as long as there are programs to compile.
_AHEAD = 2


def run_sweep(
    config: Configuration,
    workdir: Path,
    must_stop: Callable[[], bool] = lambda: False,
    *,
    tensorboard: bool = False,
    profile: bool = False,
) -> bool:
    """Train what has no result yet.

    Args:
        config: the configuration, as it is settled in the folder.
        workdir: the sweep's folder.
        must_stop: asked after every epoch whether to stop.
        tensorboard: whether to write event files.
        profile: whether to profile an epoch of the first group.

    Returns:
        Whether everything is finished; `False` after a stop, with everything saved.
    """
    how = {"must_stop": must_stop, "tensorboard": tensorboard}
    close_groups(workdir)
    found = groups(config, workdir)
    if not _train(found, config, workdir, profile=profile, **how):
        return False
    profile = profile and not found
    return not config.continued or _train(
        continued_groups(config, workdir), config, workdir, profile=profile, **how
    )


def describe(config: Configuration, workdir: Path) -> Iterator[str]:
    """How much of a grid there is to do, in lines for a person; reads the folder only."""
    runs = grid(config)
    done = {run for run in runs if has_result(run.folder(workdir))}
    yield f"{config.name}: {len(runs)} runs, {len(done)} finished, results in {workdir}"
    for network in config.networks:
        own = [run for run in runs if run.network == network]
        yield f"  {network}: {sum(run not in done for run in own)} of {len(own)} runs to train"


def describe_training(experiment: Experiment) -> Iterator[str]:
    """What the runs of an experiment are, in lines for a person."""
    examples = len(experiment.dataset.train.y)
    for network in experiment.models:
        options = experiment.options(network)
        steps = EpochPlan(examples, options.batch_size, options.snapshot_every).steps
        if network == experiment.config.networks[0]:
            yield (
                f"  {examples} training examples, {steps} steps an epoch, at most "
                f"{options.epochs} epochs = {steps * options.epochs} steps a run"
            )
        layout = experiment.layout(network)
        yield f"  {network}: n = {experiment.points(network)} points, {_in_words(layout)}"


def _train(
    found: list[Group], config: Configuration, workdir: Path, *, profile: bool, **how: Any
) -> bool:
    for group in found:
        # What cannot be gone on with is said now, not when its turn comes.
        read_saved(group, workdir)
    following = iter(found[1:])
    compilation = ThreadPoolExecutor(_AHEAD, "compile")
    try:
        for number, group in enumerate(found, 1):
            for later in itertools.islice(following, _AHEAD if number == 1 else 1):
                compilation.submit(compile_group, config, later, workdir)
            with show_progress(f"[{number}/{len(found)}] {group.label}") as report:
                how |= {"report": report, "profile": profile and number == 1}
                if not train_group(config, group, workdir, **how):
                    return False
    finally:
        # Whoever has stopped need not wait for what the next groups would have taken.
        compilation.shutdown(wait=False, cancel_futures=True)
    return True


def _in_words(layout: Layout) -> str:
    count = len(layout.devices)
    devices = f"{count} device{'s' if count > 1 else ''} ({layout.devices[0].platform})"
    together = "together" if layout.lane_strategy == "vmap" else "one after another"
    shared = ", sharing each batch" if layout.axis_name else ""
    return f"lanes {together} on {devices}{shared}"
