"""Who trains the groups of a sweep: this process, others on this machine, or a cluster.

Each takes groups and trains them by `persist_jax.sweep.group.train_group`; what passes between
processes is the sweep's folder. Another one is a function here, under a name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from persist_jax._plumbing.registry import Registry
from persist_jax.sweep.executors import ray as ray_tasks
from persist_jax.sweep.executors import slurm as slurm_jobs
from persist_jax.sweep.executors.local import local
from persist_jax.sweep.executors.processes import processes
from persist_jax.sweep.executors.work import Executor, Failure, Outcome, Work

__all__ = ["EXECUTORS", "Executor", "Failure", "Outcome", "Work", "choose_executor"]


@dataclass(frozen=True)
class Properties:
    """What is known of an executor beside its function.

    Attributes:
        package: imports the package that it needs, or raises one line on how to install it.
    """

    package: Callable[[], object] = lambda: None


EXECUTORS: Registry[Properties] = Registry("executor", Properties)
EXECUTORS.register("local")(local)
EXECUTORS.register("processes")(processes)
EXECUTORS.register("slurm", package=slurm_jobs.submitit)(slurm_jobs.slurm)
EXECUTORS.register("ray", package=ray_tasks.package)(ray_tasks.ray)


def choose_executor(name: str, parameters: Mapping[str, Any]) -> Executor:
    """An executor with its parameters.

    Args:
        name: of `EXECUTORS`.
        parameters: its keyword-only arguments, by name.

    Raises:
        ValueError: one line that names what is wrong, and the choices.
        ImportError: one line on how to install the package that it needs.

    Example:
        >>> choose_executor("processes", {"workers": 0})
        Traceback (most recent call last):
        ValueError: workers: 0 must be at least 1
    """
    entry = EXECUTORS[name]
    checked = entry.parameters(parameters, "")
    entry.properties.package()
    return partial(entry.function, **checked)
