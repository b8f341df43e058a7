"""Groups of runs on disk: `groups/<name>/` exists until all runs of the group have finished.

    groups/<name>/group.json   its runs
    groups/<name>/lock         held by the process that trains it
    groups/<name>/<epoch>/     a checkpoint: states, histories and everything else to resume from
    groups/<name>/failed       why it failed; the next command retries it
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import jax.numpy as jnp
import numpy as np
from pydantic import Field

from persist_jax._plumbing.validation import Fields
from persist_jax.parameters import Count
from persist_jax.store import checkpoints
from persist_jax.store.files import discard_unfinished, read_json, replace_file, replace_json
from persist_jax.store.locks import lock_files
from persist_jax.store.record import Accuracy, Origin, has_result
from persist_jax.store.run import CONTINUED, Run

GROUPS_FOLDER = "groups"
_GROUP_FILE, _LOCK, _FAILED = "group.json", "lock", "failed"
_KEPT = 2  # checkpoints

Arrays = dict[str, np.ndarray]
Leaves = Sequence[np.ndarray]


@dataclass(frozen=True)
class Group:
    """Runs that train as lanes of one program: the unit of work of a sweep.

    Attributes:
        runs: the runs of the group, also those that have finished already.
        continued_at: the epoch from which finished runs are continued without their regulariser;
            `None` for runs of the grid.
    """

    runs: tuple[Run, ...]
    continued_at: int | None = None

    @property
    def network(self) -> str:
        """The network of every run."""
        return self.runs[0].network

    @property
    def regulariser(self) -> str:
        """The regulariser of the training: "none" for continued runs."""
        return self.runs[0].regulariser if self.continued_at is None else "none"

    @property
    def label(self) -> str:
        """The group's name in messages."""
        if self.continued_at is not None:
            return f"{self.network} {CONTINUED} from epoch {self.continued_at}"
        return f"{self.network} {self.regulariser}"

    def path(self, workdir: Path) -> Path:
        """Return the group's folder, named after its first run, which no other group has."""
        first = self.runs[0]
        # Joined by dots: names of networks and regularisers have none.
        name = f"{first.network}.{first.regulariser}.{first.weight:g}.seed{first.seed}"
        if self.continued_at is not None:
            name = f"{CONTINUED}{self.continued_at}.{name}"
        return workdir / GROUPS_FOLDER / name

    def lock(self, workdir: Path) -> Path:
        """Return the file that a process locks to train the group."""
        return self.path(workdir) / _LOCK

    def folder(self, run: Run, workdir: Path) -> Path:
        """Return the folder for the results of one of its runs."""
        folder = run.folder(workdir)
        return folder if self.continued_at is None else folder / CONTINUED

    def unfinished(self, workdir: Path) -> list[Run]:
        """List the runs without a result."""
        return [run for run in self.runs if not has_result(self.folder(run, workdir))]


class _Run(Fields):
    network: str
    regulariser: str
    weight: float
    seed: int


class _Group(Fields):
    runs: Annotated[tuple[_Run, ...], Field(min_length=1)]
    continued_at: Count | None


def write_group(group: Group, workdir: Path) -> None:
    """Write a group's file, after which any process may train the group."""
    fields = {"runs": [asdict(run) for run in group.runs], "continued_at": group.continued_at}
    replace_json(group.path(workdir) / _GROUP_FILE, _Group.read(fields).plain())


def read_groups(workdir: Path) -> list[Group]:
    """Read every group of a sweep; an error names the damaged file and the remedy."""
    files = sorted((workdir / GROUPS_FOLDER).glob(f"*/{_GROUP_FILE}"))
    return [group for group in map(_read_group, files) if group]


def reread_group(group: Group, workdir: Path) -> Group | None:
    """Read a group again: another process may have split it, or finished it (`None`)."""
    return _read_group(group.path(workdir) / _GROUP_FILE)


def _read_group(path: Path) -> Group | None:
    try:
        fields = _Group.read(read_json(path))
        return Group(_runs(fields.runs), fields.continued_at)
    except ValueError as error:
        if not path.exists():  # another process has deleted it since it was found
            return None
        words = str(error).removeprefix(f"{path}: ")
        todo = f"delete {path.parent} to restart its runs"
        raise ValueError(f"{path}: {words}; {todo}") from None


def _runs(fields: Sequence[_Run]) -> tuple[Run, ...]:
    return tuple(Run(**dict(run)) for run in fields)


def has_begun(group: Group, workdir: Path) -> bool:
    """Return whether a group has a checkpoint."""
    return bool(checkpoints.numbered(group.path(workdir)))


