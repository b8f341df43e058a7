"""Size and CRC-32 of files, which tell a damaged one from what was written."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

Stamp = list[int]


def stamp(path: Path) -> Stamp:
    """Size in bytes and CRC-32 of a file."""
    size, checksum = 0, 0
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            checksum = zlib.crc32(block, checksum)
            size += len(block)
    return [size, checksum]


def stamps(folder: Path) -> dict[str, Stamp]:
    """The stamp of every file below a folder, by its path from there."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): stamp(path) for path in files}


def first_damaged(folder: Path, written: Mapping[str, Sequence[int]]) -> str | None:
    """The first file below a folder that is missing or not as it was written; None if all are."""
    for name, expected in written.items():
        try:
            if stamp(folder / name) != list(expected):
                return name
        except OSError:
            return name
    return None
