"""Compiled programs kept on disk, so that the next process need not compile them again."""

import hashlib
import platform
from pathlib import Path

import jax
import jaxlib


def use_compilation_cache(cache: Path) -> Path:
    """Let JAX keep every program that this process compiles, and take those that it kept before.

    A program holds instructions of one processor, and its format belongs to one jaxlib: each pair
    of them has a folder of its own. A program from there is the same to the bit.

    Args:
        cache: the cache folder.

    Returns:
        The folder of the programs of this jaxlib on this machine.
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
