"""Train every run of a grid that has no result yet, then write the report.

    python -m launch.sweep --config=configs/pgdl.py [--config.FIELD=VALUE ...] [--workdir=DIR]
"""

import sys
import time
from pathlib import Path

from launch.command_line import INTERRUPTION, fail, flags, run
from launch.configuration_file import define_config, loading, read_given
from launch.distributed import (
    check_distributed,
    company,
    define_distributed,
    is_below,
    run_below,
)
from launch.executor_flags import define_executor

BEGAN = time.perf_counter()
define_config("A file of configs/.", lock_config=False, accept_new_attributes=True)
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
CHOSEN_EXECUTOR = define_executor()
DISTRIBUTED = define_distributed()
flags.mark_flag_as_required("config")


def main() -> int:
    # After the flags, so that --help and a mistyped one answer at once.
    from persist_jax.sweep.executors import choose_executor
    from persist_jax.sweep.host_devices import use_cores, use_nothing

    if TENSORBOARD.value:
        from persist_jax.store import event_files  # noqa: F401  # says what is missing, before all
    wanted = DISTRIBUTED()
    if wanted.distributed and not is_below():
        return run_below()
    name, parameters = CHOSEN_EXECUTOR()
    executor = choose_executor(name, parameters)
    config, notices = read_given()
    (use_cores(config) if name == "local" else use_nothing())
    if not wanted.distributed:
        return _here(config, notices, executor)
    check_distributed(config, name)
    return _together(wanted, config, lambda: _here(config, notices, executor))


def _here(config, notices, executor) -> int:
    from filelock import FileLock, Timeout

    from persist_jax.store.sweep_folder import lock_path
    from persist_jax.sweep.run import describe

    workdir = Path(WORKDIR.value or f"runs/{config.name}")
    for line in (*notices, *describe(config, workdir)):
        print(line, flush=True)
    if DRY_RUN.value and not lock_path(workdir).exists():
        return _dry_run(config, workdir, executor)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with FileLock(lock_path(workdir), timeout=0):
            return (_dry_run if DRY_RUN.value else _sweep)(config, workdir, executor)
    except Timeout:
        return fail(f"workdir: {workdir} is in use by another sweep")


def _together(wanted, config, sweep) -> int:
    """The first of several processes has the folder, the others train what it tells."""
    from persist_jax.sweep.distributed import join, leads, leave, most
    from persist_jax.sweep.follow import follow_sweep, lead

    join(**wanted.parameters)
    with company():
        if leads():
            status = sweep()
            lead(None)
        else:
            _use_programs(config)
            with INTERRUPTION.deferred() as must_stop:
                follow_sweep(must_stop)
            status = INTERRUPTION.status
        status = most(status)
        leave()
    return status


def _dry_run(config, workdir: Path, executor) -> int:
    """Everything that the sweep would refuse, and nothing that has to be fetched for it."""
    from persist_jax.store.configuration import check_settled
    from persist_jax.sweep.experiment import at_hand, check_devices, load_experiment, places
    from persist_jax.sweep.grid import groups
    from persist_jax.sweep.reading import defaults
    from persist_jax.sweep.run import describe_memory, describe_training

    name, _ = CHOSEN_EXECUTOR()
    found = groups(config, workdir)
    lanes = max((len(group.runs) for group in found), default=0)
    print(f"  {len(found)} groups to train, at most {lanes} lanes in each, executor {name}")
    if name == "local":
        check_devices(config)
    if not at_hand(config):
        check_settled(config, workdir, places(config), defaults(config))
        print("  Sizes are known once the data is in the cache: the sweep puts it there.")
        return 0
    experiment = load_experiment(config)
    check_settled(experiment.config, workdir, places(config), defaults(config))
    for describe in (describe_training, describe_memory):
        for line in describe(experiment, here=name == "local"):
            print(line, flush=True)
    return 0


def _sweep(config, workdir: Path, executor) -> int:
    from persist_jax.results.report import write_report
    from persist_jax.results.verdict import notice
    from persist_jax.store import read_results
    from persist_jax.store.commands import note_command
    from persist_jax.store.configuration import settle
    from persist_jax.store.costs import note_cost, read_costs
    from persist_jax.sweep.costs import in_words, total
    from persist_jax.sweep.experiment import load_experiment, places
    from persist_jax.sweep.follow import lead
    from persist_jax.sweep.reading import defaults
    from persist_jax.sweep.run import describe_training, run_sweep

    programs = _use_programs(config)
    experiment = load_experiment(config)
    settle(experiment.config, workdir, places(config), defaults(config))
    note_command(workdir, ["python", *sys.orig_argv[1:]])
    before = len(read_costs(workdir))
    for line in describe_training(experiment, here=CHOSEN_EXECUTOR()[0] == "local"):
        print(line, flush=True)
    lead(experiment.config)
    how = {"tensorboard": TENSORBOARD.value, "profile": PROFILE.value}
    how |= {"executor": executor, "prepare": loading(), "programs": programs}
    with INTERRUPTION.deferred() as must_stop:
        finished = run_sweep(experiment.config, workdir, must_stop, **how)
    if not finished:
        print(f"Saved. The same command goes on from here: {workdir}")
        return INTERRUPTION.status
    print(f"Report: {write_report([workdir], options=config.report)}")
    if line := notice(read_results(workdir)):
        print(line)
    if costs := read_costs(workdir)[before:]:
        seconds = time.perf_counter() - BEGAN
        note_cost(workdir, total(costs).replace(seconds=seconds))
        print(*in_words(costs, seconds), sep="\n")
    return 0


def _use_programs(config) -> Path | None:
    """Take programs from the cache folder, and keep them there; the folder, if that is wanted."""
    from persist_jax.data import cache_folder
    from persist_jax.sweep.compilation_cache import use_compilation_cache

    if not COMPILATION_CACHE.value:
        return None
    cache = cache_folder(config.dataset.get("cache"))
    use_compilation_cache(cache)
    return cache


if __name__ == "__main__":
    run(main)