def discard_group(group: Group, workdir: Path) -> None:
    """Delete a group's folder, except foreign files; the caller must hold the group's lock."""
    folder = group.path(workdir)
    checkpoints.discard_numbered(folder)
    for name in (_FAILED, _GROUP_FILE):  # group.json last: a kill before leaves the group readable
        discard_unfinished(folder, re.escape(name))
        (folder / name).unlink(missing_ok=True)
    _discard_lock(folder)


def discard_remains(workdir: Path) -> None:
    """Delete the locks of groups without a file, which killed processes left behind.

    The caller must hold the lock of the folder, without which no group's file is written.
    """
    for folder in (workdir / GROUPS_FOLDER).glob("*/"):
        if not (folder / _GROUP_FILE).exists():
            _discard_lock(folder)


def _discard_lock(folder: Path) -> None:
    for path in lock_files(folder / _LOCK):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def note_failure(group: Group, workdir: Path, line: str) -> None:
    """Record that a group failed, so that no process of this sweep tries it again."""
    replace_file(group.path(workdir) / _FAILED, line.encode())


def has_failed(group: Group, workdir: Path) -> bool:
    """Return whether a group has failed since the last `forget_failure`."""
    return (group.path(workdir) / _FAILED).exists()


def forget_failure(group: Group, workdir: Path) -> None:
    """Let processes try a failed group again."""
    (group.path(workdir) / _FAILED).unlink(missing_ok=True)


class _State(Fields):
    """The plain part of a checkpoint; other fields refer to runs by their index in `runs`."""

    epoch: Count
    runs: tuple[_Run, ...]
    slots: tuple[Count | None, ...]
    training: tuple[Count, ...]
    earlier: dict[str, Count]
    last: dict[str, Count]
    initial: tuple[Accuracy, ...]
    origins: tuple[Origin, ...]
    arrays: dict[str, tuple[tuple[Count, ...], str]]

    def places(self, group: Group) -> dict[int, int]:
        """Map indices of `runs` to indices in the group, which may have been split since."""
        own = {run: place for place, run in enumerate(group.runs)}
        return {i: own[run] for i, run in enumerate(_runs(self.runs)) if run in own}

    def slots_of(self, group: Group) -> list[int | None]:
        """Return the run of each lane; one lane per run if the group has been split since."""
        places = self.places(group)
        if all(slot is None or slot in places for slot in self.slots):
            return [None if slot is None else places[slot] for slot in self.slots]
        return [places[i] for i in self.training if i in places]


@dataclass(frozen=True)
class GroupState:
    """Everything needed to resume a group; a run is given by its index in `Group.runs`.

    Attributes:
        epoch: epochs trained.
        slots: by lane, the run that it trains or has trained; `None` for a padding lane.
        states: by run, the arrays of every run in training.
        histories: by run, the rows of the runs in training so far.
        earlier: by run, an epoch before the best one so far, and the arrays of that epoch.
        last: by run, epoch and arrays of the last regular checkpoint, if this one is not regular.
        initial: by run, accuracy before training.
        origins: the machines and versions that trained the group, in order.
    """

    epoch: int
    slots: Sequence[int | None]
    states: Mapping[int, Leaves]
    histories: Mapping[int, Arrays]
    earlier: Mapping[int, tuple[int, Leaves]]
    last: Mapping[int, tuple[int, Leaves]]
    initial: Mapping[int, Accuracy]
    origins: Sequence[Origin]


def save_group(group: Group, workdir: Path, state: GroupState) -> None:
    """Write a checkpoint of a group atomically, and keep the previous one."""
    folder = group.path(workdir)
    arrays = _stacked("states", state.states)
    for kind, kept in (("earlier", state.earlier), ("last", state.last)):
        arrays |= _stacked(kind, {run: leaves for run, (_, leaves) in kept.items()})
    # All runs in training have the same number of epochs, and so of rows.
    for name in next(iter(state.histories.values())):
        rows = [state.histories[run][name] for run in state.states]
        arrays[f"history {name}"] = np.stack(rows)
    fields = {
        "epoch": state.epoch,
        "runs": [asdict(run) for run in group.runs],
        "slots": list(state.slots),
        "training": list(state.states),
        "earlier": {str(run): epoch for run, (epoch, _) in state.earlier.items()},
        "last": {str(run): epoch for run, (epoch, _) in state.last.items()},
        "initial": [state.initial[run].plain() for run in range(len(group.runs))],
        "origins": [origin.plain() for origin in state.origins],
        "arrays": {name: (array.shape, array.dtype.name) for name, array in arrays.items()},
    }
    checkpoints.save(folder / str(state.epoch), arrays, _State.read(fields).plain())
    # A later checkpoint exists if it was damaged and training resumed before it: delete it.
    kept = [epoch for epoch in checkpoints.numbered(folder) if epoch <= state.epoch][-_KEPT:]
    for epoch in checkpoints.numbered(folder):
        if epoch not in kept:
            checkpoints.discard(folder / str(epoch))


