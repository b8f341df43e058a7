"""The command that workers of a sweep run: the sweep's own, once more."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Command:
    """A sweep's command as each worker runs it.

    Attributes:
        words: the program and its arguments.
        folder: where it runs, as paths may be relative.
    """

    words: tuple[str, ...]
    folder: str

    @classmethod
    def of_this_process(cls) -> "Command":
        """The command that this process runs, for a worker."""
        return cls((sys.executable, *sys.orig_argv[1:], "--worker"), os.getcwd())

    def start(self, environment: Mapping[str, str] = {}, **how: Any) -> subprocess.Popen:
        """Start a worker, which ends when this process does.

        Args:
            environment: variables to set.
            how: arguments of `subprocess.Popen`.
        """
        return subprocess.Popen(
            self.words,
            cwd=self.folder,
            env=os.environ | environment,
            stdin=subprocess.PIPE,  # it ends with this process, and the worker with it
            start_new_session=True,  # a terminal's signals come to this process only
            **how,
        )


def end_with_parent() -> None:
    """End this worker at once when the process that started it is gone; files are complete."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# Runs the command in some workers until all have ended, or leaves them to a cluster. Takes the
# command, the number of groups, and what is asked whether to stop. Returns whether all have ended.
Executor = Callable[[Command, int, Callable[[], bool]], bool]
