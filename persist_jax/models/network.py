"""A chain of layers as one Flax module that returns logits and activations."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from persist_jax.models.layers import Conv2D, Dense, Dropped, Layer, Mode
from persist_jax.models.model import Outputs, Variables


def layer_name(index: int) -> str:
    """Name under which the layer at `index` keeps its variables.

    Example:
        >>> layer_name(3)
        'layer_03'
    """
    return f"layer_{index:02d}"


class Network(nn.Module):
    """A chain of layers.

    `network.apply(variables, x)` returns `(logits, activations)`: the output of the last layer, and
    one array `(b, ...)` per counted layer, which is a layer with trainable weights: its output
    after its own activation function. The network is a `Model`:
    `network.apply_in_training(variables, x, key)` returns `((logits, activations), collections)`
    with the new moving averages, if there are any.

    Attributes:
        layers: the layers in order.
        input_shape: shape of one example, `(h, w, c)` for images.
        axis_name: name of the mapped axis over which the batch is split: its device `d` holds
            examples `d * s` to `(d + 1) * s` of the batch. Batch normalisation then takes the
            statistics of the whole batch, and dropout draws the mask that one device would draw.

    Example:
        >>> import jax
        >>> from persist_jax.models.layers import Dense, Flatten
        >>> network = Network((Flatten(), Dense(5, "relu"), Dense(3)), input_shape=(4, 4, 1))
        >>> x = jax.numpy.ones((2, 4, 4, 1))
        >>> variables = network.init(jax.random.key(0), x)
        >>> logits, activations = network.apply(variables, x)
        >>> logits.shape, [a.shape for a in activations]
        ((2, 3), [(2, 5), (2, 3)])
    """

    layers: tuple[Layer, ...]
    input_shape: tuple[int, ...]
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array | np.ndarray, "b ..."],
        train: bool = False,
        dropout: Float[Array, ""] | None = None,
    ) -> tuple[Float[Array, "b ..."], tuple[Float[Array, "b ..."], ...]]:
        if x.shape[1:] != self.input_shape:
            wanted = ("b", *self.input_shape)
            raise ValueError(f"x has shape {x.shape}, the network takes {wanted}")
        x, mode, activations = jnp.asarray(x), Mode(train, self.axis_name), []
        hidden = self.hidden_layers
        for index, layer in enumerate(self.layers):
            x = layer(x, layer_name(index), mode)
            if layer.counted:
                activations.append(x)
            if dropout is not None and index in hidden:
                x = Dropped(dropout, self.axis_name, name=f"dropout_{index:02d}")(x)
        return x, tuple(activations)

    @property
    def hidden_layers(self) -> tuple[int, ...]:
        """Indices of the dense and convolutional layers, except the last."""
        dense = [k for k, layer in enumerate(self.layers) if isinstance(layer, Dense | Conv2D)]
        return tuple(dense[:-1])

    @property
    def training_differs(self) -> bool:
        """Whether training and inference give different outputs (dropout, batch normalisation)."""
        return any(layer.training_differs for layer in self.layers)

    @nn.nowrap
    def apply_in_training(
        self,
        variables: Variables,
        x: Float[Array | np.ndarray, "b ..."],
        key: Array,
        dropout: Float[Array, ""] | None = None,
    ) -> tuple[Outputs, Variables]:
        """Outputs in training mode, and the updated moving averages; see `Model`.

        `dropout` is the probability of dropping a value after every hidden layer, in addition to
        `Dropout` layers.
        """
        rate = () if dropout is None else (dropout,)
        outputs, updates = self.apply(
            variables, x, True, *rate, rngs={"dropout": key}, mutable=["batch_stats"]
        )
        return outputs, dict(updates)

    @nn.nowrap
    def sharing(self, axis_name: str | None) -> "Network":
        """The same network for a batch split over a mapped axis; see `Model`."""
        return self.clone(axis_name=axis_name)
