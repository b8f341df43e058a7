"""The grid of runs that a configuration describes, and the groups that are still to train."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from persist_jax.store.checkpoints import Checkpoints
from persist_jax.store.configuration import Configuration
from persist_jax.store.group_file import group_path, group_paths, prefix_of, read_newest
from persist_jax.store.record import has_result, read_result
from persist_jax.store.run import CONTINUED, Run, runs_folder


@dataclass(frozen=True)
class Group:
    """Runs that train as lanes of one program: the unit of work of a sweep.

    Attributes:
        runs: the runs of the group, including those that have ended since it was formed.
        file: where the group keeps its state, below `runs/`, from its first checkpoint to its
            end.
        continued_at: the epoch from which finished runs go on without their regulariser; `None`
            for runs of the grid.
    """

    runs: tuple[Run, ...]
    file: str
    continued_at: int | None = None

    @property
    def network(self) -> str:
        """The network of every run."""
        return self.runs[0].network

    @property
    def regulariser(self) -> str:
        """The regulariser that is trained with."""
        return self.runs[0].regulariser if self.continued_at is None else "none"

    @property
    def label(self) -> str:
        """The group in words."""
        if self.continued_at is not None:
            return f"{self.network} {CONTINUED} from epoch {self.continued_at}"
        return f"{self.network} {self.regulariser}"

    def file_for(self, first: Run) -> str:
        """Where a group of some of its runs, of which this is the first, keeps its state."""
        prefix = prefix_of(self.continued_at)
        return group_path(Path(self.file).parent, prefix, first).as_posix()

    def path(self, workdir: Path) -> Path:
        """Where the group keeps its state in a sweep's folder."""
        return runs_folder(workdir) / self.file

    def folder(self, run: Run, workdir: Path) -> Path:
        """Where one of its runs leaves what it records."""
        folder = run.folder(workdir)
        return folder if self.continued_at is None else folder / CONTINUED


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


def groups(config: Configuration, workdir: Path) -> list[Group]:
    """The groups of the grid that have runs without a result.

    A group that was interrupted goes on as it was, whatever the grid is by now, if the grid still
    wants one of its unfinished runs; all other runs form new groups.
    """
    together: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in grid(config):
        if not has_result(run.folder(workdir)):
            together[run.network, run.regulariser].append(run)
    return [
        group
        for (network, regulariser), runs in together.items()
        for group in _form(runs, workdir, f"{network}/{regulariser}", config.max_lanes)
    ]


def continued_groups(config: Configuration, workdir: Path) -> list[Group]:
    """Finished runs to continue without their regulariser, from before their best weights.

    Those of a network that go on from the same epoch form a group, whatever their regulariser.
    """
    together: dict[tuple[str, int], list[Run]] = defaultdict(list)
    for run in grid(config):
        folder = run.folder(workdir)
        if run.regulariser == "none" or has_result(folder / CONTINUED):
            continue
        record = read_result(folder)
        if record.status == "completed":
            earlier = [e for e in Checkpoints(folder).epochs() if e < record.best_epoch]
            together[run.network, max(earlier, default=0)].append(run)
    return [
        group
        for (network, epoch), runs in together.items()
        for group in _form(runs, workdir, network, config.max_lanes, continued_at=epoch)
    ]


def _form(
    open_runs: Sequence[Run],
    workdir: Path,
    place: str,
    max_lanes: int,
    continued_at: int | None = None,
) -> list[Group]:
    """Groups for runs without a result; files of interrupted groups lie in their place."""
    root, left, formed = runs_folder(workdir), list(open_runs), []
    prefix = prefix_of(continued_at)

    def add(runs: tuple[Run, ...], path: Path) -> None:
        formed.append(Group(runs, path.relative_to(root).as_posix(), continued_at))

    for path in group_paths(root / place, prefix):
        members = tuple(member.run for member in read_newest(path)[0].runs)
        if set(members) & set(left):
            add(members, path)
            left = [run for run in left if run not in members]
    size = max_lanes or len(left) or 1
    for start in range(0, len(left), size):
        members = tuple(left[start : start + size])
        add(members, group_path(root / place, prefix, members[0]))
    return formed
