"""Write files atomically; read JSON files with their checksum."""

import json
import os
import re
import shutil
import uuid
import zlib
from pathlib import Path
from typing import Any

from persist_jax._plumbing import plain_files

# The field of a JSON file that holds the checksum of its other fields.
CHECKSUM = "crc32"


def unfinished(path: Path) -> Path:
    """Return a temporary path beside `path`, to be renamed to `path` when complete."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def discard_unfinished(folder: Path, name: str) -> None:
    """Delete temporary files that killed processes left; `name` is a pattern of their names."""
    pattern = re.compile(rf"\.{name}\.[0-9a-f]{{32}}(\.orbax-checkpoint-tmp.*)?")
    for path in folder.iterdir() if folder.is_dir() else ():
        if pattern.fullmatch(path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> Path:
    """Write `content` to `path` atomically: a reader sees the old file or the new one.

    Raises:
        OSError: the file cannot be written; the error names it.
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
    """Write named plain values to `path` as JSON, atomically.

    The checksum is an additional field; a user who edits the file must delete it.
    """
    fields = fields | ({CHECKSUM: _checksum(fields)} if checksum else {})
    return replace_file(path, (json.dumps(fields, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read the plain values of a JSON file, and verify its checksum if it has one.

    Raises:
        ValueError: the file is missing, wrong or damaged; one line that names it.
    """
    fields = plain_files.read_json(path)
    if isinstance(fields, dict) and CHECKSUM in fields:
        checksum = fields.pop(CHECKSUM)
        if checksum != _checksum(fields):
            raise ValueError(
                f"{path}: damaged or edited; if you edited it, delete its field {CHECKSUM!r}"
            )
    return fields


def _checksum(fields: dict[str, Any]) -> str:
    """Return a checksum of the values that does not depend on their order in the file."""
    return f"{zlib.crc32(json.dumps(fields, sort_keys=True).encode()):08x}"