def read_state(group: Group, workdir: Path) -> tuple[GroupState | None, str]:
    """Read the newest intact checkpoint of a group.

    Returns:
        The state, `None` without a checkpoint, and a line on a damaged newer checkpoint, or "".

    Raises:
        ValueError: there are checkpoints, and all are damaged.
    """
    folder, problem = group.path(workdir), ""
    for epoch in reversed(checkpoints.numbered(folder)):
        try:
            state = _read_state(group, workdir, folder / str(epoch))
        except ValueError as error:
            problem = problem or str(error)
            continue
        return state, f"{problem}; resuming from epoch {epoch}" if problem else ""
    if problem:
        raise ValueError(f"{problem}; delete {folder} to restart its runs")
    return None, ""


def read_plan(group: Group, workdir: Path) -> tuple[int, int]:
    """Return a group's trained epochs and next number of lanes, from its newest readable state."""
    for epoch in reversed(checkpoints.numbered(group.path(workdir))):
        with suppress(ValueError):
            fields = checkpoints.read_fields(group.path(workdir) / str(epoch))
            return epoch, len(_State.read(fields).slots_of(group))
    return group.continued_at or 0, len(group.runs)


def _read_state(group: Group, workdir: Path, folder: Path) -> GroupState:
    fields = checkpoints.read_fields(folder)
    try:
        plain = _State.read(fields)
        like = {
            name: np.empty(shape, jnp.dtype(dtype)) for name, (shape, dtype) in plain.arrays.items()
        }
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder}: {' '.join(str(error).split())}") from None
    arrays, places = checkpoints.load(folder, like), plain.places(group)
    own = {places[i]: at for at, i in enumerate(plain.training) if i in places}
    for run in group.unfinished(workdir):
        if group.runs.index(run) not in own:
            raise ValueError(f"{folder}: {run.label} has no result and no state")
    prefix = "history "
    history = {n.removeprefix(prefix): rows for n, rows in arrays.items() if n.startswith(prefix)}
    trained, rows = plain.epoch - (group.continued_at or 0), len(history["seconds"][0])
    if rows != trained:
        raise ValueError(f"{folder}: histories of {rows} epochs, but {trained} were trained")

    def kept(kind: str, epochs: Mapping[str, int]) -> dict[int, tuple[int, Leaves]]:
        return {
            places[int(i)]: (epoch, _unstacked(kind, arrays, at))
            for at, (i, epoch) in enumerate(epochs.items())
            if int(i) in places
        }

    return GroupState(
        epoch=plain.epoch,
        slots=plain.slots_of(group),
        states={run: _unstacked("states", arrays, at) for run, at in own.items()},
        histories={run: {n: array[at] for n, array in history.items()} for run, at in own.items()},
        earlier=kept("earlier", plain.earlier),
        last=kept("last", plain.last),
        initial={places[i]: plain.initial[i] for i in places},
        origins=plain.origins,
    )


def split_group(group: Group, workdir: Path) -> int:
    """Split a group into two, each with half of the runs that have no result.

    The caller must hold the locks of the folder and of the group. After a kill in between, both
    groups contain the second half: it trains twice, and only the first result is kept.

    Returns:
        The number of runs in the larger half; 0 if there is only one run.
    """
    left = group.unfinished(workdir)
    if len(left) < 2:
        return 0
    middle = (len(left) + 1) // 2
    first = Group(tuple(left[:middle]), group.continued_at)
    second = Group(tuple(left[middle:]), group.continued_at)
    for half in (second, first):
        if half is second and reread_group(second, workdir):
            continue  # left by a killed attempt; another process may already train it
        if half.path(workdir) != group.path(workdir):
            for epoch in checkpoints.numbered(group.path(workdir)):
                own = half.path(workdir) / str(epoch)
                checkpoints.copy(group.path(workdir) / str(epoch), own)
        write_group(half, workdir)
    if first.path(workdir) != group.path(workdir):
        discard_group(group, workdir)
    return middle


def _stacked(kind: str, leaves: Mapping[int, Leaves]) -> Arrays:
    """Stack the arrays of several runs, named by kind and number."""
    columns = zip(*leaves.values(), strict=True)
    return {f"{kind} {i:04d}": np.stack(column) for i, column in enumerate(columns)}


def _unstacked(kind: str, arrays: Arrays, at: int) -> list[np.ndarray]:
    found = sorted(name for name in arrays if name.startswith(f"{kind} "))
    return [np.asarray(arrays[name][at]) for name in found]
