"""The processes of a run beside the first: they train what it tells, and keep nothing."""

from collections.abc import Callable, Mapping
from typing import Any

from persist_jax.store.configuration import Configuration
from persist_jax.sweep.distributed import most, told
from persist_jax.sweep.experiment import load_experiment
from persist_jax.sweep.start import group_of, hear_start


def follow_sweep(must_stop: Callable[[], bool]) -> None:
    """Train every group that the first process tells of, until it says that there is no other.

    Args:
        must_stop: asked after every epoch whether all processes are to stop.

    Raises:
        ValueError: one line: the data or a network is not that of the first process.
    """
    plain = told(None)
    while plain is not None and (message := told(None)) is not None:
        _follow(Configuration.read(plain), message, must_stop)


def lead(config: Configuration | None) -> None:
    """Tell the others what the sweep is; or, after its last group, that it is over."""
    told(None if config is None else config.plain())


def _follow(
    config: Configuration, message: Mapping[str, Any], must_stop: Callable[[], bool]
) -> None:
    """As `persist_jax.sweep.group.train_group`, step by step, without a folder."""
    group = group_of(message)
    programs = load_experiment(config).programs(group.network, group.regulariser)
    start = hear_start(message, group, programs)
    cohort = start.cohort(programs, group)
    start.initial_accuracies(cohort)
    while cohort.training:
        ended = cohort.ended(cohort.train_epoch())
        cohort.accuracies(start.unrecorded(ended))
        cohort.end(ended)
        if most(must_stop()) and cohort.training:
            return
