"""Read named arrays from an untrusted HDF5 file: check the headers first, then read the numbers."""

import math
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from persist_jax._plumbing.extras import needed_by
from persist_jax._plumbing.plain_files import check_regular
from persist_jax.data.examples import LARGEST
from persist_jax.pgdl.keras_values import shown

_NAMES, _BYTES, _LENGTH = 2_000, 1 << 20, 1000
_HEAP = b"GCOL\1\0\0\0"


class Header(NamedTuple):
    """An array's name within its group, and its shape."""

    name: str
    shape: tuple[int, ...]


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open an HDF5 file for reading; turn errors inside the block into one line.

    Raises:
        ValueError: the file or its content cannot be read; the line names the file.
    """
    with needed_by("read_network", "experiment"):
        import h5py

    check_regular(path)
    try:
        _check_heaps(path)
        with h5py.File(path, "r") as file:
            yield file
    except ValueError as error:
        raise ValueError(f"{path}: {_line(error)}") from None
    except (OSError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path}: not a Keras weight file ({_line(error)})") from None
    except (ArithmeticError, MemoryError) as error:
        words = _line(error) or "does not fit memory"
        raise ValueError(f"{path}: not a Keras weight file ({words})") from None


def parts(group: Any, attribute: str) -> list[str]:
    """Return the names of the attributes that hold a list of names; empty if there is none.

    An HDF5 attribute holds 64 kB. Keras splits a longer list over numbered attributes:
    `layer_names0`, `layer_names1` and so on.
    """
    if attribute in group.attrs:
        return [attribute]
    numbered = (f"{attribute}{number}" for number in range(_NAMES))
    return list(takewhile(group.attrs.__contains__, numbered))


def names(group: Any, attribute: str) -> list[str]:
    """Return the names that an attribute, or its numbered `parts`, lists.

    Raises:
        ValueError: the attribute is missing, is not a list of names, or is too long.
    """
    import h5py

    attributes = parts(group, attribute)
    if not attributes:
        raise ValueError(f"not a Keras weight file (no {attribute} in {shown(group.name)})")
    found, count, size = [], 0, 0
    for part in attributes:
        header = group.attrs.get_id(part)
        if header.shape == (0,):
            continue  # Keras writes an empty list as an array of numbers
        listed = header.shape is not None and len(header.shape) == 1
        if not listed or h5py.check_string_dtype(header.dtype) is None:
            raise ValueError(f"not a Keras weight file ({part} is not a list of names)")
        count, size = count + header.shape[0], size + header.get_storage_size()
        if count > _NAMES or size > _BYTES:
            raise ValueError(
                f"not a Keras weight file ({attribute} has {count} names of {size} bytes, "
                f"at most {_NAMES} of {_BYTES} are read)"
            )
        found += [n.decode() if isinstance(n, bytes) else str(n) for n in group.attrs[part]]
    for name in found:
        if len(name) > _LENGTH:
            raise ValueError(f"not a Keras weight file ({attribute} has {shown(name)})")
    return found


def member(group: Any, name: str) -> Any:
    """Return the member of a group; soft and external links are not followed.

    Raises:
        ValueError: there is no such member, or the path has a soft or an external link.
    """
    import h5py

    for part in filter(None, name.split("/")):
        if not isinstance(group, h5py.Group):
            raise ValueError(f"not a Keras weight file ({shown(name)} is not in a group)")
        link = group.get(part, getlink=True)
        if link is None:
            raise ValueError(f"not a Keras weight file ({shown(name)} is missing)")
        if not isinstance(link, h5py.HardLink):
            kind = "an external" if isinstance(link, h5py.ExternalLink) else "a soft"
            raise ValueError(f"{shown(name)} is {kind} link; only arrays in the file are read")
        group = group[part]
    return group


def header(group: Any, name: str) -> Header:
    """Return the name and shape of an array of numbers stored in this file.

    Raises:
        ValueError: the member is anything else.
    """
    import h5py

    array = member(group, name)
    if not isinstance(array, h5py.Dataset):
        raise ValueError(f"not a Keras weight file ({shown(name)} is not an array)")
    if array.dtype.kind not in "fiu" or h5py.check_enum_dtype(array.dtype):
        raise ValueError(f"not a Keras weight file ({shown(name)} holds no numbers)")
    if array.shape is None:
        raise ValueError(f"{shown(name)} is empty")
    if array.is_virtual or array.external:
        kind = "virtual" if array.is_virtual else "external"
        raise ValueError(f"{shown(name)} is {kind}; only arrays in the file are read")
    return Header(name, array.shape)


def read(group: Any, name: str) -> np.ndarray:
    """Read an array that passed `header`.

    Raises:
        ValueError: the array is incomplete, or a number is not finite in float32.
    """
    array = member(group, name)
    stored, wanted = _written(array)
    if stored < wanted:
        what = "chunks" if array.chunks else "bytes"
        raise ValueError(f"{shown(name)}: {stored} of {wanted} {what} were written")
    numbers = array[()]
    if numbers.size and not -LARGEST <= numbers.min() <= numbers.max() <= LARGEST:
        wrong = numbers[~(np.abs(numbers) <= LARGEST)]
        raise ValueError(f"{shown(name)} holds {wrong[0]}, which is not finite in float32")
    return numbers


def _written(array: Any) -> tuple[int, int]:
    """Return the number of chunks or bytes of an array in the file, and that of the whole array."""
    if array.chunks is None:
        return array.id.get_storage_size(), array.nbytes
    along = zip(array.shape, array.chunks, strict=True)
    return array.id.get_num_chunks(), math.prod(-(-size // chunk) for size, chunk in along)


def _check_heaps(path: Path) -> None:
    """Refuse a damaged heap of strings: HDF5 1.14 would loop on it without end.

    A heap has a header of 16 bytes, whose last 8 hold the heap's size, and then objects. An object
    has 16 bytes, whose last 8 hold a length, and then content of that length, padded to 8 bytes.
    Object 0 is the free space, and its length includes its own 16 bytes.
    """
    if not path.stat().st_size:
        return  # an empty file cannot be mapped
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        _check_mapped_heaps(content)


def _check_mapped_heaps(content: mmap.mmap) -> None:
    start = content.find(_HEAP)
    while start >= 0:
        end = start + int.from_bytes(content[start + 8 : start + 16], "little")
        position = start + 16
        while position + 16 <= end:
            length = int.from_bytes(content[position + 8 : position + 16], "little")
            object_zero = content[position : position + 2] == bytes(2)
            step = length if object_zero else 16 + -(-length // 8) * 8
            if step < 16 or position + step > min(end, len(content)):
                raise ValueError("not a Keras weight file (a damaged heap)")
            position += step
        start = content.find(_HEAP, start + 1)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
