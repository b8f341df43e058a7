"""The cache folder: data is converted once, and checked whenever it is read.

Conversion needs TensorFlow, which the training process must not import: it runs in a subprocess.
"""

import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from persist_jax._plumbing import plain_files

_RECORD = "entry.json"


def cache_folder(cache: str | os.PathLike[str] | None = None) -> Path:
    """Return the cache folder: `cache`, else `PERSIST_JAX_CACHE`, else `~/.cache/persist_jax`.

    Args:
        cache: the folder, or None.

    Returns:
        Its absolute path; it need not exist.

    Example:
        >>> cache_folder("/tmp/cache").as_posix()
        '/tmp/cache'
    """
    chosen = cache or os.environ.get("PERSIST_JAX_CACHE") or "~/.cache/persist_jax"
    return Path(chosen).expanduser().absolute()


@dataclass(frozen=True)
class Conversion:
    """A conversion that makes one cache entry.

    Attributes:
        name: first part of the name of the entry's folder.
        module: the module that converts, run as `python -m`; see `persist_jax.data.convert`.
        job: the name of the conversion in that module.
        key: everything the content depends on, as JSON values.
        arguments: arguments of the conversion, as JSON values.
    """

    name: str
    module: str
    job: str
    key: dict[str, Any]
    arguments: dict[str, Any]

    @functools.cached_property
    def full_key(self) -> dict[str, Any]:
        """Return the key as the entry's record holds it."""
        return json.loads(json.dumps({"job": self.job} | self.key))

    def folder(self, cache: str | os.PathLike[str] | None = None) -> Path:
        """Return the entry's folder, which need not exist.

        Args:
            cache: the cache folder; see `cache_folder`.
        """
        text = json.dumps(self.full_key, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return cache_folder(cache) / f"{self.name}-{digest}"

    def is_done(self, cache: str | os.PathLike[str] | None = None) -> bool:
        """Return whether the entry exists and all its files are intact."""
        folder = self.folder(cache)
        try:
            record = plain_files.read_json(folder / _RECORD)
            damaged = plain_files.first_damaged(folder, record["files"])
            return record["key"] == self.full_key and damaged is None
        except (ValueError, LookupError, TypeError, AttributeError):
            return False


def entry(conversion: Conversion, cache: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of a cache entry; convert it first if it is missing or damaged.

    Args:
        conversion: the conversion that makes the entry.
        cache: the cache folder; see `cache_folder`.

    Returns:
        The folder, complete and intact.

    Raises:
        ValueError: the conversion failed, or the cache folder cannot be written.
    """
    folder = conversion.folder(cache)
    if conversion.is_done(cache):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not conversion.is_done(cache):
                _convert(conversion, folder)
    except OSError as error:
        raise ValueError(f"cache folder {folder.parent}: {error}") from None
    return folder


def read_arrays(folder: Path, names: tuple[str, ...]) -> tuple[np.ndarray, ...]:
    """Read arrays of a cache entry, memory-mapped.

    Args:
        folder: the entry's folder.
        names: names of the arrays, without `.npy`.

    Returns:
        The arrays.

    Raises:
        ValueError: an array is missing or damaged; the line names its file.
    """
    return tuple(plain_files.read_arrays(folder / f"{name}.npy") for name in names)


def _convert(conversion: Conversion, folder: Path) -> None:
    """Convert into a temporary folder and rename it when it is complete."""
    print(f"converting {conversion.name} into {folder} (once)", file=sys.stderr, flush=True)
    name = f".{folder.name}.unfinished"
    for leftover in (folder, *folder.parent.glob(f"{name}*")):
        shutil.rmtree(leftover, ignore_errors=True)
    # With this process's id: a conversion whose parent was killed may still be writing.
    unfinished = folder.with_name(f"{name}-{os.getpid()}")
    unfinished.mkdir()
    try:
        _run(conversion, unfinished)
        record = {"key": conversion.full_key, "files": plain_files.stamps(unfinished)}
        (unfinished / _RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _run(conversion: Conversion, folder: Path) -> None:
    command = [sys.executable, "-m", conversion.module, conversion.job, str(folder)]
    package = str(Path(__file__).parents[2])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # Otherwise TensorFlow imports Keras, which takes half as long again and is not used.
        "TF_USE_LEGACY_KERAS": "1",
        # The GPU belongs to the training process.
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_PLATFORMS": "cpu",
    }
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes) as child:
        try:
            said = _converse(child, f"{json.dumps(conversion.arguments)}\n")
        except BaseException:
            child.kill()
            raise
    if child.returncode == -signal.SIGINT:
        # Ctrl-C also reached this process, whose handler may only have noted it.
        raise KeyboardInterrupt
    if child.returncode:
        lines = [line for line in said.splitlines() if line.strip()]
        ours = [line for line in lines if line.startswith("error: ")]
        last = (ours or lines or [f"exit status {child.returncode}"])[-1]
        raise ValueError(f"{conversion.name}: {last.removeprefix('error: ')}")


def _converse(child: subprocess.Popen, arguments: str) -> str:
    """Send a conversion its arguments, wait for it and return its standard error.

    Its standard input stays open meanwhile: if this process is killed, the input closes and the
    conversion exits.
    """
    with suppress(BrokenPipeError):
        child.stdin.write(arguments.encode())
        child.stdin.flush()
    said = child.stderr.read().decode(errors="replace")
    child.wait()
    with suppress(BrokenPipeError):
        child.stdin.close()
    return said
