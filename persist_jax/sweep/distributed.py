"""Several processes that train every group together, through `jax.distributed`.

Every process runs the same program and reads the same files. The first process writes the files
and chooses the next group.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from persist_jax.store.configuration import Configuration

_PLACE = ("coordinator_address", "num_processes", "process_id")
# Seconds until a silent process counts as dead and all others exit.
HEARTBEAT = 30
_LONGEST = 1024  # bytes of a group's name


def join(given: Mapping[str, Any]) -> None:
    """Connect this process to the others; call it before any other use of JAX.

    `given` has the address of the first process, the number of processes and the id of this one.
    JAX takes missing values from the environment of SLURM, Open MPI or Kubernetes.
    """
    try:
        jax.distributed.initialize(**given, heartbeat_timeout_seconds=HEARTBEAT)
    except ValueError as error:
        missing = ", ".join(f"--{name}" for name in _PLACE if name not in given)
        raise ValueError(
            f"--distributed: {error} Not a job of SLURM, Open MPI or Kubernetes: set {missing}"
        ) from None
    except RuntimeError as error:
        words = " ".join(str(error).split())[:200]
        raise ConnectionError(
            f"--coordinator_address: the processes could not connect there ({words})"
        ) from None
    # Connect all devices now: in training, a process waits only half a minute for the others.
    total = jax.pmap(lambda x: jax.lax.psum(x, "devices"), "devices", devices=jax.devices())
    total(np.ones(jax.local_device_count())).block_until_ready()


def is_first() -> bool:
    """Return whether this process is the first or the only one: it writes the files."""
    return jax.process_index() == 0


def is_alone() -> bool:
    """Return whether this is the only process."""
    return jax.process_count() == 1


def name_of_first(name: str) -> str:
    """Return the first process's `name` on every process; all processes must call this."""
    if is_alone():
        return name
    text = np.frombuffer(name.encode().ljust(_LONGEST, b"\0"), np.uint8)
    found = np.asarray(multihost_utils.broadcast_one_to_all(text))
    return found.tobytes().rstrip(b"\0").decode()


def largest(number: int) -> int:
    """Return the largest of all processes' numbers; all processes must call this."""
    return number if is_alone() else int(multihost_utils.process_allgather(np.int32(number)).max())


def any_says(yes: bool) -> bool:
    """Return whether `yes` is true on any process; all processes must call this."""
    return bool(largest(int(yes)))


def leave() -> None:
    """Wait for all processes, then disconnect: none may report another one as dead."""
    jax.distributed.shutdown()


def check_together(config: Configuration, executor: str) -> None:
    """Refuse options that do not work with `--distributed`; the line names the flag or field."""
    if executor != "local":
        raise ValueError(
            f"--executor: {executor!r} trains groups in separate processes, --distributed trains "
            "every group in all processes; choose one of the two"
        )
    if config.parallel != "batch":
        raise ValueError(
            f"parallel: {config.parallel!r} must be 'batch' with --distributed, where all devices "
            "share each batch; to train groups on several machines, use --executor"
        )
