"""Read untrusted files: check kind, size and nesting first; detect damage by size and CRC-32."""

import json
import stat
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LARGEST_JSON = 1 << 24
_DEEPEST = 100
_DIGITS = 20


def check_regular(path: Path, largest: int | None = None, *, may_be_empty: bool = True) -> None:
    """Refuse all but a regular file of at most `largest` bytes: reading a pipe would block.

    Example:
        >>> check_regular(Path("nowhere/config.json"))
        Traceback (most recent call last):
        ValueError: nowhere/config.json: no such file
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{path}: no such file") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    if stat.S_ISDIR(status.st_mode):
        raise ValueError(f"{path}: a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path}: not a regular file")
    if not may_be_empty and not status.st_size:
        raise ValueError(f"{path}: empty")
    if largest is not None and status.st_size > largest:
        raise ValueError(f"{path}: {status.st_size} bytes, at most {largest} are read")


def read_json(path: Path) -> Any:
    """Read the plain values of a JSON file.

    Raises:
        ValueError: the file is missing, is not JSON, has more than `LARGEST_JSON` bytes, repeats a
            key in one object, has an integer of more than 20 digits, or is nested more than 100
            deep; one line that names the file.
    """
    check_regular(path, LARGEST_JSON)
    try:
        values = json.loads(path.read_bytes(), parse_int=_integer, object_pairs_hook=_object)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    except RecursionError:
        raise ValueError(f"{path}: nested too deeply") from None
    _check_nesting(path, values)
    return values


def _integer(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"key {twice[:60]!r} appears twice")
    return fields


def _check_nesting(path: Path, values: Any) -> None:
    """Refuse deep nesting: callers may recurse through the values."""
    level = [[values]]
    for _ in range(_DEEPEST + 1):
        inner = [entry.values() if isinstance(entry, dict) else entry for entry in level]
        level = [e for entries in inner for e in entries if isinstance(e, dict | list)]
        if not level:
            return
    raise ValueError(f"{path}: nested more than {_DEEPEST} deep")


def read_arrays(path: Path, largest: int | None = None) -> np.ndarray | dict[str, np.ndarray]:
    """Read the array of a `.npy` file, memory-mapped, or the arrays of a `.npz` file by name.

    A `.npz` file may unpack to at most `largest` bytes; by default to the size of the file, since
    `np.savez` does not compress.
    """
    check_regular(path)
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            most = path.stat().st_size if largest is None else largest
            unpacked = sum(member.file_size for member in loaded.zip.infolist())
            if unpacked > most:
                raise ValueError(f"it unpacks to {unpacked} bytes, at most {most} are read")
            arrays = dict(loaded)
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray):
                raise ValueError(f"{name[:60]!r} is not an array")
        return arrays
    # NumPy passes its parsers' errors on: TokenError, zlib.error, struct.error, ...
    except Exception as error:
        reason = " ".join(f"{error}".split())[:200]
        raise ValueError(f"{path}: damaged ({type(error).__name__}: {reason})") from None


def stamp(path: Path) -> list[int]:
    """Return the size in bytes and the CRC-32 of a file."""
    size, checksum = 0, 0
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            checksum = zlib.crc32(block, checksum)
            size += len(block)
    return [size, checksum]


def stamps(folder: Path) -> dict[str, list[int]]:
    """Return the stamp of every file below a folder, by its path relative to the folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): stamp(path) for path in files}


def first_damaged(folder: Path, written: Mapping[str, Sequence[int]]) -> str | None:
    """Return the first file below a folder that does not match its stamp; None if all match.

    A path that leads out of the folder or is not a regular file counts as damaged and is never
    opened. A file of another size is not read.
    """
    for name, expected in written.items():
        path = folder / name
        try:
            check_regular(path)
            outside = Path(name).is_absolute() or ".." in Path(name).parts
            if outside or path.stat().st_size != expected[0] or stamp(path) != list(expected):
                return name
        except (OSError, ValueError):
            return name
    return None
