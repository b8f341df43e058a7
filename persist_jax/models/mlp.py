"""The multilayer perceptron."""

from typing import Annotated

from pydantic import Field

from persist_jax.models.layers import Dense, Dropout, Flatten, Layer
from persist_jax.models.network import Network
from persist_jax.models.registry import MODELS
from persist_jax.parameters import Rate

# Beyond these a network takes hours to compile, or more memory than any machine has.
Width = Annotated[int, Field(ge=1, le=10_000_000)]
Widths = Annotated[tuple[Width, ...], Field(max_length=1000)]


@MODELS.register("mlp")
def mlp(
    input_shape: tuple[int, ...],
    classes: int = 10,
    *,
    hidden: Widths,
    dropout: Rate = 0.0,
) -> Network:
    """Multilayer perceptron with ReLU hidden layers and logits at the end.

    Args:
        input_shape: shape of one example.
        classes: number of logits.
        hidden: width of each hidden layer.
        dropout: rate of the dropout after each hidden layer, 0 for none.

    Returns:
        The network.

    Example:
        >>> len(mlp((8, 8, 1), hidden=(16, 8), dropout=0.5).layers)
        6
    """
    return Network((Flatten(), *hidden_layers(hidden, dropout), Dense(classes)), input_shape)


def hidden_layers(widths: Widths, dropout: float) -> list[Layer]:
    """Dense layers with ReLU, each followed by dropout if its rate is not 0."""
    layers: list[Layer] = []
    for width in widths:
        layers.append(Dense(width, "relu"))
        if dropout:
            layers.append(Dropout(dropout))
    return layers
