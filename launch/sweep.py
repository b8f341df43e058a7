"""Train every run of a grid that has no result yet, then write the report.

    python -m launch.sweep --config=configs/pgdl.py [--config.FIELD=VALUE ...] [--workdir=DIR]

Started several times, on one machine or on many that see DIR, the same command shares the work.
"""

import sys
import time
from functools import partial
from pathlib import Path

from .command_line import INTERRUPTION, flags, run
from .configuration_file import define_config, read_given
from .distributed import check_distributed, define_distributed
from .executor_flags import define_executor

BEGAN, BEGAN_AT = time.perf_counter(), time.time()
define_config("A file, or the name of one of configs/.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where results go; default runs/<config name>.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the plan and stop.")
COMPILATION_CACHE = flags.DEFINE_bool(
    "compilation_cache", True, "Keep compiled programs in the cache folder for the next time."
)
TENSORBOARD = flags.DEFINE_bool(
    "tensorboard", False, "Write event files to DIR/tensorboard; needs the extra `watch`."
)
PROFILE = flags.DEFINE_bool(
    "profile", False, "Profile the second epoch of the first group, into DIR/profile."
)
WAIT = flags.DEFINE_bool(
    "wait", True, "Wait for groups that other processes train, in case one of these dies."
)
WORKER = flags.DEFINE_bool("worker", False, "What an executor adds to the command of its workers.")
CHOSEN_EXECUTOR = define_executor()
DISTRIBUTED = define_distributed()


def main() -> int:
    # After the flags, so that --help and a mistyped one answer at once.
    from persist_jax.store.sweep_folder import jobs_folder
    from persist_jax.sweep.distributed import join, leave
    from persist_jax.sweep.executors import choose_executor
    from persist_jax.sweep.executors.command import end_with_parent
    from persist_jax.sweep.host_devices import use_cores, use_nothing

    if WORKER.value:
        end_with_parent()
    if TENSORBOARD.value:
        from persist_jax.store import event_files  # noqa: F401  # says what is missing, before all
    # A worker has the flags of the command that started it.
    name, parameters = ("local", {}) if WORKER.value else CHOSEN_EXECUTOR()
    executor = None if name == "local" else choose_executor(name, parameters)
    config, notices = read_given()
    workdir = Path(WORKDIR.value or f"runs/{config.name}")
    if name == "slurm":
        executor = partial(executor, jobs=parameters.get("jobs") or str(jobs_folder(workdir)))
    if not str(workdir).isprintable():
        raise ValueError(f"--workdir: {str(workdir)!r} has letters that cannot be printed")
    use_nothing() if executor else use_cores(config)
    together = DISTRIBUTED()
    if together is None:
        return _sweep(config, notices, workdir, name, executor)
    check_distributed(config, name)
    join(**together)
    status = _sweep(config, notices, workdir, name, executor)
    leave()
    return status


