"""Files that are there whole or not at all, and the one line for those that do not hold."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from persist_jax import plain_files


def replace_file(path: Path, content: bytes) -> Path:
    """Put `content` at `path` in one step: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def replace_json(path: Path, fields: Any) -> Path:
    """Put plain values at `path` as JSON, in one step."""
    return replace_file(path, (json.dumps(fields, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The plain values of a JSON file.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    return plain_files.read_json(path)
