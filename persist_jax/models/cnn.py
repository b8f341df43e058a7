"""The plain convolutional network."""

from typing import Annotated

from pydantic import Field

from persist_jax.models.layers import Conv2D, Dense, Flatten, Layer, MaxPooling2D
from persist_jax.models.mlp import Widths, hidden_layers
from persist_jax.models.network import Network
from persist_jax.models.registry import MODELS
from persist_jax.parameters import Rate

Size = Annotated[int, Field(ge=1, le=64)]


@MODELS.register("cnn")
def cnn(
    input_shape: tuple[int, ...],
    classes: int = 10,
    *,
    filters: Widths,
    kernel_size: Size = 3,
    hidden: Widths = (),
    dropout: Rate = 0.0,
) -> Network:
    """Convolutions with ReLU, each followed by a pooling of 2 x 2, then dense layers and logits.

    Args:
        input_shape: shape of one example, `(height, width, channels)`.
        classes: number of logits.
        filters: channels of each convolution.
        kernel_size: side of each kernel; only the pooling changes the size of images.
        hidden: width of each dense layer before the logits.
        dropout: rate of the dropout after each dense layer, 0 for none.

    Returns:
        The network.

    Example:
        >>> len(cnn((8, 8, 1), filters=(16, 32), hidden=(64,)).layers)
        7
    """
    layers: list[Layer] = []
    for channels in filters:
        size = (kernel_size, kernel_size)
        layers += [Conv2D(channels, size, padding="same", activation="relu"), MaxPooling2D()]
    layers += [Flatten(), *hidden_layers(hidden, dropout)]
    return Network((*layers, Dense(classes)), input_shape)