def _sweep(config, notices, workdir: Path, name: str, executor) -> int:
    from persist_jax.store.commands import note_command
    from persist_jax.store.configuration import settle
    from persist_jax.store.costs import read_costs
    from persist_jax.store.locks import locked
    from persist_jax.store.sweep_folder import lock_path, refuse_links
    from persist_jax.sweep.costs import COSTS_HERE
    from persist_jax.sweep.distributed import is_first, largest
    from persist_jax.sweep.executors.workers import run_in_workers
    from persist_jax.sweep.experiment import load_experiment, places
    from persist_jax.sweep.plan import describe, describe_training
    from persist_jax.sweep.reading import defaults
    from persist_jax.sweep.run import SETTLING, run_sweep

    speaks = is_first() and not WORKER.value
    for line in (*notices, *describe(config, workdir)) if speaks else ():
        print(line, flush=True)
    if DRY_RUN.value:
        return _dry_run(config, workdir, name)
    _use_programs(config)
    refuse_links(workdir)
    experiment = load_experiment(config)
    if is_first():
        with locked(lock_path(workdir), SETTLING):
            settle(experiment.config, workdir, places(config), defaults(config))
    before = len(read_costs(workdir))
    if speaks:
        note_command(workdir, ["python", *sys.orig_argv[1:]])
        for line in describe_training(experiment, here=executor is None):
            print(line, flush=True)
    with INTERRUPTION.deferred() as must_stop:
        try:
            if executor:
                finished = run_in_workers(experiment.config, workdir, executor, must_stop)
            else:
                how = {"tensorboard": TENSORBOARD.value, "profile": PROFILE.value}
                how |= {"wait": WAIT.value, "worker": WORKER.value}
                finished = run_sweep(experiment, workdir, must_stop, **how)
        except ChildProcessError:
            if WORKER.value:  # the command that started it says which runs are missing
                return 2
            raise
    if not finished:
        status = largest(INTERRUPTION.status)  # any of several processes may have had the signal
        if speaks and status:
            print(f"Saved. The same command goes on from here: {workdir}")
        elif speaks and not executor:
            print(f"Other processes train the rest; the last one writes the report: {workdir}")
        return status
    if is_first():
        costs = COSTS_HERE if executor is None else read_costs(workdir)[before:]
        _report(config, workdir, [cost for cost in costs if cost.group], speaks)
    return 0


def _report(config, workdir: Path, costs: list, speaks: bool) -> None:
    """Write the report, unless another process of this sweep just did; say where it is."""
    from persist_jax.results.report import write_report
    from persist_jax.results.verdict import notice
    from persist_jax.store import read_results, report_folder
    from persist_jax.store.costs import note_cost
    from persist_jax.store.locks import locked
    from persist_jax.store.record import RESULT_FILE
    from persist_jax.store.run import runs_folder
    from persist_jax.store.sweep_folder import lock_path
    from persist_jax.sweep.costs import in_words, total

    path = report_folder(workdir) / "index.html"
    with locked(lock_path(workdir), timeout=600):
        newest = max(file.stat().st_mtime for file in runs_folder(workdir).rglob(RESULT_FILE))
        if not path.exists() or path.stat().st_mtime < max(newest, BEGAN_AT):
            path = write_report([workdir], options=config.report)
    if not speaks:
        return
    print(f"Report: {path}")
    if line := notice(read_results(workdir)):
        print(line)
    if costs:
        seconds = time.perf_counter() - BEGAN
        note_cost(workdir, total(costs).replace(seconds=seconds))
        print(*in_words(costs, seconds), sep="\n")


def _dry_run(config, workdir: Path, executor: str) -> int:
    """Everything that the sweep would refuse, and nothing that has to be fetched for it."""
    from persist_jax.store.configuration import check_settled
    from persist_jax.sweep.experiment import at_hand, check_devices, load_experiment, places
    from persist_jax.sweep.plan import describe_grid, describe_memory, describe_training
    from persist_jax.sweep.reading import defaults

    for line in describe_grid(config):
        print(line, flush=True)
    print(f"  executor {executor}")
    if executor == "local":
        check_devices(config)
    if not at_hand(config):
        check_settled(config, workdir, places(config), defaults(config))
        print("  Sizes are known once the data is in the cache: the sweep puts it there.")
        return 0
    experiment = load_experiment(config)
    check_settled(experiment.config, workdir, places(config), defaults(config))
    for describe in (describe_training, describe_memory):
        for line in describe(experiment, here=executor == "local"):
            print(line, flush=True)
    return 0


def _use_programs(config) -> None:
    """Take programs from the cache folder, and keep them there."""
    from persist_jax.data import cache_folder
    from persist_jax.sweep.compilation_cache import use_compilation_cache

    if COMPILATION_CACHE.value:
        use_compilation_cache(cache_folder(config.dataset.get("cache")))


if __name__ == "__main__":
    run(main)
