"""The three multilayer perceptrons of the MNIST experiment."""

from collections.abc import Mapping

from persist_jax.networks.layers import Dense, Dropout, Flatten, Layer
from persist_jax.networks.network import Network

MNIST_HIDDEN = {
    "mlp_0": (450, 350, 200),
    "mlp_1": (450, 350, 200),
    "mlp_2": (300, 250, 200, 150, 100),
}
MNIST_DROPOUT = {"mlp_0": 0.0, "mlp_1": 0.5, "mlp_2": 0.0}


def mlp(
    input_shape: tuple[int, ...], hidden: tuple[int, ...], classes: int = 10, dropout: float = 0.0
) -> Network:
    """Multilayer perceptron with ReLU hidden layers and logits at the end.

    Args:
        input_shape: shape of one example.
        hidden: width of each hidden layer.
        classes: number of logits.
        dropout: rate of the dropout after each hidden layer, 0 for none.

    Returns:
        The network.

    Example:
        >>> len(mlp((8, 8, 1), (16, 8), dropout=0.5).layers)
        6
    """
    layers: list[Layer] = [Flatten()]
    for width in hidden:
        layers.append(Dense(width, "relu"))
        if dropout:
            layers.append(Dropout(dropout))
    return Network((*layers, Dense(classes)), input_shape)


def mnist_mlps(
    input_shape: tuple[int, ...] = (28, 28, 1),
    hidden: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, Network]:
    """The three networks of the MNIST experiment, 1010 neurons each.

    `mlp_0`: 784-450-350-200-10; `mlp_1`: the same with dropout 0.5 after each hidden layer;
    `mlp_2`: 784-300-250-200-150-100-10.

    Args:
        input_shape: shape of one example.
        hidden: other hidden widths by network name, for smaller images.

    Returns:
        The networks by name.

    Raises:
        ValueError: `hidden` names an unknown network.

    Example:
        >>> list(mnist_mlps((8, 8, 1), {"mlp_0": (32, 16)}))
        ['mlp_0', 'mlp_1', 'mlp_2']

    Reference:
        Decorrelating neurons using persistence, arXiv 2308.04870.
    """
    unknown = sorted(set(hidden or {}) - set(MNIST_HIDDEN))
    if unknown:
        known = ", ".join(MNIST_HIDDEN)
        raise ValueError(f"hidden: unknown network {unknown[0]!r}, known: {known}")
    widths = MNIST_HIDDEN | dict(hidden or {})
    return {
        name: mlp(input_shape, tuple(widths[name]), dropout=MNIST_DROPOUT[name])
        for name in MNIST_HIDDEN
    }
