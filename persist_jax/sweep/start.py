"""What a group's training begins with or goes on from, the same in every process of a run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from persist_jax.store.record import Accuracy
from persist_jax.store.run import Run
from persist_jax.sweep.distributed import several, told, told_arrays
from persist_jax.sweep.grid import Group
from persist_jax.training.cohort import Cohort
from persist_jax.training.programs import Programs
from persist_jax.training.state import LaneState


@dataclass(frozen=True)
class Start:
    """The state of a group before an epoch.

    Attributes:
        epoch: epochs that the states have behind them.
        states: of the runs in training, by index.
        finished: whether a run has its result, which may be in training once more.
        slots: which run each lane trains; `None` before the first epoch.
        initial: accuracy of each run before training; `None` if it is not known yet.
    """

    epoch: int
    states: Mapping[int, LaneState]
    finished: Sequence[bool]
    slots: Sequence[int | None] | None
    initial: tuple[Accuracy, ...] | None

    def cohort(self, programs: Programs, group: Group) -> Cohort:
        """The group's runs, as lanes that go on from here."""
        weights = [run.weight for run in group.runs]
        return Cohort(programs, weights, self.states, slots=self.slots, epoch=self.epoch)

    def initial_accuracies(self, cohort: Cohort) -> tuple[Accuracy, ...]:
        """Accuracy of each run before training, if it was in training then."""
        if self.initial is not None:
            return self.initial
        found = cohort.accuracies(cohort.training)
        nothing = dict.fromkeys(Accuracy.model_fields)
        return tuple(Accuracy(**found.get(run, nothing)) for run in range(len(self.finished)))

    def unrecorded(self, ended: Iterable[int]) -> list[int]:
        """Those of the runs that had no result at the start."""
        return [run for run in ended if not self.finished[run]]


def share_start(group: Group, start: Start) -> Start:
    """Tell the other processes which group trains now, and from where; the start as they get it."""
    if several():
        plain = {"epoch": start.epoch, "finished": list(start.finished), "slots": start.slots}
        plain |= {"training": list(start.states), "known": start.initial is not None}
        told({"group": asdict(group), "start": plain})
        told_arrays(start.states)
    return start


def hear_start(message: Mapping[str, Any], group: Group, programs: Programs) -> Start:
    """What `share_start` told, in another process.

    Args:
        message: with the group.
        group: the group.
        programs: what trains it; its states have the shapes of the others'.
    """
    said = message["start"]
    like = {run: programs.start(group.runs[run].seed) for run in said["training"]}
    unknown = Accuracy(**dict.fromkeys(Accuracy.model_fields))
    return Start(
        epoch=said["epoch"],
        states=told_arrays(like),
        finished=said["finished"],
        slots=said["slots"],
        # Only the first process writes them down.
        initial=(unknown,) * len(group.runs) if said["known"] else None,
    )


def group_of(message: Mapping[str, Any]) -> Group:
    """The group that `share_start` told of."""
    said = dict(message["group"])
    return Group(**said | {"runs": tuple(Run(**run) for run in said["runs"])})
