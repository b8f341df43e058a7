"""A sweep in workers, which an executor starts."""

import time
from collections.abc import Callable
from pathlib import Path

from persist_jax.store.configuration import Configuration, grid
from persist_jax.store.locks import locked
from persist_jax.store.record import has_result
from persist_jax.store.sweep_folder import lock_path
from persist_jax.sweep.executors.command import Command, Executor
from persist_jax.sweep.grid import form_groups, missing_runs, open_groups
from persist_jax.sweep.progress import LONGEST_SILENCE
from persist_jax.sweep.run import SETTLING


def run_in_workers(
    config: Configuration, workdir: Path, executor: Executor, must_stop: Callable[[], bool]
) -> bool:
    """Have workers train every run that has no result.

    Args:
        config: the configuration, as it is settled in the folder.
        workdir: the sweep's folder.
        executor: starts the command of this process in workers.
        must_stop: asked whether to stop.

    Returns:
        Whether every run has its result; `False` after a stop, or where a cluster still trains.

    Raises:
        ChildProcessError: one line; all workers have ended, and runs have no result.
    """
    if (groups := _form_groups(config, workdir)) == 0:
        return True
    runs, spoke = grid(config), time.monotonic()

    def asked_to_stop() -> bool:
        """Print a line now and then: what workers elsewhere print, nobody sees here."""
        nonlocal spoke
        if time.monotonic() - spoke > LONGEST_SILENCE:
            spoke = time.monotonic()
            ended = sum(has_result(run.folder(workdir)) for run in runs)
            print(f"{ended} of {len(runs)} runs have ended", flush=True)
        return must_stop()

    all_ended = executor(Command.of_this_process(), groups, asked_to_stop)
    missing = missing_runs(config, workdir)
    if all_ended and missing and not must_stop():
        raise ChildProcessError(
            f"{len(missing)} runs have no result, {missing[0]} the first; run the same command "
            "again to retry them"
        )
    return not missing


def _form_groups(config: Configuration, workdir: Path) -> int:
    """How many groups there are to train next."""
    with locked(lock_path(workdir), SETTLING):
        for continued in (False, True) if config.continued else (False,):
            form_groups(config, workdir, continued=continued)
            if found := open_groups(config, workdir, continued=continued):
                return len(found)
    return 0
