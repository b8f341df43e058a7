"""The kinds of network that a configuration may name under `models`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from persist_jax._plumbing.registry import Registry
from persist_jax.models.model import Model


@dataclass(frozen=True)
class Kind:
    """Properties of a kind of network.

    Attributes:
        places: parameters that are paths of files. To resume, a sweep compares the content of these
            files instead of their paths, so files may be moved.
    """

    places: tuple[str, ...] = ()


# A kind is `function(input_shape, classes, *, parameters) -> Model`.
MODELS: Registry[Kind] = Registry("model kind", Kind)


def build_model(
    fields: Mapping[str, Any], input_shape: tuple[int, ...], classes: int, where: str = "model"
) -> Model:
    """Build the network that a section of `config.models` describes.

    Args:
        fields: `kind`, a registered name, and the kind's own parameters.
        input_shape: shape of one example of the data set.
        classes: number of logits.
        where: name of the section, for error messages.

    Returns:
        The network.

    Raises:
        ValueError: one line that names the invalid field, or says why the network does not fit the
            data.

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
