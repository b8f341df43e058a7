"""What every data set is: train, validation and test arrays."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable

import numpy as np

from persist_jax.data.examples import Split, WrongExample, check_parts, converted

__all__ = ["Dataset", "Split"]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A named data set in three disjoint parts, which hold what can be trained on.

    Every part has examples, all of one shape, with numbers that are finite in float32. Labels are
    whole numbers from 0 on: those of the train part without a gap, and in the other parts only
    such as the train part has. A data set that says how many `classes` it has may leave out some.

    Arrays of another byte order and of long doubles are converted; masked entries are refused.

    Attributes:
        name: of the data set.
        train: examples that weights are fitted to.
        validation: examples that decide when training stops, and which weights are taken.
        test: examples for the accuracy that is reported.
        classes: number of classes; None: one more than the largest label.
        origin: `origin(part, position)` says in an error where an example was read from.

    Raises:
        ValueError: one line that names the part, the example's number in it and its value.

    Example:
        >>> part = Split(np.zeros((2, 8, 8, 1), np.float32), np.array([0, 1], np.int32))
        >>> dataset = Dataset("blank", part, part, part)
        >>> dataset.input_shape, dataset.num_classes
        ((8, 8, 1), 2)
        >>> wrong = Split(part.x, np.array([0, 19], np.int32))
        >>> Dataset("blank", part, part, wrong)
        Traceback (most recent call last):
        ValueError: blank: test example 1: label 19, which no train example has
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int | None = None
    origin: dataclasses.InitVar[Callable[[str, int], str] | None] = None

    def __post_init__(self, origin: Callable[[str, int], str] | None) -> None:
        try:
            for part, split in self.parts.items():
                object.__setattr__(self, part, converted(part, split))
            check_parts(self.parts, self.classes)
        except WrongExample as wrong:
            source = f" ({origin(wrong.part, wrong.position)})" if origin else ""
            example = f"{wrong.part} example {wrong.position}{source}"
            raise ValueError(f"{self.name}: {example}: {wrong.reason}") from None
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None

    @property
    def parts(self) -> dict[str, Split]:
        """The three parts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.train.x.shape[1:]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.classes or 1 + int(self.train.y.max())

    @functools.cached_property
    def checksum(self) -> str:
        """Of every example in its place: equal for equal data, wherever it was read from."""
        digest = hashlib.sha256()
        for part in self.parts.values():
            for array in part:
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]
