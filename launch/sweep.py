"""Train every run of a grid that has no result yet, then write the report.

    python -m launch.sweep --config=configs/pgdl.py [--config.FIELD=VALUE ...] [--workdir=DIR]

Started several times, on one machine or on many that see DIR, the same command shares the work.
"""

import time
from pathlib import Path

from .command_line import INTERRUPTION, flags, run
from .configuration_file import define_config, read_given
from .executor_flags import define_distributed, define_executor

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
    from persist_jax.sweep import command
    from persist_jax.sweep.distributed import is_first, leave

    name, parameters = ("local", {}) if WORKER.value else CHOSEN_EXECUTOR()
    together, (config, notices) = DISTRIBUTED(), read_given()
    workdir = Path(WORKDIR.value or f"runs/{config.name}")
    how = {"together": together, "worker": WORKER.value, "tensorboard": TENSORBOARD.value}
    executor = command.start(config, workdir, name, parameters, **how)
    speaks = is_first() and not WORKER.value
    executed_by = name if DRY_RUN.value else ""
    for line in command.plan(config, notices, workdir, executed_by) if speaks else ():
        print(line, flush=True)
    status = 0 if DRY_RUN.value else _train(config, workdir, executor, speaks)
    if together is not None:
        leave()
    return status


def _train(config, workdir: Path, executor, speaks: bool) -> int:
    from persist_jax.sweep import command
    from persist_jax.sweep.distributed import is_first, largest

    how = {"worker": WORKER.value, "compilation_cache": COMPILATION_CACHE.value}
    how |= {"wait": WAIT.value, "tensorboard": TENSORBOARD.value, "profile": PROFILE.value}
    with INTERRUPTION.deferred() as must_stop:
        try:
            finished, costs = command.train(config, workdir, must_stop, executor, **how)
        except ChildProcessError:
            if WORKER.value:  # the command that started it says which runs are missing
                return 2
            raise
    if finished and is_first():
        from persist_jax.results.report import refresh_report
        from persist_jax.sweep.costs import in_words

        lines = refresh_report(workdir, config.report, BEGAN_AT)
        lines += [in_words(costs, time.perf_counter() - BEGAN)] if costs else []
        print(*lines if speaks else (), sep="\n", end="\n" if speaks else "")
    if finished:
        return 0
    status = largest(INTERRUPTION.status)  # any of several processes may have had the signal
    if speaks and status:
        print(f"Saved. The same command goes on from here: {workdir}")
    elif speaks and not executor:
        print(f"Other processes train the rest; the last one writes the report: {workdir}")
    return status


if __name__ == "__main__":
    run(main)
