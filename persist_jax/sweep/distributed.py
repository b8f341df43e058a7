"""One sweep over several processes that train every group together, as JAX's own runtime has it.

Every process runs the same program and reads the same files. The first one writes them, and says
which group is next.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from persist_jax.store.configuration import Configuration

_PLACE = ("coordinator_address", "num_processes", "process_id")
# Seconds until a process that is silent counts as dead, and all others end.
HEARTBEAT = 30
_LONGEST = 1024  # bytes of a group's name


def join(given: Mapping[str, Any]) -> None:
    """Make this process one of several; before anything else of JAX.

    Host and port of the first process, the number of processes and that of this one are given, or
    found in the environment, as SLURM, Open MPI or Kubernetes set it.
    """
    try:
        jax.distributed.initialize(**given, heartbeat_timeout_seconds=HEARTBEAT)
    except ValueError as error:
        missing = ", ".join(f"--{name}" for name in _PLACE if name not in given)
        raise ValueError(
            f"--distributed: {error} This is no job of SLURM, Open MPI or Kubernetes: set {missing}"
        ) from None
    except RuntimeError as error:
        words = " ".join(str(error).split())[:200]
        raise ConnectionError(
            f"--coordinator_address: the processes did not meet there ({words})"
        ) from None
    # Connect all devices now: the first to train waits for the others for half a minute only.
    total = jax.pmap(lambda x: jax.lax.psum(x, "devices"), "devices", devices=jax.devices())
    total(np.ones(jax.local_device_count())).block_until_ready()


def is_first() -> bool:
    """Whether this process is the first, or the only one: the one that writes."""
    return jax.process_index() == 0


def is_alone() -> bool:
    """Whether there are no others."""
    return jax.process_count() == 1


def name_of_first(name: str) -> str:
    """The first process's name, on every process; all of them have to call this."""
    if is_alone():
        return name
    text = np.frombuffer(name.encode().ljust(_LONGEST, b"\0"), np.uint8)
    found = np.asarray(multihost_utils.broadcast_one_to_all(text))
    return found.tobytes().rstrip(b"\0").decode()


def largest(number: int) -> int:
    """The largest of all processes' numbers; all of them have to call this."""
    return number if is_alone() else int(multihost_utils.process_allgather(np.int32(number)).max())


def any_says(yes: bool) -> bool:
    """Whether any process says yes; all of them have to call this."""
    return bool(largest(int(yes)))


def leave() -> None:
    """Wait for all processes, then disconnect, so that none reports another one as dead."""
    jax.distributed.shutdown()


def check_together(config: Configuration, executor: str) -> None:
    """Refuse what processes cannot train together, in a line that names the flag or the field."""
    if executor != "local":
        raise ValueError(
            f"--executor: {executor!r} trains groups apart, the processes of --distributed every "
            "group together; choose one of the two"
        )
    if config.parallel != "batch":
        raise ValueError(
            f"parallel: {config.parallel!r} must be 'batch' with --distributed, where all devices "
            "share each batch; groups on several machines are --executor's"
        )
