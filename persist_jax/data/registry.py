"""The kinds of data set that a configuration may name under `dataset`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from persist_jax._plumbing.registry import Registry
from persist_jax.data.dataset import Dataset


@dataclass(frozen=True)
class Kind:
    """What is known of a kind beside how to load it; each is called with the kind's parameters.

    Attributes:
        places: parameters that only say where files lie. A sweep is compared by the examples that
            it found there, so that moved files do not keep it from going on.
        at_hand: whether the data can be loaded without a download or a conversion.
        brings: networks that come with the data: fields of `config.models` by network name.
        embedded: whether these parameters mean data that is part of the package, for which a
            configuration may have other sizes under `embedded`.
    """

    places: tuple[str, ...] = ()
    at_hand: Callable[..., bool] = lambda **parameters: True
    brings: Callable[..., dict[str, dict[str, Any]]] = lambda **parameters: {}
    embedded: Callable[..., bool] = lambda **parameters: False


# A kind is `function(*, parameters) -> Dataset`.
DATASETS: Registry[Kind] = Registry("dataset kind", Kind)


def load_dataset(fields: Mapping[str, Any]) -> Dataset:
    """The data set that a section `config.dataset` describes.

    Args:
        fields: `kind`, a registered name, and that kind's own parameters.

    Raises:
        ValueError: one line that names the field that does not hold, or says why the data cannot
            be had.

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
