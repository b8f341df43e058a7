"""Form the groups that train a configuration's grid of runs."""

from collections import defaultdict
from pathlib import Path

from persist_jax.store import groups
from persist_jax.store.checkpoints import earlier_checkpoint, numbered
from persist_jax.store.configuration import Configuration, grid
from persist_jax.store.groups import Group
from persist_jax.store.locks import Locked, locked
from persist_jax.store.record import RESULT_FILE, has_result, read_result
from persist_jax.store.run import CONTINUED, Run


def form_groups(
    config: Configuration, workdir: Path, *, continued: bool = False, retry: bool = True
) -> None:
    """Put every run without a result into a group; the caller must hold the lock of the folder.

    A group that has begun or is claimed by a process stays as it is, even if the grid has changed.
    All other runs of a network and a regulariser form groups of at most `max_lanes`. If
    `continued`, the groups have the finished runs of a network that continue from the same epoch
    without their regulariser. With `retry`, groups that failed are tried again.
    """
    groups.discard_remains(workdir)
    left = _to_continue(config, workdir) if continued else _to_train(config, workdir)
    kind = [g for g in groups.read_groups(workdir) if (g.continued_at is not None) == continued]
    of_groups = {run.folder(workdir): run for group in kind for run in group.runs}
    for run in left:
        _check_weight(run, of_groups.get(run.folder(workdir), run))
    idle = [group for group in kind if not _is_under_way(group, workdir)]
    for group in kind:
        if retry:
            groups.forget_failure(group, workdir)
    kept = {run for group in kind if group not in idle for run in group.runs}
    wanted = _grouped(left, kept, config.max_lanes)
    for group in idle:
        if group in wanted or not _discard(group, workdir):
            kept |= {*group.runs}
    for group in _grouped(left, kept, config.max_lanes):
        groups.write_group(group, workdir)


def _is_under_way(group: Group, workdir: Path) -> bool:
    """Return whether a group has begun and must stay as it is: its programs depend on its runs."""
    unfinished = len(group.unfinished(workdir))
    return bool(unfinished) and (unfinished < len(group.runs) or groups.has_begun(group, workdir))


def _discard(group: Group, workdir: Path) -> bool:
    """Delete a group unless another process has claimed it; return whether it was deleted."""
    try:
        with locked(group.lock(workdir)):
            if groups.reread_group(group, workdir) != group or _is_under_way(group, workdir):
                return False
            groups.discard_group(group, workdir)
            return True
    except Locked:
        return False


def _grouped(left: dict[Run, int | None], kept: set[Run], max_lanes: int) -> list[Group]:
    """Group runs by network, regulariser and first epoch (`None`: new), except those in `kept`."""
    together: dict[tuple, list[Run]] = defaultdict(list)
    for run, epoch in left.items():
        if run not in kept:
            together[run.network, run.regulariser if epoch is None else epoch, epoch].append(run)
    return [
        Group(tuple(runs[start : start + (max_lanes or len(runs))]), epoch)
        for (*_, epoch), runs in together.items()
        for start in range(0, len(runs), max_lanes or len(runs))
    ]


def open_groups(config: Configuration, workdir: Path, *, continued: bool = False) -> list[Group]:
    """List the groups that have a run of the grid without a result, in the grid's order."""
    order = {run: i for i, run in enumerate(grid(config))}
    found = []
    for group in groups.read_groups(workdir):
        wanted = [order[run] for run in group.unfinished(workdir) if run in order]
        if wanted and (group.continued_at is not None) == continued:
            found.append((min(wanted), group))
    return [group for _, group in sorted(found, key=lambda pair: pair[0])]


def missing_runs(config: Configuration, workdir: Path) -> list[str]:
    """List the labels of the runs without a result, including continued runs."""
    missing = [run.label for run in _to_train(config, workdir)]
    if config.continued and not missing:
        missing = [f"{run.label} {CONTINUED}" for run in _to_continue(config, workdir)]
    return missing


def _to_train(config: Configuration, workdir: Path) -> dict[Run, int | None]:
    left: dict[Run, int | None] = {}
    for run in grid(config):
        folder = run.folder(workdir)
        if (folder / RESULT_FILE).exists():
            _check_weight(run, read_result(folder).run)
        else:
            left[run] = None
    return left


def _check_weight(run: Run, other: Run) -> None:
    """Raise `ValueError` if the run that has a run's folder is one of another weight."""
    if run.weight != other.weight:
        raise ValueError(
            f"weights: {run.weight!r} has the folder of {other.weight!r}, which was trained there; "
            "weights must differ in their first six digits"
        )


def _to_continue(config: Configuration, workdir: Path) -> dict[Run, int | None]:
    """Map finished runs to the epoch to continue from: the last saved one before the best."""
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
                    f"continued: {folder} was trained with continued=False and kept no state to "
                    "continue from; choose another --workdir"
                )
            found[run] = max(earlier, default=0)
    return found
