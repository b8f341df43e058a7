"""Files that are there whole or not at all, and the one line for those that do not hold."""

import json
import os
import re
import shutil
import uuid
import zlib
from pathlib import Path
from typing import Any

from persist_jax._plumbing import plain_files

# The field of a JSON file that holds the checksum of the others.
CHECKSUM = "crc32"


def unfinished(path: Path) -> Path:
    """Where to write what is renamed to `path` once it is complete."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def discard_unfinished(folder: Path, name: str) -> None:
    """Delete what killed processes wrote or deleted under names that match a pattern."""
    pattern = re.compile(rf"\.{name}\.[0-9a-f]{{32}}(\.orbax-checkpoint-tmp.*)?")
    for path in folder.iterdir() if folder.is_dir() else ():
        if pattern.fullmatch(path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> Path:
    """Put `content` at `path` in one step: a reader sees the old file or the new one.

    Raises:
        OSError: it cannot be written; the error names the file.
    """
    temporary = unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    return path


def replace_json(path: Path, fields: dict[str, Any], *, checksum: bool = True) -> Path:
    """Put named plain values at `path` as JSON, in one step.

    A checksum is one more field, which a person who changes the file has to delete.
    """
    fields = fields | ({CHECKSUM: _checksum(fields)} if checksum else {})
    return replace_file(path, (json.dumps(fields, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The plain values of a JSON file; the checksum, which a file may lack, has to be theirs.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    fields = plain_files.read_json(path)
    if isinstance(fields, dict) and CHECKSUM in fields:
        checksum = fields.pop(CHECKSUM)
        if checksum != _checksum(fields):
            raise ValueError(
                f"{path}: damaged, or changed by hand; if that was meant, delete its {CHECKSUM!r}"
            )
    return fields


def _checksum(fields: dict[str, Any]) -> str:
    """A checksum of the values, whatever their order and layout in the file."""
    return f"{zlib.crc32(json.dumps(fields, sort_keys=True).encode()):08x}"
