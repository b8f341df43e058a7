"""Show a group's progress: a bar in a terminal, otherwise a line every half minute."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from persist_jax._plumbing.extras import needed_by
from persist_jax.sweep.group import Progress

with needed_by("persist_jax.sweep", "experiment"):
    from tqdm import tqdm

LONGEST_SILENCE = 25.0  # seconds; 30 are promised, and a busy machine may be late


@contextmanager
def show_progress(label: str, *, bar: bool = True) -> Iterator[Callable[[Progress], None]]:
    """Show a group's progress while it trains; yields a function to call after every epoch."""
    if bar and sys.stderr.isatty():
        with tqdm(desc=label, unit="epoch") as shown:
            yield lambda progress: _advance(shown, progress)
    else:
        with _Lines(label) as lines:
            yield lines.report


def _advance(bar: tqdm, progress: Progress) -> None:
    if bar.total is None:
        bar.total, bar.initial = progress.epochs, progress.epoch - 1
        bar.n = bar.initial
    words = f"{progress.training} training, validation loss {progress.validation_loss:.4f}"
    bar.set_postfix_str(words, refresh=False)
    bar.update()


class _Lines:
    """Prints a line before half a minute of silence, and one at the end."""

    def __init__(self, label: str):
        self._label = label
        self._progress: Progress | None = None
        self._best = float("inf")
        self._began = time.monotonic()
        # End time and number of the first and the latest epoch: the rate excludes compilation.
        self._first: tuple[float, int] | None = None
        self._latest = (0.0, 0)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._speak, daemon=True)

    def __enter__(self) -> "_Lines":
        self._thread.start()
        return self

    def __exit__(self, kind, error, traceback) -> None:
        self._done.set()
        self._thread.join()
        if self._progress is not None and kind is None:
            ended = "" if self._progress.training == 0 else ", interrupted"
            print(f"{self._label}: {self._progress.epoch} epochs{ended}", flush=True)

    def report(self, progress: Progress) -> None:
        """Record the progress after an epoch."""
        self._best = min(self._best, progress.validation_loss)
        self._latest = time.monotonic(), progress.epoch
        self._first = self._first or self._latest
        self._progress = progress

    def _speak(self) -> None:
        while not self._done.wait(LONGEST_SILENCE):
            print(f"{self._label}: {self._state()}", flush=True)

    def _state(self) -> str:
        progress, now = self._progress, time.monotonic()
        if progress is None:
            return f"compiling and training the first epoch for {_in_words(now - self._began)}"
        lanes = f"{progress.training} lane{'s' if progress.training > 1 else ''}"
        words = (
            f"epoch {progress.epoch} of at most {progress.epochs}, {lanes} in training, "
            f"best validation loss {self._best:.4f}"
        )
        (first, before), (latest, epoch) = self._first, self._latest
        if epoch > before:
            # An upper bound: epochs with fewer lanes are shorter.
            left = (latest - first) / (epoch - before) * (progress.epochs - epoch)
            words += f", at most {_in_words(max(left - (now - latest), 0.0))} left"
        return words


def _in_words(seconds: float) -> str:
    """Format a duration.

    Example:
        >>> _in_words(5.0), _in_words(150.0), _in_words(9000.0)
        ('5 s', '2.5 min', '2.5 h')
    """
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
