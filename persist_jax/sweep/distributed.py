"""One run over several processes: JAX's own runtime, and what the first process tells the others.

Every process trains the same lanes, each on its share of every batch. The first one alone reads and
writes the sweep's folder; what the others have to know of it, they are told.
"""

import json
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

# Seconds until a process that is silent counts as dead, and all others end.
HEARTBEAT = 30


def join(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Make this process one of several; before anything else of JAX.

    Args:
        coordinator_address: host and port of the first process; without it all three are found in
            the environment, as SLURM, Open MPI or Kubernetes set it.
        num_processes: how many there are.
        process_id: which one this is, from 0.

    Raises:
        ValueError: one line that names what is not known.
        ConnectionError: one line; the others were not there in time.
    """
    own = {"coordinator_address": coordinator_address, "num_processes": num_processes}
    own |= {"process_id": process_id}
    try:
        jax.distributed.initialize(**own, heartbeat_timeout_seconds=HEARTBEAT)
    except ValueError as error:
        missing = ", ".join(f"--{name}" for name, value in own.items() if value is None)
        raise ValueError(
            f"--distributed: {error} This is no job of SLURM, Open MPI or Kubernetes: set {missing}"
        ) from None
    except RuntimeError as error:
        words = " ".join(str(error).split())[:200]
        raise ConnectionError(
            f"--coordinator_address: the processes did not meet there ({words})"
        ) from None
    _meet()


def _meet() -> None:
    """Connect all devices now: who trains first waits for the others for half a minute only."""
    told(None)
    total = jax.pmap(lambda x: jax.lax.psum(x, "devices"), "devices", devices=jax.devices())
    total(np.ones(jax.local_device_count())).block_until_ready()


def leads() -> bool:
    """Whether this process is the first, or the only one."""
    return jax.process_index() == 0


def several() -> bool:
    """Whether there are others."""
    return jax.process_count() > 1


def told(value: Any) -> Any:
    """What the first process says, which is plain values; everyone has to ask."""
    if not several():
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    if not leads():
        text = np.zeros(size, np.uint8)
    return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(text)).tobytes())


def told_arrays(tree: PyTree) -> PyTree:
    """The first process's arrays, to the bit; the others' have the same shapes and dtypes."""
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, tree))
    if not leaves:
        return tree
    # A broadcast is a sum, which does not keep every bit of a float.
    bits = np.concatenate([leaf.reshape(-1).view(np.uint8) for leaf in leaves])
    bits = np.asarray(multihost_utils.broadcast_one_to_all(bits))
    parts = np.split(bits, np.cumsum([leaf.nbytes for leaf in leaves])[:-1])
    return structure.unflatten(
        [
            part.view(leaf.dtype).reshape(leaf.shape)
            for part, leaf in zip(parts, leaves, strict=True)
        ]
    )


def most(number: int) -> int:
    """The largest of all processes' numbers; everyone has to ask."""
    return int(multihost_utils.process_allgather(np.int32(number)).max()) if several() else number


def leave() -> None:
    """End the company once everyone is here: nobody takes the others for dead then."""
    jax.distributed.shutdown()
