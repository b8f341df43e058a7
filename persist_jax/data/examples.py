"""Examples with labels, and the checks that all training data must pass."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

# A NumPy scalar: NumPy would round a Python float to the type of the array it is compared with, and
# in float16 the bound would be infinite.
LARGEST = np.float64(np.finfo(np.float32).max)


class Split(NamedTuple):
    """Examples and their labels.

    Attributes:
        x: float32, `(N, h, w, c)` for images, `(N, ...)` in general.
        y: int32, `(N,)`.
    """

    x: np.ndarray
    y: np.ndarray


class WrongExample(ValueError):
    """An example that cannot be trained on: its part, its position there, and the reason."""

    def __init__(self, part: str, position: int, reason: str):
        super().__init__(f"{part} example {position}: {reason}")
        self.part, self.position, self.reason = part, position, reason


def converted(part: str, split: Split) -> Split:
    """Convert to arrays that JAX accepts: native byte order, at most 64 bits.

    Raises:
        ValueError: an entry is masked.
    """
    arrays = []
    for name, array in zip(("examples", "labels"), split, strict=True):
        if np.ma.is_masked(array):
            raise ValueError(f"{part} {name} with masked entries; fill them or leave them out")
        array = np.asarray(array)
        dtype = array.dtype.newbyteorder("=")
        long_double = dtype.kind == "f" and dtype.itemsize > 8
        with np.errstate(over="ignore"):  # infinity is refused later
            arrays.append(array.astype(np.float64 if long_double else dtype, copy=False))
    return Split(*arrays)


def check_parts(parts: Mapping[str, Split], classes: int | None) -> None:
    """Refuse examples and labels that cannot be trained on; see `Dataset`.

    Args:
        parts: examples by the name of their part, the train part first.
        classes: number of classes; None: as many as the labels of the first part.

    Raises:
        WrongExample: an example or its label is wrong.
        ValueError: a part is wrong as a whole.
    """
    train = next(iter(parts.values()))
    for part, split in parts.items():
        _check_shapes(part, split, train.x.shape[1:])
        _check_numbers(part, split.x)
        _check_labels(part, split.y, classes)
    if classes is None:
        _check_classes(parts)


def _check_shapes(part: str, split: Split, shape: tuple[int, ...]) -> None:
    x, y = split
    if len(x) == 0:
        raise ValueError(f"no {part} examples")
    if x.shape[1:] != shape or x.size == 0:
        raise ValueError(f"{part} examples of shape {x.shape[1:]}, but train examples have {shape}")
    if y.shape != x.shape[:1]:
        raise ValueError(f"{len(x)} {part} examples, but labels of shape {y.shape}")
    if x.dtype.kind not in "fiub":
        raise ValueError(f"{part} examples of type {x.dtype}, not real numbers")
    if y.dtype.kind not in "iu":
        raise ValueError(f"{part} labels of type {y.dtype}, not whole numbers")


def _check_numbers(part: str, x: np.ndarray) -> None:
    # Two passes without a temporary array; NaN propagates through both.
    if -LARGEST <= x.min() and x.max() <= LARGEST:
        return
    for position, example in enumerate(x):
        with np.errstate(invalid="ignore"):
            wrong = example[~(np.abs(example) <= LARGEST)]
        if wrong.size:
            raise WrongExample(part, position, f"{wrong[0]} is not finite in float32")


def _check_labels(part: str, y: np.ndarray, classes: int | None) -> None:
    wrong = y < 0
    if classes is not None:
        wrong |= y >= classes
    if wrong.any():
        position = _first(wrong)
        wanted = "at least 0" if classes is None else f"one of 0 to {classes - 1}"
        raise WrongExample(part, position, f"label {y[position]} is not {wanted}")


def _check_classes(parts: Mapping[str, Split]) -> None:
    (first, train), *others = parts.items()
    known = np.unique(train.y)
    expected = np.arange(len(known))
    if not np.array_equal(known, expected):
        missing = int(np.argmax(known != expected))
        above = int(known[missing])
        raise WrongExample(
            first,
            _first(train.y == above),
            f"label {above}, but no {first} example has label {missing}; classes are numbered "
            "from 0 on without a gap",
        )
    for part, split in others:
        strange = split.y >= len(known)
        if strange.any():
            position = _first(strange)
            reason = f"label {split.y[position]}, which no {first} example has"
            raise WrongExample(part, position, reason)


def _first(chosen: np.ndarray) -> int:
    return int(np.argmax(chosen))
