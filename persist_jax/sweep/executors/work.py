"""What every executor is given, and what it answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from persist_jax.store.configuration import Configuration
from persist_jax.sweep.grid import Group


@dataclass(frozen=True)
class Work:
    """What a process needs to train groups of a sweep; it can be sent to another one.

    Attributes:
        config: the configuration, as it is settled in the folder.
        workdir: the sweep's folder.
        tensorboard: whether to write event files.
        profile: whether to profile an epoch of the first group.
        prepare: what another process calls first: it registers the entries that the configuration
            names and are not the package's own.
        programs: the cache folder below which compiled programs are kept; `None`: nowhere.
    """

    config: Configuration
    workdir: Path
    tensorboard: bool = False
    profile: bool = False
    prepare: Callable[[], object] | None = None
    programs: Path | None = None


class Failure(NamedTuple):
    """A group that did not end, and was not stopped either."""

    label: str
    line: str


class Outcome(NamedTuple):
    """What became of groups.

    Attributes:
        finished: whether none was stopped.
        failures: of the others; each has been said.
    """

    finished: bool
    failures: tuple[Failure, ...] = ()


# Trains groups; asked after epochs whether to stop, it leaves everything to go on with.
Executor = Callable[[Work, Sequence[Group], Callable[[], bool]], Outcome]
