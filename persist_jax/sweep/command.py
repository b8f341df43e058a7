"""The command `launch.sweep` after its flags are parsed: `start` and `train`."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from persist_jax.data import cache_folder
from persist_jax.store.configuration import Configuration, settle
from persist_jax.store.locks import locked_folder
from persist_jax.store.notes import note_command, read_costs
from persist_jax.store.sweep_folder import JOBS_FOLDER, refuse_links
from persist_jax.sweep.distributed import check_together, is_first, join
from persist_jax.sweep.executors import Executor, choose_executor
from persist_jax.sweep.executors.workers import end_with_parent, run_in_workers
from persist_jax.sweep.experiment import load_experiment
from persist_jax.sweep.machine import use_compilation_cache, use_cores, use_nothing
from persist_jax.sweep.plan import describe_training
from persist_jax.sweep.reading import defaults, free_fields
from persist_jax.sweep.run import run_sweep
from persist_jax.sweep.watching import COSTS_HERE


def start(
    config: Configuration,
    workdir: Path,
    name: str,
    parameters: dict[str, Any],
    *,
    together: Mapping[str, Any] | None,
    worker: bool,
    tensorboard: bool,
) -> Executor | None:
    """Choose this process's devices and return its executor: `None` if it trains itself."""
    if worker:
        end_with_parent()
    if tensorboard:
        from persist_jax.store import event_files  # noqa: F401  # fails early if a package is missing
    executor = None if name == "local" else choose_executor(name, parameters)
    if name == "slurm":
        executor = partial(executor, jobs=parameters.get("jobs") or str(workdir / JOBS_FOLDER))
    if not str(workdir).isprintable():
        raise ValueError(f"--workdir: {str(workdir)!r} has letters that cannot be printed")
    use_nothing() if executor else use_cores(config)
    if together is not None:
        check_together(config, name)
        join(together)
    return executor


def train(
    config: Configuration,
    workdir: Path,
    must_stop: Callable[[], bool],
    executor: Executor | None,
    *,
    wait: bool,
    worker: bool,
    tensorboard: bool,
    profile: bool,
    compilation_cache: bool,
) -> tuple[bool, list[dict[str, float]]]:
    """Settle the folder's configuration and train all runs without a result.

    The runs train in this process, or in workers of the executor. See `run_sweep` and
    `run_in_workers` for the other arguments and the errors.

    Returns:
        Whether every run has its result, and the seconds of the groups that this command trained.
    """
    if compilation_cache:
        use_compilation_cache(cache_folder(config.dataset.get("cache")))
    refuse_links(workdir)
    experiment = load_experiment(config)
    if is_first():
        with locked_folder(workdir):
            settle(experiment.config, workdir, free_fields(config), defaults(config))
    if is_first() and not worker:
        note_command(workdir, ["python", *sys.orig_argv[1:]])
        for line in describe_training(experiment, here=executor is None):
            print(line, flush=True)
    if executor is None:
        finished = run_sweep(
            experiment, workdir, must_stop,
            wait=wait, worker=worker, tensorboard=tensorboard, profile=profile,
        )  # fmt: skip
        return finished, COSTS_HERE
    before = len(read_costs(workdir))
    finished = run_in_workers(experiment.config, workdir, executor, must_stop)
    return finished, read_costs(workdir)[before:]
