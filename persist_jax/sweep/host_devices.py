"""The cores of a machine as devices, so that lanes train on all of them."""

import os
import re
from pathlib import Path
from typing import Any

import jax
import joblib

from persist_jax.store.configuration import Configuration
from persist_jax.sweep.grid import most_lanes

_FLAG = "xla_force_host_platform_device_count"


def use_cores(config: Configuration) -> None:
    """Make the CPU so many devices as the lanes of a configuration can use; before any array.

    One lane leaves most cores idle: its steps are short, and only their matrix products are
    shared out. Cores are those that this process may use, by its affinity and its container.
    Without effect on accelerators, where a person has chosen the number of devices, and where the
    devices share each batch, which costs more on cores than it gains.
    """
    chosen = _FLAG in os.environ.get("XLA_FLAGS", "") or jax.config.jax_num_cpu_devices > 0
    if not chosen and config.parallel == "lanes":
        wanted = config.devices or most_lanes(config)
        jax.config.update("jax_num_cpu_devices", min(joblib.cpu_count(), wanted))


def compilers() -> int:
    """How many programs compile side by side: one per core, two at least.

    Half as many where the cores train as well.
    """
    cores = joblib.cpu_count()
    return max(2, cores // 2 if jax.local_devices()[0].platform == "cpu" else cores)


def use_nothing() -> None:
    """Leave all accelerators to the processes that train; before any array."""
    jax.config.update("jax_platforms", "cpu")


def cores_that_fit(device_bytes: int) -> int | None:
    """How many devices to train on, where devices are cores, which share one memory.

    Args:
        device_bytes: memory that training takes on each.

    Returns:
        All that fit into half of the machine's memory, whoever uses it now, but at least one;
        `None` for accelerators.
    """
    present = jax.local_devices()
    if present[0].platform != "cpu":
        return None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(present), memory // 2 // device_bytes))


def memory_of_a_device(device: Any) -> tuple[int, str]:
    """Bytes that a process may have on a device, and whose number that is, in words.

    Cores share what the machine has available now, or its whole memory where the system does not
    say.
    """
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"], "that JAX may use of a device"
    meminfo = Path("/proc/meminfo")
    text = meminfo.read_text(encoding="utf-8") if meminfo.exists() else ""
    if found := re.search(r"^MemAvailable: +(\d+) kB$", text, re.M):
        return int(found[1]) * 1024, "available on this machine"
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return total, "in this machine"
