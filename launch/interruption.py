"""Handle Ctrl-C and SIGTERM, from a command's first import to its last line.

A thread receives every signal. Python runs a signal handler only between two instructions of the
main thread: not during a compilation, and only once for several signals. An exception in a handler
is lost in a callback of JAX, and crashes some imports. This module imports nothing slow.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ENDED = b"Interrupted. Run the same command again to resume.\n"
_WAITING = b"Stopping after this epoch, which is saved; interrupt again to stop at once.\n"


class Interruption:
    """Handles SIGINT and SIGTERM from the call of `watch` on."""

    def __init__(self):
        self.signal: int | None = None  # the first one that was deferred
        self._watching = False
        self._deferred = False

    def watch(self) -> None:
        """From now on, exit at once on a signal, with one line and status 128 + its number."""
        if self._watching:
            return
        self._watching = True
        heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)  # the wakeup needs a handler, whatever it does
        threading.Thread(target=self._listen, args=(heard,), daemon=True).start()

    @contextmanager
    def deferred(self) -> Iterator[Callable[[], bool]]:
        """Defer the first signal: `must_stop`, which is yielded, then returns True.

        A second signal exits at once. So does one before the first call of `must_stop`, which
        comes after the first epoch: there is nothing to save yet.
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
        """The exit status for the deferred signal; 0 without one."""
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
