"""A sweep in workers: the sweep's own command, once more for each."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persist_jax.store.configuration import Configuration, grid
from persist_jax.store.locks import locked_folder
from persist_jax.store.record import has_result
from persist_jax.sweep.grid import form_groups, missing_runs, open_groups
from persist_jax.sweep.progress import LONGEST_SILENCE


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
        """Start a worker, which ends when this process does; `how` is as `Popen` takes it."""
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


# Runs the command in some workers. Takes the command, the number of groups, and what is asked
# whether to stop. Returns true if it leaves the workers to a cluster; else all of them have ended.
Executor = Callable[[Command, int, Callable[[], bool]], bool | None]


def run_in_workers(
    config: Configuration, workdir: Path, executor: Executor, must_stop: Callable[[], bool]
) -> bool:
    """Have workers train every run that has no result.

    Returns:
        Whether every run has its result; `False` after a stop, or where a cluster still trains.

    Raises:
        ChildProcessError: one line; all workers have ended, and runs have no result.
    """
    groups = []
    with locked_folder(workdir):
        for continued in (False, True) if config.continued else (False,):
            if not groups:
                form_groups(config, workdir, continued=continued)
                groups = open_groups(config, workdir, continued=continued)
    if not groups:
        return True
    runs, spoke = grid(config), time.monotonic()

    def asked_to_stop() -> bool:
        """Whether to stop; prints a line now and then, as nobody sees what workers print."""
        nonlocal spoke
        if time.monotonic() - spoke > LONGEST_SILENCE:
            spoke = time.monotonic()
            ended = sum(has_result(run.folder(workdir)) for run in runs)
            print(f"{ended} of {len(runs)} runs have ended", flush=True)
        return must_stop()

    left_alone = executor(Command.of_this_process(), len(groups), asked_to_stop)
    missing = missing_runs(config, workdir)
    if missing and not left_alone and not must_stop():
        raise ChildProcessError(
            f"{len(missing)} runs have no result, {missing[0]} the first; run the same command "
            "again to retry them"
        )
    return not missing
