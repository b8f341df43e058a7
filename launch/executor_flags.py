"""The flags --executor, --workers, and those of one executor, whose name theirs begin with."""

from collections.abc import Callable
from typing import Any

from absl import flags

flags.disclaim_key_flags()  # the flags are those of the command which asks for them


def define_executor() -> Callable[[], tuple[str, dict[str, Any]]]:
    """Define the flags.

    Returns:
        What gives, once they are parsed, the executor's name and the parameters that were set.
    """
    executor = flags.DEFINE_enum(
        "executor",
        "local",
        ["local", "processes", "slurm", "ray"],
        "Where the command runs: here, or in workers that share its groups; see docs/scaling.md.",
    )
    workers = flags.DEFINE_integer("workers", None, "How many workers; not of --executor=local.")
    own = [
        flags.DEFINE_string("slurm_partition", None, "Partition of the cluster."),
        flags.DEFINE_string("slurm_account", None, "Whom the time is counted to."),
        flags.DEFINE_string("slurm_qos", None, "Quality of service."),
        flags.DEFINE_integer(
            "slurm_timeout_min", None, "Minutes until a job saves and is queued again; 240."
        ),
        flags.DEFINE_integer("slurm_cpus_per_task", None, "Cores of a job."),
        flags.DEFINE_integer("slurm_gpus_per_node", None, "GPUs of a job."),
        flags.DEFINE_float("slurm_mem_gb", None, "Memory of a job."),
        flags.DEFINE_string("slurm_jobs", None, "Folder for what tasks print; DIR/jobs."),
        flags.DEFINE_string("slurm_cluster", None, "`local`: on this machine, to try it out."),
        flags.DEFINE_string("ray_address", None, "Of the cluster; RAY_ADDRESS, else here."),
        flags.DEFINE_float("ray_num_cpus", None, "Cores of a task; 1."),
        flags.DEFINE_float("ray_num_gpus", None, "GPUs of a task, or a part of one; 0."),
        flags.DEFINE_float("ray_memory_gb", None, "Memory of a task."),
        flags.DEFINE_integer("ray_max_retries", None, "Starts of a task whose node died; 3."),
    ]

    def chosen() -> tuple[str, dict[str, Any]]:
        name = executor.value
        given = [flag for flag in own if flag.value is not None]
        for flag in given:
            if not flag.name.startswith(f"{name}_"):
                of = flag.name.partition("_")[0]
                raise ValueError(f"--{flag.name}: belongs to --executor={of}, not to {name!r}")
        if name == "local" and workers.value is not None:
            raise ValueError("--workers: belongs to --executor=processes, slurm or ray")
        parameters = {flag.name.removeprefix(f"{name}_"): flag.value for flag in given}
        return name, parameters | ({} if workers.value is None else {"workers": workers.value})

    return chosen
