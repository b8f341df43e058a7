"""A group in a process that is not the sweep's own."""

import time
from collections.abc import Callable

from persist_jax.store.lease import GroupTaken
from persist_jax.sweep.compilation_cache import use_compilation_cache
from persist_jax.sweep.executors.ending import Ending, attempt
from persist_jax.sweep.executors.work import Work
from persist_jax.sweep.grid import Group
from persist_jax.sweep.group import Progress, train_group
from persist_jax.sweep.host_devices import use_cores


def train(
    work: Work,
    group: Group,
    *,
    report: Callable[[Progress], None] = lambda progress: None,
    must_stop: Callable[[], bool] = lambda: False,
    profile: bool = False,
    patience: float = 0.0,
) -> Ending:
    """`train_group` where nothing of the sweep is imported yet; again in the same process too.

    Args:
        work: the sweep's.
        group: the runs.
        report: called after every epoch.
        must_stop: asked after every epoch whether to stop.
        profile: whether to profile an epoch.
        patience: seconds to wait for a group that another process still trains.
    """
    deadline = time.monotonic() + patience
    how = {"report": report, "must_stop": must_stop, "tensorboard": work.tensorboard}

    def training() -> bool:
        if work.prepare:
            work.prepare()
        use_cores(work.config)
        if work.programs:
            use_compilation_cache(work.programs)
        while True:
            try:
                return train_group(work.config, group, work.workdir, profile=profile, **how)
            except GroupTaken:
                if time.monotonic() >= deadline or must_stop():
                    raise
            time.sleep(1.0)

    return attempt(training)
