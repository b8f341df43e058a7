"""The cache folder: what is converted once, checked whenever it is read.

Conversion needs TensorFlow, so it runs in a process of its own: the one that trains imports none.
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
    """The cache folder: the argument, else `PERSIST_JAX_CACHE`, else `~/.cache/persist_jax`.

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
    """The parameters that make an entry of the cache.

    Attributes:
        name: first part of the entry's folder.
        module: the module that converts, run as `python -m`; see `persist_jax.data.convert`.
        job: which of its conversions.
        key: everything the content depends on, as JSON values.
        arguments: what the conversion is called with, as JSON values.
    """

    name: str
    module: str
    job: str
    key: dict[str, Any]
    arguments: dict[str, Any]

    @functools.cached_property
    def full_key(self) -> dict[str, Any]:
        """The key as the entry's record has it."""
        return json.loads(json.dumps({"job": self.job} | self.key))

    def folder(self, cache: str | os.PathLike[str] | None = None) -> Path:
        """Where the entry lies, whether or not it is there.

        Args:
            cache: the cache folder; see `cache_folder`.
        """
        text = json.dumps(self.full_key, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return cache_folder(cache) / f"{self.name}-{digest}"

    def is_done(self, cache: str | os.PathLike[str] | None = None) -> bool:
        """Whether the entry is there with every file as it was written."""
        folder = self.folder(cache)
        try:
            record = plain_files.read_json(folder / _RECORD)
            damaged = plain_files.first_damaged(folder, record["files"])
            return record["key"] == self.full_key and damaged is None
        except (ValueError, LookupError, TypeError, AttributeError):
            return False


def entry(conversion: Conversion, cache: str | os.PathLike[str] | None = None) -> Path:
    """Folder of a cache entry, converted first if it is missing or damaged.

    Args:
        conversion: what makes it.
        cache: the cache folder; see `cache_folder`.

    Returns:
        The folder, complete and with every file as it was written.

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
    """Arrays of a cache entry, mapped from disk.

    Args:
        folder: the entry.
        names: names of the arrays, without `.npy`.

    Returns:
        The arrays.

    Raises:
        ValueError: an array is missing or damaged; the line names its file.
    """
    return tuple(plain_files.read_arrays(folder / f"{name}.npy") for name in names)


def _convert(conversion: Conversion, folder: Path) -> None:
    """Make the entry under another name and give it its own when it is complete."""
    print(f"converting {conversion.name} into {folder} (once)", file=sys.stderr, flush=True)
    name = f".{folder.name}.unfinished"
    for leftover in (folder, *folder.parent.glob(f"{name}*")):
        shutil.rmtree(leftover, ignore_errors=True)
    # Of this process alone: a conversion whose parent was killed may write for a moment longer.
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
        # The device belongs to the process that trains.
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
        # Ctrl-C reaches the child as well, and may be only noted here.
        raise KeyboardInterrupt
    if child.returncode:
        lines = [line for line in said.splitlines() if line.strip()]
        ours = [line for line in lines if line.startswith("error: ")]
        last = (ours or lines or [f"exit status {child.returncode}"])[-1]
        raise ValueError(f"{conversion.name}: {last.removeprefix('error: ')}")


def _converse(child: subprocess.Popen, arguments: str) -> str:
    """Hand a conversion its arguments and hear it out.

    Its standard input stays open until it has ended: where that closes before, this process has
    been killed, and the conversion ends too.
    """
    with suppress(BrokenPipeError):
        child.stdin.write(arguments.encode())
        child.stdin.flush()
    said = child.stderr.read().decode(errors="replace")
    child.wait()
    with suppress(BrokenPipeError):
        child.stdin.close()
    return said
