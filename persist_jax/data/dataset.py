"""What every data set is: train, validation and test arrays."""

import dataclasses
import functools
import hashlib
from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """Examples and their labels.

    Attributes:
        x: float32, `(N, h, w, c)` for images, `(N, ...)` in general.
        y: int32, `(N,)`.
    """

    x: np.ndarray
    y: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A named data set in three disjoint parts.

    Example:
        >>> part = Split(np.zeros((2, 8, 8, 1), np.float32), np.array([0, 9], np.int32))
        >>> dataset = Dataset("blank", part, part, part)
        >>> dataset.input_shape, dataset.num_classes
        ((8, 8, 1), 10)
    """

    name: str
    train: Split
    validation: Split
    test: Split

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.train.x.shape[1:]

    @property
    def num_classes(self) -> int:
        """Number of classes: one more than the largest label."""
        return 1 + max(int(part.y.max()) for part in (self.train, self.validation, self.test))

    @functools.cached_property
    def checksum(self) -> str:
        """Of every example in its place: equal for equal data, wherever it was read from."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            for array in part:
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]
