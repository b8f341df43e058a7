"""Describe the plan of a sweep in lines of text: runs to train, steps, memory."""

from collections.abc import Iterator
from pathlib import Path

from persist_jax.data.registry import DATASETS
from persist_jax.store.configuration import Configuration, check_settled, grid
from persist_jax.store.record import has_result
from persist_jax.sweep.experiment import Experiment, load_experiment
from persist_jax.sweep.machine import memory_of_a_device
from persist_jax.sweep.reading import defaults, free_fields, options_of
from persist_jax.training.epoch import EpochPlan
from persist_jax.training.layout import Layout, make_layout
from persist_jax.training.memory import footprint


def describe(config: Configuration, workdir: Path) -> Iterator[str]:
    """Yield lines on the finished runs and those to train; only reads the folder."""
    runs = grid(config)
    done = {run for run in runs if has_result(run.folder(workdir))}
    yield f"{config.name}: {len(runs)} runs, {len(done)} finished, results in {workdir}"
    for network in config.networks:
        own = [run for run in runs if run.network == network]
        yield f"  {network}: {sum(run not in done for run in own)} of {len(own)} runs to train"


def dry_run(config: Configuration, workdir: Path, executor: str) -> Iterator[str]:
    """Yield the lines of the plan; raises the sweep's errors, downloads and converts nothing."""
    yield f"  seeds {', '.join(map(str, config.seeds))}"
    for name in config.regularisers:
        weights = ", ".join(f"{weight:g}" for weight in config.weights_for(name))
        lanes = config.lanes_of(name)
        plural = "s" if lanes > 1 else ""
        yield f"  {name}: weights {weights}; groups of at most {lanes} lane{plural}"
    yield f"  executor {executor}"
    here = executor == "local"
    how = {"parallel": config.parallel, "lane_strategy": config.lane_strategy}
    for network in config.networks if here else ():  # errors of the devices, before any data
        size = options_of(config, network).batch_size
        make_layout(**how, devices=config.devices, batch_size=size)
    data, parameters = DATASETS.choose(config.dataset, "dataset")
    experiment = load_experiment(config) if data.properties.at_hand(**parameters) else None
    settled = experiment.config if experiment else config
    check_settled(settled, workdir, free_fields(config), defaults(config))
    if experiment:
        yield from describe_training(experiment, here=here)
        yield from describe_memory(experiment, here=here)
    else:
        yield "  Sizes are known once the data is in the cache; the sweep converts it."


def describe_training(experiment: Experiment, *, here: bool = True) -> Iterator[str]:
    """Yield lines on the runs of an experiment; `here`: this process trains them."""
    dataset = experiment.dataset
    examples, there = dataset.train_examples, len(dataset.train.y)
    for network in experiment.models:
        options = experiment.options(network)
        steps = EpochPlan(examples, options.batch_size, options.snapshot_every).steps
        if network == experiment.config.networks[0]:
            if dataset.drawn(0) is not None:
                noise = f", {dataset.label_noise:.0%} of the labels wrong"
                yield f"  each seed draws its {examples} training examples of {there}{noise}"
            yield (
                f"  {examples} training examples, {steps} steps an epoch, at most "
                f"{options.epochs} epochs = {steps * options.epochs} steps a run"
            )
        where = f", {_in_words(experiment.layout(network))}" if here else ""
        yield f"  {network}: n = {experiment.points(network)} points{where}"


def describe_memory(experiment: Experiment, *, here: bool = True) -> Iterator[str]:
    """Yield a line per network: memory of a lane and, if `here`, how many lanes fit."""
    for network, model in experiment.models.items():
        layout, options = experiment.layout(network), experiment.options(network)
        of = footprint(model, experiment.dataset, options, layout)
        line = f"  {network}: about {_size(of.lane)} a lane and {_size(of.once)} shared"
        if here:
            devices = len(layout.devices) if layout.parallel == "lanes" else 1
            limit, whose = memory_of_a_device(layout.devices[0])
            cores = layout.devices[0].platform == "cpu"
            each = of.lanes(limit // len(layout.devices) if cores else limit)
            where = f" on {devices} devices" if devices > 1 else ""
            line += f"; {each * devices} lanes fit{where} ({_size(limit)} {whose})"
        yield line


def _size(count: int) -> str:
    """Format bytes to three digits.

    Example:
        >>> _size(36_400_000), _size(79_600_000_000)
        ('36.4 MB', '79.6 GB')
    """
    unit, name = (1e9, "GB") if count >= 1e9 else (1e6, "MB")
    return f"{count / unit:.3g} {name}"


def _in_words(layout: Layout) -> str:
    count = len(layout.devices)
    devices = f"{count} device{'s' if count > 1 else ''} ({layout.devices[0].platform})"
    together = "together" if layout.lane_strategy == "vmap" else "one after another"
    shared = ", sharing each batch" if layout.axis_name else ""
    return f"lanes {together} on {devices}{shared}"
