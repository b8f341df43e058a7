"""How groups go that other processes train, for a person: lines, never half a minute without."""

import math
import sys
import time
from collections.abc import Iterable, Sequence

from persist_jax.store.epoch_lines import last_line
from persist_jax.store.record import has_result
from persist_jax.sweep import progress as silence
from persist_jax.sweep.executors.ending import Ending
from persist_jax.sweep.executors.work import Failure, Work
from persist_jax.sweep.grid import Group
from persist_jax.sweep.group import Progress
from persist_jax.sweep.reading import options_of

_MOST_NAMED = 8  # groups in one line


class View:
    """Lines on groups: when one ends, and now and then on all that are in training.

    Args:
        groups: in their order, by whose numbers they are spoken of.
    """

    def __init__(self, groups: Sequence[Group]):
        self._groups = groups
        self._progress: dict[int, Progress | None] = {}  # of those in training
        self._spoke = time.monotonic()
        self.failures: list[Failure] = []
        self.stopped = 0
        self._ended = 0

    def begins(self, number: int) -> None:
        """A worker has a group."""
        self._progress[number] = None

    def trained(self, number: int, progress: Progress) -> None:
        """A group has trained an epoch."""
        self._progress[number] = progress

    def ends(self, number: int, ending: Ending) -> None:
        """A worker has ended with a group.

        Raises:
            OSError: what the other groups would meet as well.
        """
        if ending.error:
            raise ending.error
        progress = self._progress.pop(number, None)
        label = self._groups[number].label
        if ending.failure:
            self.failures.append(Failure(label, ending.failure))
            self._say(f"[{number + 1}/{len(self._groups)}] {label}: {ending.failure}", sys.stderr)
            return
        epochs = f"{progress.epoch} epochs" if progress else "nothing was left to train"
        if ending.finished:
            self._ended += 1
        else:
            self.stopped += 1
            epochs = f"{progress.epoch if progress else 0} epochs, interrupted"
        self._say(f"[{number + 1}/{len(self._groups)}] {label}: {epochs}")

    def looks_at(self, number: int, work: Work) -> None:
        """A group may have trained an epoch; whoever trains it says nothing."""
        if progress := _on_disk(self._groups[number], work):
            self._progress[number] = progress

    def breaks_silence(self, work: Work | None = None, numbers: Iterable[int] = ()) -> None:
        """Say what is in training, if nothing was said for long.

        Args:
            work: the sweep's, to see on disk how groups go.
            numbers: of those groups.
        """
        if time.monotonic() - self._spoke <= silence.LONGEST_SILENCE:
            return
        for number in numbers:
            self.looks_at(number, work)
        words = [self._in_words(number) for number in list(self._progress)[:_MOST_NAMED]]
        if len(self._progress) > _MOST_NAMED:
            words.append(f"{len(self._progress) - _MOST_NAMED} more")
        counts = f"{self._ended} of {len(self._groups)} groups ended"
        self._say(f"{counts}; in training: {'; '.join(words) or 'none'}")

    def _in_words(self, number: int) -> str:
        progress, label = self._progress[number], self._groups[number].label
        if progress is None:
            return f"{label}, first epoch"
        lanes = f"{progress.training} lane{'s' if progress.training > 1 else ''}"
        loss = f"validation loss {progress.validation_loss:.4f}"
        return f"{label}, epoch {progress.epoch} of at most {progress.epochs}, {lanes}, {loss}"

    def _say(self, line: str, stream=None) -> None:
        print(line, file=stream or sys.stdout, flush=True)
        self._spoke = time.monotonic()


def _on_disk(group: Group, work: Work) -> Progress | None:
    """The progress of a group by what its runs leave to look at."""
    folders = [group.folder(run, work.workdir) for run in group.runs]
    lines = list(filter(None, map(last_line, folders)))
    if not lines:
        return None
    losses = [line["validation_loss"] for line in lines if line.get("validation_loss") is not None]
    training = sum(not has_result(folder) for folder in folders)
    epoch = max(line["epoch"] for line in lines)
    epochs = options_of(work.config, group.network).epochs
    return Progress(epoch, epochs, training, min(losses, default=math.nan))
