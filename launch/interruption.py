"""Ctrl-C and SIGTERM, from a command's first import to its last line.

Python runs a signal's handler between two instructions of the main thread: not while a program is
compiled, and where several signals have come by then, once. An exception of the handler's is lost
in a callback of JAX, and crashes some imports. So a thread hears of every signal and acts on it.
Nothing that is imported here takes long.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ENDED = b"Interrupted. The same command goes on from what is on disk.\n"
_WAITING = b"Stopping after this epoch, which is saved; once more stops at once.\n"


class Interruption:
    """Handles SIGINT and SIGTERM from the call of `watch` on."""

    def __init__(self):
        self.signal: int | None = None  # the first one that was noted
        self._watching = False
        self._deferred = False

    def watch(self) -> None:
        """From here on a signal ends the process at once, with one line and 128 + its number."""
        if self._watching:
            return
        self._watching = True
        heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)  # what counts is that it has a handler
        threading.Thread(target=self._listen, args=(heard,), daemon=True).start()

    @contextmanager
    def deferred(self) -> Iterator[Callable[[], bool]]:
        """Inside, note the first signal for `must_stop`, which is given; the next one ends.

        Until `must_stop` is called, after the first epoch, nothing could be saved: a signal ends.
        """

        def must_stop() -> bool:
            self._deferred = True
            return self.signal is not None

        try:
            yield must_stop
        finally:
            self._deferred = False

    @property
    def status(self) -> int:
        """The exit status that the noted signal asks for; 0 where there is none."""
        return 0 if self.signal is None else 128 + self.signal

    def _listen(self, heard: int) -> None:
        while True:
            number = os.read(heard, 1)[0]
            if self.signal is not None or not self._deferred:
                os.write(2, _ENDED)
                os._exit(128 + number)
            self.signal = number
            os.write(2, _WAITING)


INTERRUPTION = Interruption()
