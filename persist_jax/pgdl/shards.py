"""The TFRecord shards of a task: list them, and find the record of an example."""

import re
from collections.abc import Sequence
from pathlib import Path

from persist_jax._plumbing.plain_files import check_regular

_LENGTH, _CHECKSUM = 8, 4  # bytes: length, its checksum, the record, its checksum


def shards_of(folder: Path) -> list[Path]:
    """List the files `shard_<number>.tfrecord` of a folder by number, from 0 or from 1.

    Raises:
        ValueError: there are no shards, the numbers have a gap, two shards have the same number, or
            a shard is empty or not a regular file; the line names the path.

    Example:
        >>> shards_of(Path("nowhere"))
        Traceback (most recent call last):
        ValueError: nowhere: no shard_<number>.tfrecord
    """
    numbered: dict[int, Path] = {}
    for path in sorted(folder.glob("shard_*.tfrecord")):
        if (number := number_of(path)) is not None:
            other = numbered.setdefault(number, path)
            if other != path:
                raise ValueError(f"{path}: the same number as {other.name}; delete one of them")
            check_regular(path, may_be_empty=False)
    if not numbered:
        raise ValueError(f"{folder}: no shard_<number>.tfrecord")
    last = max(numbered)
    for number in range(min(1, *numbered), last):
        if number not in numbered:
            missing = folder / f"shard_{number}.tfrecord"
            raise ValueError(f"{missing}: missing, but {numbered[last].name} is there")
    return [numbered[number] for number in sorted(numbered)]


def number_of(path: Path) -> int | None:
    """Return the number in a shard's name; None for another file."""
    found = re.fullmatch(r"shard_([0-9]+)\.tfrecord", path.name)
    return int(found[1]) if found else None


def record_of(shards: Sequence[Path], number: int) -> str:
    """Return the shard and record of an example, as text; `number` counts through all shards."""
    left = number
    for shard in shards:
        with shard.open("rb") as file:
            record = 0
            while header := file.read(_LENGTH + _CHECKSUM):
                if record == left:
                    return f"{shard}, record {record}"
                file.seek(int.from_bytes(header[:_LENGTH], "little") + _CHECKSUM, 1)
                record += 1
        left -= record
    raise ValueError(f"{shards[0].parent}: the shards have fewer than {number + 1} records")
