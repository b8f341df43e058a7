"""Train every run of a grid that has no result yet, then write the report.

    python -m launch.sweep --config=configs/pgdl.py [--config.FIELD=VALUE ...] [--workdir=DIR]

Start the same command several times, on one or more machines that see DIR, to share the work.
"""

import time
from itertools import chain
from pathlib import Path

from .command_line import INTERRUPTION, flags, run
from .configuration_file import define_config, read_given
from .executor_flags import define_distributed, define_executor

BEGAN, BEGAN_AT = time.perf_counter(), time.time()
define_config("A file, or the name of one of configs/.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for results; default runs/<config name>.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the plan and stop.")
COMPILATION_CACHE = flags.DEFINE_bool(
    "compilation_cache", True, "Keep compiled programs in the cache folder for later commands."
)
TENSORBOARD = flags.DEFINE_bool(
    "tensorboard", False, "Write event files to DIR/tensorboard; needs the extra `watch`."
)
PROFILE = flags.DEFINE_bool(
    "profile", False, "Profile the second epoch of the first group, into DIR/profile."
)
WAIT = flags.DEFINE_bool(
    "wait", True, "Wait for groups that other processes train, in case a process dies."
)
WORKER = flags.DEFINE_bool("worker", False, "Set by executors for their workers.")
CHOSEN_EXECUTOR = define_executor()
DISTRIBUTED = define_distributed()


def main() -> int | None:
    # Slow imports only after the flags are parsed.
    from persist_jax.sweep import command
    from persist_jax.sweep.distributed import is_first, largest, leave
    from persist_jax.sweep.plan import describe, dry_run

    # A worker has its starter's flags, --executor too, but trains itself.
    name, parameters = ("local", {}) if WORKER.value else CHOSEN_EXECUTOR()
    together, (config, notices) = DISTRIBUTED(), read_given()
    workdir = Path(WORKDIR.value or f"runs/{config.name}")
    executor = command.start(
        config, workdir, name, parameters,
        together=together, worker=WORKER.value, tensorboard=TENSORBOARD.value,
    )  # fmt: skip
    speaks = is_first() and not WORKER.value
    lines = [notices, describe(config, workdir)]
    if DRY_RUN.value:
        lines.append(dry_run(config, workdir, name))
    for line in chain(*lines) if speaks else ():
        print(line, flush=True)
    if DRY_RUN.value:
        return leave() if together is not None else 0
    with INTERRUPTION.deferred() as must_stop:
        try:
            finished, costs = command.train(
                config, workdir, must_stop, executor,
                wait=WAIT.value, worker=WORKER.value, tensorboard=TENSORBOARD.value,
                profile=PROFILE.value, compilation_cache=COMPILATION_CACHE.value,
            )  # fmt: skip
        except ChildProcessError:
            if WORKER.value:  # its starter prints which runs are missing
                return 2
            raise
    status = 0 if finished else largest(INTERRUPTION.status)  # any process may have got the signal
    lines = [f"Saved. Run the same command again to resume: {workdir}"] if status else []
    if not finished and not status and not executor:
        lines = [f"Other processes train the rest; the last one writes the report: {workdir}"]
    if finished and is_first():
        from persist_jax.results.report import refresh_report
        from persist_jax.sweep.watching import in_words

        lines = refresh_report(workdir, config.report, BEGAN_AT)
        lines += [in_words(costs, time.perf_counter() - BEGAN)] if costs else []
    for line in lines if speaks else ():
        print(line)
    if together is not None:
        leave()
    return status


if __name__ == "__main__":
    run(main)
