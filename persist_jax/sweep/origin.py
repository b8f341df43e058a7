"""Describe the machine and versions of this process: the last bits of a run depend on them."""

import functools
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax
import joblib

from persist_jax.store.configuration import fixed_checksum
from persist_jax.store.record import Origin
from persist_jax.sweep.experiment import Experiment
from persist_jax.sweep.machine import processor
from persist_jax.sweep.reading import free_fields

_PACKAGES = ("flax", "jax", "jaxlib", "numpy", "optax", "persist_jax")
_CODE = Path(__file__).parents[1]


def origin_of(experiment: Experiment, network: str, regulariser: str) -> Origin:
    """Return the origin of the runs of a network and a regulariser that this process trains."""
    devices = experiment.programs(network, regulariser).layout.devices
    config = experiment.config
    kind, chosen = devices[0].device_kind, experiment.options(network).matmul_precision
    return Origin(
        device=f"{kind} {processor()}" if devices[0].platform == "cpu" else kind,
        devices=len(devices),
        processes=jax.process_count(),
        cores=joblib.cpu_count(),
        # With "default", JAX's own setting applies.
        matmul_precision=chosen
        if chosen != "default"
        else jax.config.jax_default_matmul_precision or chosen,
        versions={"python": platform.python_version()} | _versions(),
        revision=_revision(),
        configuration=fixed_checksum(config, free_fields(config), network, regulariser),
    )


@functools.cache
def _versions() -> dict[str, str]:
    return {name: _version(name) for name in _PACKAGES}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # persist_jax may run from a folder on the path
        return "not installed"


@functools.cache
def _revision() -> str | None:
    """Return the commit of the code; `None` if it is not in its own repository."""
    if not (_CODE.parent / ".git").exists():
        return None
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("-dirty" if _git("status", "--porcelain", "--", str(_CODE)) else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(_CODE), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
