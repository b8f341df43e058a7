"""Ctrl-C and SIGTERM, from a command's first import to its last line.

Python runs a signal's handler between two of its own instructions, and what arrives in the
meantime, as while a program is compiled, counts as one. So a thread hears of every signal as well,
and acts where the handler cannot. Imports nothing of ours, and nothing that takes long.
"""

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LINE = b"Interrupted. The same command goes on from what is on disk.\n"
_WAITING = b"Stopping after this epoch, which is saved; once more stops at once.\n"
_PATIENCE = 3.0  # seconds in which what is begun may be put away


class Interrupted(KeyboardInterrupt):
    """A signal asked to stop; raised in the main thread."""


class Interruption:
    """What this process does about signals: until `watch`, nothing."""

    def __init__(self):
        self.signal: int | None = None  # the first one
        self._watching = False
        self._deferred = False

    def watch(self) -> None:
        """From here on a signal ends the process with one line and the status 128 + its number."""
        if self._watching:
            return
        self._watching = True
        heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, self._handle)
        sys.excepthook = self._last_words
        threading.Thread(target=self._listen, args=(heard,), daemon=True).start()

    @contextmanager
    def deferred(self) -> Iterator["Interruption"]:
        """Inside, the first signal is only noted; a second one ends the process."""
        self._deferred = True
        try:
            yield self
        finally:
            self._deferred = False

    def __call__(self) -> bool:
        """Whether a signal has asked to stop."""
        return self.signal is not None

    @property
    def exit_status(self) -> int:
        """What a shell expects of a program that a signal ended; 0 without a signal."""
        return 128 + self.signal if self.signal else 0

    def _handle(self, number: int, frame: object) -> None:
        if self.signal is None:
            self.signal = number
        if not self._deferred:
            raise Interrupted

    def _listen(self, heard: int) -> None:
        """Of the first signal, the main thread has time to end; a second one is not waited for."""
        number = os.read(heard, 1)[0]
        if self.signal is None:
            self.signal = number
        if self._deferred:
            os.write(2, _WAITING)
        select.select([heard], [], [], None if self._deferred else _PATIENCE)
        self._end()

    def _last_words(self, kind: type, error: BaseException, trace: object) -> None:
        if issubclass(kind, KeyboardInterrupt):
            with suppress(Exception):
                sys.stdout.flush()
            self._end()
        sys.__excepthook__(kind, error, trace)

    def _end(self) -> None:
        # Without Python's own end, which would wait for threads that compile.
        os.write(2, _LINE)
        os._exit(self.exit_status or 128 + signal.SIGINT)


INTERRUPTION = Interruption()
