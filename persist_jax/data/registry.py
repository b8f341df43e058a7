"""The registry of the kinds of data set that `config.dataset` may name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from persist_jax._plumbing.registry import Registry
from persist_jax.data.dataset import Dataset


@dataclass(frozen=True)
class Kind:
    """Properties of a kind of data set; the functions take the kind's parameters.

    Attributes:
        places: names of the parameters that only say where files lie. A sweep whose files moved can
            be resumed, since a checksum compares the examples.
        at_hand: returns whether the data can be loaded without a download or a conversion.
        brings: returns the networks that come with the data: fields of `config.models` by name.
        embedded: returns whether these parameters name data that is part of the package; its
            section `embedded` then replaces fields of a configuration.
    """

    places: tuple[str, ...] = ()
    at_hand: Callable[..., bool] = lambda **parameters: True
    brings: Callable[..., dict[str, dict[str, Any]]] = lambda **parameters: {}
    embedded: Callable[..., bool] = lambda **parameters: False


# A kind is `function(*, parameters) -> Dataset`.
DATASETS: Registry[Kind] = Registry("dataset kind", Kind)


def load_dataset(fields: Mapping[str, Any]) -> Dataset:
    """Load the data set that a section `config.dataset` describes.

    Args:
        fields: `kind`, a registered name, and that kind's own parameters.

    Raises:
        ValueError: a field is wrong or the data cannot be loaded; one line that says which or why.

    Example:
        >>> load_dataset({"kind": "images", "name": "digits"}).input_shape
        (8, 8, 1)
    """
    entry, parameters = DATASETS.choose(fields, "dataset")
    dataset = entry.function(**parameters)
    if not isinstance(dataset, Dataset):
        kind = type(dataset).__name__
        raise ValueError(f"dataset.kind: {entry.name!r} returned a {kind}, not a Dataset")
    return dataset
