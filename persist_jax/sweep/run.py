"""A sweep in a folder: what there is to do, and having it done group after group."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from persist_jax.store.configuration import Configuration
from persist_jax.store.ended import close_groups
from persist_jax.store.record import has_result
from persist_jax.sweep.executors.local import local
from persist_jax.sweep.executors.work import Executor, Work
from persist_jax.sweep.experiment import Experiment
from persist_jax.sweep.grid import Group, continued_groups, grid, groups
from persist_jax.sweep.host_devices import memory_of_a_device
from persist_jax.sweep.saved import read_saved
from persist_jax.training.epoch import EpochPlan
from persist_jax.training.layout import Layout
from persist_jax.training.memory import footprint


def run_sweep(
    config: Configuration,
    workdir: Path,
    must_stop: Callable[[], bool] = lambda: False,
    *,
    executor: Executor = local,
    tensorboard: bool = False,
    profile: bool = False,
    prepare: Callable[[], object] | None = None,
    programs: Path | None = None,
) -> bool:
    """Train what has no result yet.

    Args:
        config: the configuration, as it is settled in the folder.
        workdir: the sweep's folder.
        must_stop: asked after every epoch whether to stop.
        executor: who trains the groups; see `persist_jax.sweep.executors`.
        tensorboard: whether to write event files.
        profile: whether to profile an epoch of the first group.
        prepare: what a worker of an executor calls first, as importing the entries that the
            configuration names and are not the package's own.
        programs: the cache folder below which workers keep compiled programs; `None`: nowhere.

    Returns:
        Whether everything is finished; `False` after a stop, with everything saved.

    Raises:
        ChildProcessError: one line that names the groups without results, where some failed and
            the others have ended.
        OSError: what every group would meet, as a full disk; nothing else is begun.
    """
    work = Work(config, workdir, tensorboard, profile, prepare, programs)
    close_groups(workdir)
    found = groups(config, workdir)
    if not _train(executor, work, found, must_stop):
        return False
    if found:
        work = replace(work, profile=False)
    return not config.continued or _train(
        executor, work, continued_groups(config, workdir), must_stop
    )


def describe(config: Configuration, workdir: Path) -> Iterator[str]:
    """How much of a grid there is to do, in lines for a person; reads the folder only."""
    runs = grid(config)
    done = {run for run in runs if has_result(run.folder(workdir))}
    yield f"{config.name}: {len(runs)} runs, {len(done)} finished, results in {workdir}"
    for network in config.networks:
        own = [run for run in runs if run.network == network]
        yield f"  {network}: {sum(run not in done for run in own)} of {len(own)} runs to train"


def describe_training(experiment: Experiment, *, here: bool = True) -> Iterator[str]:
    """What the runs of an experiment are, in lines for a person.

    Args:
        experiment: the experiment.
        here: whether this process trains them, whose devices are of interest then.
    """
    examples = len(experiment.dataset.train.y)
    for network in experiment.models:
        options = experiment.options(network)
        steps = EpochPlan(examples, options.batch_size, options.snapshot_every).steps
        if network == experiment.config.networks[0]:
            yield (
                f"  {examples} training examples, {steps} steps an epoch, at most "
                f"{options.epochs} epochs = {steps * options.epochs} steps a run"
            )
        where = f", {_in_words(experiment.layout(network))}" if here else ""
        yield f"  {network}: n = {experiment.points(network)} points{where}"


def describe_memory(experiment: Experiment, *, here: bool = True) -> Iterator[str]:
    """How much memory a lane takes and how many lanes fit, a line per network.

    Args:
        experiment: the experiment.
        here: whether this process trains, on whose devices the lanes have to fit.
    """
    for network, model in experiment.models.items():
        layout, options = experiment.layout(network), experiment.options(network)
        of = footprint(model, experiment.dataset, options, layout)
        line = f"  {network}: about {_size(of.lane)} a lane and {_size(of.once)} besides"
        if here:
            devices = len(layout.devices) if layout.parallel == "lanes" else 1
            limit, whose = memory_of_a_device(layout.devices[0])
            cores = layout.devices[0].platform == "cpu"
            each = of.lanes(limit // len(layout.devices) if cores else limit)
            where = f" on {devices} devices" if devices > 1 else ""
            line += f"; {each * devices} lanes fit{where} ({_size(limit)} {whose})"
        yield line


def _size(count: int) -> str:
    """Bytes to three figures.

    Example:
        >>> _size(36_400_000), _size(79_600_000_000)
        ('36.4 MB', '79.6 GB')
    """
    unit, name = (1e9, "GB") if count >= 1e9 else (1e6, "MB")
    return f"{count / unit:.3g} {name}"


def _train(
    executor: Executor, work: Work, found: list[Group], must_stop: Callable[[], bool]
) -> bool:
    for group in found:
        # What cannot be gone on with is said now, not when its turn comes.
        read_saved(group, work.workdir)
    if not found:
        return True
    outcome = executor(work, found, must_stop)
    if outcome.finished and outcome.failures:
        names = ", ".join(dict.fromkeys(failure.label for failure in outcome.failures))
        raise ChildProcessError(
            f"{len(outcome.failures)} of {len(found)} groups did not end: {names}; the same "
            "command goes on with them"
        )
    return outcome.finished


def _in_words(layout: Layout) -> str:
    count = len(layout.devices)
    devices = f"{count} device{'s' if count > 1 else ''} ({layout.devices[0].platform})"
    together = "together" if layout.lane_strategy == "vmap" else "one after another"
    shared = ", sharing each batch" if layout.axis_name else ""
    return f"lanes {together} on {devices}{shared}"
