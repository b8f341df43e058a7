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
    """Make the CPU so many devices as the lanes of a configuration can use; before any array.

    One lane leaves most cores idle: its steps are short, and only their matrix products are
    shared out. Cores are those that this process may use, by its affinity and its container.
    Without effect on accelerators, where a person has chosen the number of devices, and where the
    devices share each batch, which costs more on cores than it gains.
    """
    chosen = _FLAG in os.environ.get("XLA_FLAGS", "") or jax.config.jax_num_cpu_devices > 0
    if not chosen and config.parallel == "lanes":
        wanted = config.devices or max(map(config.lanes_of, config.regularisers))
        jax.config.update("jax_num_cpu_devices", min(joblib.cpu_count(), wanted))


def use_nothing() -> None:
    """Take no accelerator: only workers train; to be called before any array."""
    jax.config.update("jax_platforms", "cpu")


def compilers() -> int:
    """How many programs compile side by side: one per core, half as many where cores train too."""
    cores = joblib.cpu_count()
    return max(2, cores // 2 if jax.local_devices()[0].platform == "cpu" else cores)


def cores_that_fit(device_bytes: int) -> int | None:
    """How many cores to train on, each of which takes so much memory; `None` on accelerators.

    All that fit into half of the machine's memory, whoever uses it at the moment; at least one.
    """
    present = jax.local_devices()
    if present[0].platform != "cpu":
        return None
    return max(1, min(len(present), _memory() // 2 // device_bytes))


def memory_of_a_device(device: Any) -> tuple[int, str]:
    """Bytes that a process may use on a device, and where this number comes from.

    Cores share what the machine has available, or its whole memory where the system does not say.
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
    """Let JAX keep every program that this process compiles, and take those that it kept before.

    A program holds instructions of one processor, and its format belongs to one jaxlib: each pair
    of them has a folder of its own below `cache`. A program from there is the same to the bit.
    """
    folder = cache / "programs" / f"jaxlib-{jaxlib.__version__}-{processor()}"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Small programs too: there are hundreds, and each takes as long to compile as a step to run.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def processor() -> str:
    """Kind and instruction sets of the processor, in a few characters."""
    description = [platform.machine(), platform.processor()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        # x86 and ARM call them differently; every core has the same.
        wanted = ("model name", "flags", "CPU implementer", "CPU part", "Features")
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        description += sorted({line for line in lines if line.startswith(wanted)})
    return hashlib.sha256("\n".join(description).encode()).hexdigest()[:12]
