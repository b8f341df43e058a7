"""The resources of this machine: cores as devices, memory, a cache of compiled programs."""

import hashlib
import os
import platform
import re
from pathlib import Path
from typing import Any

import jax
import jaxlib
import joblib

from persist_jax.store.configuration import Configuration

_FLAG = "xla_force_host_platform_device_count"


def use_cores(config: Configuration) -> None:
    """Split the CPU into one device per lane, at most one per core; call it before any array.

    One lane leaves most cores idle: its steps are short, and only their matrix products run in
    parallel. The cores are those that this process may use, by its affinity and container. It does
    nothing for accelerators, if the user has set the number of devices, or if the devices share
    each batch, which is slower on cores.
    """
    chosen = _FLAG in os.environ.get("XLA_FLAGS", "") or jax.config.jax_num_cpu_devices > 0
    if not chosen and config.parallel == "lanes":
        wanted = config.devices or max(map(config.lanes_of, config.regularisers))
        jax.config.update("jax_num_cpu_devices", min(joblib.cpu_count(), wanted))


def use_nothing() -> None:
    """Use no accelerator, because only workers train; call it before any array."""
    jax.config.update("jax_platforms", "cpu")


def compilers() -> int:
    """Return how many programs compile in parallel: one per core, half of that if cores train."""
    cores = joblib.cpu_count()
    return max(2, cores // 2 if jax.local_devices()[0].platform == "cpu" else cores)


def cores_that_fit(device_bytes: int) -> int | None:
    """Return how many cores to train on; `None` on accelerators.

    As many as fit into half of the machine's total memory, at `device_bytes` each; at least one.
    """
    present = jax.local_devices()
    if present[0].platform != "cpu":
        return None
    return max(1, min(len(present), _memory() // 2 // device_bytes))


def memory_of_a_device(device: Any) -> tuple[int, str]:
    """Return the bytes that a process may use on a device, and a text on their source.

    Cores share the machine's available memory, or its total memory if the former is not known.
    """
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"], "that JAX may use of a device"
    meminfo = Path("/proc/meminfo")
    text = meminfo.read_text(encoding="utf-8") if meminfo.exists() else ""
    if found := re.search(r"^MemAvailable: +(\d+) kB$", text, re.M):
        return int(found[1]) * 1024, "available on this machine"
    return _memory(), "in this machine"


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def use_compilation_cache(cache: Path) -> Path:
    """Have JAX cache every compiled program on disk; return the folder.

    A program holds instructions of one processor in the format of one jaxlib, so each such pair has
    its own folder below `cache`. Cached programs give the same results, bit for bit.
    """
    folder = cache / "programs" / f"jaxlib-{jaxlib.__version__}-{processor()}"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Small programs too: there are hundreds, and compiling one takes as long as a training step.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def processor() -> str:
    """Return a short hash of the processor's model and instruction sets."""
    description = [platform.machine(), platform.processor()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        # x86 and ARM have different names for these fields; all cores have the same values.
        wanted = ("model name", "flags", "CPU implementer", "CPU part", "Features")
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        description += sorted({line for line in lines if line.startswith(wanted)})
    return hashlib.sha256("\n".join(description).encode()).hexdigest()[:12]
