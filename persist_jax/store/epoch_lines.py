"""A run's epochs as lines to look at while it trains: `epochs.jsonl`."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

EPOCHS_FILE = "epochs.jsonl"


class EpochLines:
    """`epochs.jsonl` in a run's folder: an object per epoch, whose number is its field `epoch`.

    Training goes on at an epoch: lines of later ones go, as does one that was cut off.
    """

    def __init__(self, folder: str | os.PathLike[str], epoch: int):
        self._path = Path(folder) / EPOCHS_FILE
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._waiting = b""
        with open(self._path, "a+b") as file:
            file.seek(0)
            self._size = _size_until(file.readlines(), epoch)
            file.truncate(self._size)

    def append(self, row: Mapping[str, float | int | None]) -> None:
        """Add the line of an epoch; one that cannot be written waits for the next."""
        self._waiting += (json.dumps(row, allow_nan=False) + "\n").encode()
        with open(self._path, "ab") as file:
            # What an earlier attempt left of a line.
            file.truncate(min(self._size, file.tell()))
            file.write(self._waiting)
        self._size += len(self._waiting)
        self._waiting = b""

    def close(self) -> None:
        """Nothing is open between two epochs."""


def _size_until(lines: list[bytes], epoch: int) -> int:
    """How many bytes the whole lines of the epochs up to this one take."""
    size = 0
    for line in lines:
        try:
            if not line.endswith(b"\n") or json.loads(line)["epoch"] > epoch:
                break
        except (ValueError, KeyError, TypeError):
            break
        size += len(line)
    return size
