"""The cache folder: what is converted once, checked whenever it is read.

Conversion needs TensorFlow, so it runs in a process of its own: the one that trains imports none.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

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


def entry(
    name: str,
    job: str,
    key: dict[str, Any],
    arguments: dict[str, Any],
    cache: str | os.PathLike[str] | None = None,
) -> Path:
    """Folder of a cache entry, converted first if it is missing or damaged.

    Args:
        name: first part of the folder's name.
        job: which conversion makes it, a name of `persist_jax.data.convert.JOBS`.
        key: everything the content depends on, as JSON values.
        arguments: what the conversion is called with, as JSON values.
        cache: the cache folder; see `cache_folder`.

    Returns:
        The folder, complete and with every file as it was written.

    Raises:
        ValueError: the conversion failed, or the cache folder cannot be written.
    """
    key = json.loads(json.dumps({"job": job} | key))
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    folder = cache_folder(cache) / f"{name}-{digest}"
    if _intact(folder, key):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not _intact(folder, key):
                _convert(folder, name, job, key, arguments)
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
    """
    return tuple(np.load(folder / f"{name}.npy", mmap_mode="r") for name in names)


def _convert(
    folder: Path, name: str, job: str, key: dict[str, Any], arguments: dict[str, Any]
) -> None:
    """Make the entry under another name and give it its own when it is complete."""
    print(f"converting {name} into {folder} (once)", file=sys.stderr, flush=True)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    for leftover in (unfinished, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished.mkdir()
    try:
        _run(name, job, unfinished, arguments)
        written = (path for path in sorted(unfinished.rglob("*")) if path.is_file())
        files = {path.relative_to(unfinished).as_posix(): _stamp(path) for path in written}
        record = {"key": key, "files": files}
        (unfinished / _RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _run(name: str, job: str, folder: Path, arguments: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "persist_jax.data.convert", job, str(folder)]
    package = str(Path(__file__).parents[2])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # The device belongs to the process that trains.
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        command,
        input=json.dumps(arguments),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = [line for line in lines if line.startswith("error: ")]
        last = (said or lines or [f"exit status {done.returncode}"])[-1]
        raise ValueError(f"{name}: {last.removeprefix('error: ')}")


def _stamp(path: Path) -> list[int]:
    """Size and checksum of a file."""
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            checksum = zlib.crc32(block, checksum)
    return [path.stat().st_size, checksum]


def _intact(folder: Path, key: dict[str, Any]) -> bool:
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        return record["key"] == key and all(
            _stamp(folder / name) == stamp for name, stamp in record["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False
