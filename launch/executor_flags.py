"""Flags of the executors and of --distributed."""

from collections.abc import Callable
from functools import partial
from typing import Any

from absl import flags

flags.disclaim_key_flags()  # so that --help lists the flags for the command that defines them

_TEXT, _COUNT, _NUMBER = flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_float
_OWN = (
    (_TEXT, "slurm_partition", "Partition of the cluster."),
    (_TEXT, "slurm_account", "Account that the time is charged to."),
    (_TEXT, "slurm_qos", "Quality of service."),
    (_COUNT, "slurm_timeout_min", "Minutes until a job saves and is queued again; 240."),
    (_COUNT, "slurm_cpus_per_task", "Cores of a job."),
    (_COUNT, "slurm_gpus_per_node", "GPUs of a job."),
    (_NUMBER, "slurm_mem_gb", "Memory of a job."),
    (_TEXT, "slurm_jobs", "Folder for the output of tasks; DIR/jobs."),
    (_TEXT, "slurm_cluster", "`local`: run on this machine, for a test."),
    (_TEXT, "ray_address", "Address of the cluster; RAY_ADDRESS, else local."),
    (_NUMBER, "ray_num_cpus", "Cores of a task; 1."),
    (_NUMBER, "ray_num_gpus", "GPUs of a task, or a part of one; 0."),
    (_NUMBER, "ray_memory_gb", "Memory of a task."),
    (_COUNT, "ray_max_retries", "Restarts of a task whose node died; 3."),
)
_TOGETHER = (
    (_TEXT, "coordinator_address", "Host:port of process 0."),
    (partial(_COUNT, lower_bound=1), "num_processes", "Number of processes."),
    (partial(_COUNT, lower_bound=0), "process_id", "Number of this process, from 0."),
)


def define_executor() -> Callable[[], tuple[str, dict[str, Any]]]:
    """Define --executor and its flags; return a function for its name and flags, once parsed."""
    executor = flags.DEFINE_enum(
        "executor",
        "local",
        ["local", "processes", "slurm", "ray"],
        "Train in this process, or in workers that share the groups; see docs/scaling.md.",
    )
    workers = _COUNT("workers", None, "Number of workers; not for --executor=local.")
    own = [define(name, None, words) for define, name, words in _OWN]

    def chosen() -> tuple[str, dict[str, Any]]:
        name, given = executor.value, [flag for flag in own if flag.value is not None]
        for flag in given:
            if not flag.name.startswith(f"{name}_"):
                of = flag.name.partition("_")[0]
                raise ValueError(f"--{flag.name}: belongs to --executor={of}, not to {name!r}")
        if name == "local" and workers.value is not None:
            raise ValueError("--workers: belongs to --executor=processes, slurm or ray")
        parameters = {flag.name.removeprefix(f"{name}_"): flag.value for flag in given}
        return name, parameters | ({} if workers.value is None else {"workers": workers.value})

    return chosen


def define_distributed() -> Callable[[], dict[str, Any] | None]:
    """Define --distributed; return a function for its flags, `None` without --distributed."""
    distributed = flags.DEFINE_bool(
        "distributed", False, "Train each run in several processes; see docs/scaling.md."
    )
    own = [define(name, None, words) for define, name, words in _TOGETHER]

    def wanted() -> dict[str, Any] | None:
        given = {flag.name: flag.value for flag in own if flag.value is not None}
        if given and not distributed.value:
            raise ValueError(f"--{next(iter(given))}: belongs to --distributed")
        return given if distributed.value else None

    return wanted
