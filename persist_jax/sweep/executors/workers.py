"""Train a sweep in workers: each runs the sweep's own command."""

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
    """A sweep's command for a worker.

    Attributes:
        words: the program and its arguments.
        folder: the working directory, since paths may be relative.
    """

    words: tuple[str, ...]
    folder: str

    @classmethod
    def of_this_process(cls) -> "Command":
        """Return this process's command, for a worker."""
        return cls((sys.executable, *sys.orig_argv[1:], "--worker"), os.getcwd())

    def start(self, environment: Mapping[str, str] = {}, **how: Any) -> subprocess.Popen:
        """Start a worker, which exits when this process does; `how` are arguments of `Popen`."""
        return subprocess.Popen(
            self.words,
            cwd=self.folder,
            env=os.environ | environment,
            stdin=subprocess.PIPE,  # closes when this process exits, and the worker then exits
            start_new_session=True,  # a terminal signals this process only
            **how,
        )


def end_with_parent() -> None:
    """Exit as soon as the process that started this worker is gone; files are always complete."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# An executor runs the command in workers. It takes the command, the number of groups and a function
# that says whether to stop. It returns True if a cluster still runs the workers; otherwise all of
# them have exited.
Executor = Callable[[Command, int, Callable[[], bool]], bool | None]


def run_in_workers(
    config: Configuration, workdir: Path, executor: Executor, must_stop: Callable[[], bool]
) -> bool:
    """Train every run without a result in workers.

    Returns:
        Whether every run has its result; `False` after a stop, or while a cluster still trains.

    Raises:
        ChildProcessError: all workers have exited, but some runs have no result; one line.
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
        """Return whether to stop; print progress now and then, as workers' output is not shown."""
        nonlocal spoke
        if time.monotonic() - spoke > LONGEST_SILENCE:
            spoke = time.monotonic()
            ended = sum(has_result(run.folder(workdir)) for run in runs)
            print(f"{ended} of {len(runs)} runs finished", flush=True)
        return must_stop()

    left_alone = executor(Command.of_this_process(), len(groups), asked_to_stop)
    missing = missing_runs(config, workdir)
    if missing and not left_alone and not must_stop():
        raise ChildProcessError(
            f"{len(missing)} runs have no result, {missing[0]} the first; run the same command "
            "again to retry them"
        )
    return not missing
