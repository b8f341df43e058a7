"""Ways to start a sweep's command several times: on this machine, or on a cluster.

The folder alone says what there is to do and what is done. Another executor is a function here,
under a name.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from persist_jax._plumbing.registry import Registry
from persist_jax.sweep.executors import ray as ray_tasks
from persist_jax.sweep.executors import slurm as slurm_jobs
from persist_jax.sweep.executors.processes import processes
from persist_jax.sweep.executors.workers import Executor

# `package` imports what an executor needs, or says in one line how to install it.
EXECUTORS: Registry[dict] = Registry("executor")
EXECUTORS.register("processes", package=lambda: None)(processes)
EXECUTORS.register("slurm", package=slurm_jobs.submitit)(slurm_jobs.slurm)
EXECUTORS.register("ray", package=ray_tasks.package)(ray_tasks.ray)


def choose_executor(name: str, parameters: Mapping[str, Any]) -> Executor:
    """An executor with its parameters: the keyword-only arguments of its function.

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
    entry.properties["package"]()
    return partial(entry.function, **checked)
