"""The grid of runs that a configuration describes, and the groups that train it."""

import math
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from persist_jax.store.checkpoints import earlier_checkpoint, numbered
from persist_jax.store.configuration import Configuration
from persist_jax.store.groups import (
    Group,
    discard_group,
    forget_failure,
    has_begun,
    read_groups,
    write_group,
)
from persist_jax.store.locks import Locked, locked
from persist_jax.store.record import has_result, read_result
from persist_jax.store.run import CONTINUED, Run


def grid(config: Configuration) -> list[Run]:
    """Every run of a configuration: each regulariser with each weight, `none` once."""
    return [
        Run(network, regulariser, weight, seed)
        for network in config.networks
        for regulariser in config.regularisers
        for weight in config.weights_for(regulariser)
        for seed in config.seeds
    ]


def most_lanes(config: Configuration) -> int:
    """The runs of the largest group that the grid of a configuration can form."""
    weights = max(len(config.weights_for(name)) for name in config.regularisers)
    return min(weights * len(config.seeds), config.max_lanes or math.inf)


def form_groups(config: Configuration, workdir: Path, *, continued: bool = False) -> None:
    """Make every run that has no result part of a group; only with the lock of the folder.

    A group that has begun stays as it is, whatever the grid is by now. Other runs form new groups:
    all of a network and a regulariser, `max_lanes` at most; continued runs of a network that go on
    from the same epoch.

    Args:
        config: the configuration, as it is settled in the folder.
        workdir: the sweep's folder.
        continued: whether to form groups of finished runs that go on without their regulariser.
    """
    left = _to_continue(config, workdir) if continued else _to_train(config, workdir)
    for group in read_groups(workdir):
        if (group.continued_at is not None) != continued:
            continue
        unfinished = group.unfinished(workdir)
        if not unfinished or (len(unfinished) == len(group.runs) and not has_begun(group, workdir)):
            with suppress(Locked), locked(group.lock(workdir)):
                discard_group(group, workdir)
                continue
        forget_failure(group, workdir)
        for run in group.runs:
            left.pop(run, None)
    together: dict[tuple, list[Run]] = defaultdict(list)
    for run, epoch in left.items():
        together[run.network, epoch if continued else run.regulariser, epoch].append(run)
    for (*_, epoch), runs in together.items():
        size = config.max_lanes or len(runs)
        for start in range(0, len(runs), size):
            write_group(Group(tuple(runs[start : start + size]), epoch), workdir)


def open_groups(config: Configuration, workdir: Path, *, continued: bool = False) -> list[Group]:
    """The groups with a run of the grid that has no result, in the order of the grid."""
    order = {run: i for i, run in enumerate(grid(config))}
    found = []
    for group in read_groups(workdir):
        wanted = [order[run] for run in group.unfinished(workdir) if run in order]
        if wanted and (group.continued_at is not None) == continued:
            found.append((min(wanted), group))
    return [group for _, group in sorted(found, key=lambda pair: pair[0])]


def _to_train(config: Configuration, workdir: Path) -> dict[Run, int | None]:
    return {run: None for run in grid(config) if not has_result(run.folder(workdir))}


def _to_continue(config: Configuration, workdir: Path) -> dict[Run, int | None]:
    """Finished runs by the epoch that they go on from: the last one kept before the best."""
    found: dict[Run, int | None] = {}
    for run in grid(config):
        folder = run.folder(workdir)
        if run.regulariser == "none" or has_result(folder / CONTINUED):
            continue
        record = read_result(folder)
        if record.status == "completed":
            kept = numbered(earlier_checkpoint(folder, 0).parent)
            earlier = [epoch for epoch in kept if epoch < record.best_epoch]
            if not earlier and record.best_epoch > config.train["checkpoint_every"]:
                raise ValueError(
                    f"continued: {folder} was trained with continued=False and kept no state to go "
                    "on from; choose another --workdir"
                )
            found[run] = max(earlier, default=0)
    return found
