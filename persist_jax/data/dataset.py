"""A data set: train, validation and test arrays."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from persist_jax.data.examples import Split, WrongExample, check_parts, converted

__all__ = ["Dataset", "Drawn", "Split"]


class Drawn(NamedTuple):
    """The examples that runs of one seed train on; see `Dataset.drawn`.

    Attributes:
        positions: int32, `(n,)`, ascending: indices into the train part.
        y: int32, `(n,)`: the labels, some of them wrong.
    """

    positions: np.ndarray
    y: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A named data set in three disjoint parts: train, validation and test.

    The constructor checks the arrays. No part is empty; all examples have one shape and are finite
    in float32. Labels are whole numbers from 0 on. If `classes` is given, every label is below it;
    otherwise the train labels have no gap, and the other parts only have labels of the train part.

    Arrays of another byte order and of long doubles are converted; masked entries are refused.

    Attributes:
        name: name of the data set.
        train: examples that the weights are fitted to.
        validation: examples that decide when training stops and which weights are kept.
        test: examples for the reported accuracy.
        classes: number of classes; None: one more than the largest train label.
        drawn_examples: number of train examples that each seed draws; None: every seed trains on
            all of them.
        label_noise: share of the training labels that each seed replaces by other classes;
            validation and test labels stay unchanged.
        origin: `origin(part, position)` returns, for an error, where an example was read from.

    Raises:
        ValueError: an array breaks these rules; one line that names the part and, where one is
            wrong, the example's position and value.

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
    drawn_examples: int | None = None
    label_noise: float = 0.0
    origin: dataclasses.InitVar[Callable[[str, int], str] | None] = None

    def __post_init__(self, origin: Callable[[str, int], str] | None) -> None:
        try:
            for part, split in self.parts.items():
                object.__setattr__(self, part, converted(part, split))
            check_parts(self.parts, self.classes)
            self._check_drawn()
        except WrongExample as wrong:
            source = f" ({origin(wrong.part, wrong.position)})" if origin else ""
            example = f"{wrong.part} example {wrong.position}{source}"
            raise ValueError(f"{self.name}: {example}: {wrong.reason}") from None
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None

    def _check_drawn(self) -> None:
        count, there = self.drawn_examples, len(self.train.y)
        if count is not None and not 0 < count <= there:
            raise ValueError(f"drawn_examples: {count} is not between 1 and {there}")
        if not 0 <= self.label_noise <= 1:
            raise ValueError(f"label_noise: {self.label_noise} is not in [0, 1]")
        if self.label_noise and self.num_classes < 2:
            raise ValueError(f"label_noise: {self.label_noise} of labels of one class")

    @property
    def train_examples(self) -> int:
        """Number of examples that a run trains on."""
        return len(self.train.y) if self.drawn_examples is None else self.drawn_examples

    def drawn(self, seed: int) -> Drawn | None:
        """Draw the examples that runs of a seed train on; None if all seeds train on `train`.

        Examples are drawn without replacement. Of `n` labels, `round(label_noise * n)` are replaced
        by another class, drawn uniformly. The noise level does not change a seed's examples, and
        more noise replaces further labels.

        Example:
            >>> part = Split(np.zeros((20, 2), np.float32), np.arange(20, dtype=np.int32) % 4)
            >>> noisy = Dataset("blank", part, part, part, drawn_examples=10, label_noise=0.3)
            >>> positions, labels = noisy.drawn(0)
            >>> len(positions), int(np.sum(labels != part.y[positions]))
            (10, 3)
        """
        if self.train_examples == len(self.train.y) and not self.label_noise:
            return None
        generator, count = np.random.default_rng([seed, 23]), self.train_examples
        positions = np.sort(generator.permutation(len(self.train.y))[:count]).astype(np.int32)
        y = self.train.y[positions].astype(np.int32)
        wrong = generator.permutation(count)[: round(self.label_noise * count)]
        shift = generator.integers(1, max(self.num_classes, 2), count)[: len(wrong)]
        y[wrong] = (y[wrong] + shift) % self.num_classes
        return Drawn(positions, y)

    def of_seed(self, seed: int) -> "Dataset":
        """The data set of one seed, with the examples and labels that its runs train on."""
        drawn = self.drawn(seed)
        if drawn is None:
            return self
        train = Split(self.train.x[drawn.positions], drawn.y)
        changes = {"train": train, "classes": self.num_classes}
        changes |= {"drawn_examples": None, "label_noise": 0.0, "origin": None}
        return dataclasses.replace(self, **changes)

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
        """Checksum of all examples in their order; it does not depend on where they were read."""
        digest = hashlib.sha256()
        for part in self.parts.values():
            for array in part:
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]
