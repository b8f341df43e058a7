"""Size and CRC-32 of files, which tell a damaged one from what was written."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from persist_jax._plumbing.plain_files import check_regular

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
    """The first file that is missing or not as it was written; None if all are.

    Args:
        folder: where the files were written.
        written: stamps by path from the folder, as `stamps` gave them. A path that leads out of the
            folder counts as damaged, and so does what is not a regular file; neither is opened.
            A file of another size is not read.
    """
    for name, expected in written.items():
        path = folder / name
        try:
            check_regular(path)
            leads_out = Path(name).is_absolute() or ".." in Path(name).parts
            if leads_out or path.stat().st_size != expected[0] or stamp(path) != list(expected):
                return name
        except (OSError, ValueError):
            return name
    return None
