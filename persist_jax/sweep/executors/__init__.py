"""Executors: start a sweep's command several times, on this machine or on a cluster.

Workers coordinate through the sweep's folder alone. To add an executor, register a function here.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from persist_jax._plumbing.registry import Registry
from persist_jax.sweep.executors import ray as ray_tasks
from persist_jax.sweep.executors import slurm as slurm_jobs
from persist_jax.sweep.executors.processes import processes
from persist_jax.sweep.executors.workers import Executor

# `package` imports the package that an executor needs, or says how to install it.
EXECUTORS: Registry[dict] = Registry("executor")
EXECUTORS.register("processes", package=lambda: None)(processes)
EXECUTORS.register("slurm", package=slurm_jobs.submitit)(slurm_jobs.slurm)
EXECUTORS.register("ray", package=ray_tasks.package)(ray_tasks.ray)


def choose_executor(name: str, parameters: Mapping[str, Any]) -> Executor:
    """Return an executor with its parameters, the keyword-only arguments of its function.

    Raises:
        ValueError: the name or a parameter is wrong; one line with the choices.
        ImportError: its package is missing; one line says how to install it.

    Example:
        >>> choose_executor("processes", {"workers": 0})
        Traceback (most recent call last):
        ValueError: workers: 0 must be at least 1
    """
    entry = EXECUTORS[name]
    checked = entry.parameters(parameters, "")
    entry.properties["package"]()
    return partial(entry.function, **checked)
