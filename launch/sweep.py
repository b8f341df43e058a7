"""Train every run of a grid that has no result yet, then write the report.

    python -m launch.sweep --config=configs/pgdl.py [--config.FIELD=VALUE ...] [--workdir=DIR]
"""

from pathlib import Path

from absl import flags
from filelock import FileLock, Timeout
from ml_collections import config_flags

from launch.command_line import fail, run

CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where results go; default runs/<config name>.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the plan and stop.")
flags.mark_flag_as_required("config")


def main() -> int:
    # After the flags, so that --help and a mistyped one answer at once.
    from persist_jax.experiment import load_experiment
    from persist_jax.grid import settle_config
    from persist_jax.interruption import stop_on_signals
    from persist_jax.results.report import write_report
    from persist_jax.results.statistics import check_options
    from persist_jax.sweep import Sweep

    overridden = config_flags.get_override_values(flags.FLAGS["config"])
    experiment = load_experiment(CONFIG.value, overridden)
    report = experiment.config["report"]
    check_options(**report)
    workdir = Path(WORKDIR.value or f"runs/{experiment.config['name']}")
    sweep = Sweep(experiment, workdir)
    for line in (*experiment.notices, *sweep.describe()):
        print(line, flush=True)
    if DRY_RUN.value:
        return 0
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(workdir / "lock", timeout=0), stop_on_signals() as stop:
            settle_config(experiment.config, workdir)
            if not sweep.train(stop):
                print(f"Saved. The same command goes on from here: {workdir}")
                return stop.exit_status
            print(f"Report: {write_report([workdir], **report)}")
    except Timeout:
        return fail(f"workdir: {workdir} is in use by another sweep")
    return 0


if __name__ == "__main__":
    run(main)
