"""The kinds of network that a configuration may name under `models`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from persist_jax._plumbing.registry import Registry
from persist_jax.models.model import Model


@dataclass(frozen=True)
class Kind:
    """Facts about a kind beside how to build it.

    Attributes:
        places: parameters that only say where files lie. A sweep is compared by what it found
            there, so that moved files do not keep it from going on.
    """

    places: tuple[str, ...] = ()


# A kind is `function(input_shape, classes, *, parameters) -> Model`.
MODELS: Registry[Kind] = Registry("model kind", Kind)


def build_model(
    fields: Mapping[str, Any], input_shape: tuple[int, ...], classes: int, where: str = "model"
) -> Model:
    """The network that a section of `config.models` describes.

    Args:
        fields: `kind`, a registered name, and that kind's own parameters.
        input_shape: shape of one example of the data set.
        classes: number of logits.
        where: the section, for errors.

    Returns:
        The network.

    Raises:
        ValueError: one line that names the field that does not hold, or says why the network does
            not fit the data.

    Example:
        >>> model = build_model({"kind": "mlp", "hidden": [16]}, (8, 8, 1), 10)
        >>> len(model.layers)
        3
    """
    entry, parameters = MODELS.choose(fields, where)
    try:
        return entry.function(tuple(input_shape), classes, **parameters)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
