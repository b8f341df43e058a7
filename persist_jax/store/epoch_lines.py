"""Write `epochs.jsonl`: one line per epoch, to watch a run while it trains."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

EPOCHS_FILE = "epochs.jsonl"


class EpochLines:
    """`epochs.jsonl` in a run's folder: one JSON object per epoch, with its number in `epoch`.

    Training resumes after `epoch`: lines of later epochs and a truncated line are deleted.
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
        """Add the line of an epoch; if the write fails, the next call repeats it."""
        self._waiting += (json.dumps(row, allow_nan=False) + "\n").encode()
        with open(self._path, "ab") as file:
            # Delete the partial line of a failed attempt.
            file.truncate(min(self._size, file.tell()))
            file.write(self._waiting)
        self._size += len(self._waiting)
        self._waiting = b""

    def close(self) -> None:
        """Do nothing: the file is closed after every epoch."""


def _size_until(lines: list[bytes], epoch: int) -> int:
    """Return the size in bytes of the complete lines of the epochs up to this one."""
    size = 0
    for line in lines:
        try:
            if not line.endswith(b"\n") or json.loads(line)["epoch"] > epoch:
                break
        except (ValueError, KeyError, TypeError):
            break
        size += len(line)
    return size
