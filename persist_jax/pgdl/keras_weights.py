"""Read and write the weights of Keras HDF5 files, in the order of the layers."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from persist_jax._plumbing.extras import needed_by
from persist_jax.models.layers import BatchNormalization, Conv2D, Dense, PReLU
from persist_jax.models.network import Network, layer_name
from persist_jax.pgdl import hdf5_arrays
from persist_jax.pgdl.keras_config import read_config
from persist_jax.pgdl.keras_values import shown

# Keras' order of a layer's weights: trainable ones first, then moving averages.
_ORDER = (
    ("params", "kernel"),
    ("params", "alpha"),
    ("params", "scale"),
    ("params", "bias"),
    ("batch_stats", "mean"),
    ("batch_stats", "var"),
)
# Far more arrays than the largest network that is read can have.
_ARRAYS = 2_000
_KERAS_3 = {
    Conv2D: "conv2d",
    Dense: "dense",
    BatchNormalization: "batch_normalization",
    PReLU: "p_re_lu",
}
_KERAS_NAMES = {"scale": "gamma", "mean": "moving_mean", "var": "moving_variance"}


class Weight(NamedTuple):
    """An array of a network: its position in the variables, and its shape."""

    collection: str
    layer: int
    name: str
    shape: tuple[int, ...]


class _Stored(NamedTuple):
    """A layer of a file: its name, and its arrays, named relative to `group`."""

    layer: str
    group: Any
    weights: list[hdf5_arrays.Header]


def weight_order(network: Network) -> tuple[Weight, ...]:
    """List all arrays of a network in Keras' order.

    Args:
        network: the network.

    Returns:
        One entry per array, layer by layer, as the Keras model's `model.weights` lists them.

    Raises:
        ValueError: the layers do not fit together or do not fit the input shape.

    Example:
        >>> from persist_jax.models.mlp import mlp
        >>> [(w.name, w.shape) for w in weight_order(mlp((2, 2, 1), 2, hidden=(3,)))]
        [('kernel', (4, 3)), ('bias', (3,)), ('kernel', (3, 2)), ('bias', (2,))]
    """
    example = jax.ShapeDtypeStruct((1, *network.input_shape), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), example)
    order = []
    for index in range(len(network.layers)):
        for collection, name in _ORDER:
            found = shapes.get(collection, {}).get(layer_name(index), {})
            if name in found:
                order.append(Weight(collection, index, name, found[name].shape))
    return tuple(order)


def variables_from_weights(network: Network, weights: Sequence[np.ndarray]) -> dict[str, Any]:
    """Build a network's variables from its arrays in Keras' order.

    Args:
        network: the network.
        weights: the arrays, with the shapes of `weight_order(network)`.

    Returns:
        Variables for `network.apply`, in float32.

    Raises:
        ValueError: the number of arrays or the shape of one is wrong.

    Example:
        >>> from persist_jax.models.mlp import mlp
        >>> network = mlp((2, 2, 1), 2, hidden=())
        >>> variables = variables_from_weights(network, [np.ones((4, 2)), np.zeros(2)])
        >>> variables["params"]["layer_01"]["bias"].shape
        (2,)
    """
    order = weight_order(network)
    if len(weights) != len(order):
        raise ValueError(f"weights: {len(weights)} arrays, the network has {len(order)}")
    variables: dict[str, Any] = {"params": {}}
    for weight, array in zip(order, weights, strict=True):
        if array.shape != weight.shape:
            kind = type(network.layers[weight.layer]).__name__
            raise ValueError(
                f"layer {weight.layer} ({kind}): {weight.name} wants shape {weight.shape}, "
                f"found {array.shape}"
            )
        layers = variables.setdefault(weight.collection, {})
        arrays = layers.setdefault(layer_name(weight.layer), {})
        arrays[weight.name] = jnp.asarray(array, jnp.float32)
    return variables


def _headers(network: Network, file: Any) -> list[_Stored]:
    """Return the layers with weights from the file's headers; no array is read."""
    of_keras_3 = "layers" in file and not hdf5_arrays.parts(file, "layer_names")
    layers, count = [], 0
    for layer, group, weights in (_of_keras_3(network, file) if of_keras_3 else _legacy(file)):
        count += len(weights)
        if count > _ARRAYS:
            raise ValueError(f"not a Keras weight file (more than {_ARRAYS} arrays)")
        headers = [hdf5_arrays.header(group, name) for name in weights]
        layers.append(_Stored(layer, group, headers))
    return [layer for layer in layers if layer.weights]


def _legacy(file: Any) -> Iterator[tuple[str, Any, Sequence[str]]]:
    """Yield the layers and the names of their arrays in the order that the file records."""
    root = hdf5_arrays.member(file, "model_weights") if "model_weights" in file else file
    for layer in hdf5_arrays.names(root, "layer_names"):
        group = hdf5_arrays.member(root, layer)
        yield layer, group, hdf5_arrays.names(group, "weight_names")


def _of_keras_3(network: Network, file: Any) -> Iterator[tuple[str, Any, Sequence[str]]]:
    """Yield the layers of a `.weights.h5` file, which records no order: the network's, then others.

    The file names a layer by its class and its number among the layers of that class, and the
    arrays of a layer by their numbers: `dense/vars/0`, `dense/vars/1`, `dense_1/vars/0`.
    """
    root = hdf5_arrays.member(file, "layers")
    places: Counter[str] = Counter()
    layers = []
    for layer in network.layers:
        if kind := _KERAS_3.get(type(layer)):
            layers.append(f"{kind}_{places[kind]}" if places[kind] else kind)
            places[kind] += 1
    if len(root) > _ARRAYS:
        raise ValueError(f"not a Keras weight file (more than {_ARRAYS} layers)")
    others = [name for name in root if name not in layers and f"{name}/vars" in root]
    for layer in layers + others:
        count = len(hdf5_arrays.member(root, f"{layer}/vars"))
        yield layer, root, [f"{layer}/vars/{number}" for number in range(min(count, _ARRAYS + 1))]


def _check(network: Network, stored: list[_Stored]) -> None:
    wanted: dict[int, list[Weight]] = {}
    for weight in weight_order(network):
        wanted.setdefault(weight.layer, []).append(weight)
    for item, found in zip_longest(wanted.items(), stored):
        if item is None:
            raise ValueError(
                f"{len(stored)} layers with weights, the network has {len(wanted)} "
                f"(the first too many is {shown(found.layer)})"
            )
        index, weights = item
        where = f"layer {index} ({type(network.layers[index]).__name__})"
        arrays = found.weights if found else []
        for weight, header in zip_longest(weights, arrays):
            if weight is None:
                raise ValueError(f"{where}: wants {len(weights)} weights, found {len(arrays)}")
            if header is None or header.shape != weight.shape:
                got = "nothing" if header is None else f"{header.shape} in {shown(header.name)}"
                raise ValueError(f"{where}: {weight.name} wants shape {weight.shape}, found {got}")


def check_weights(network: Network, weights_hdf5: str | os.PathLike[str]) -> None:
    """Check that a weight file fits a network, from the file's headers; no array is read.

    Args:
        network: the network.
        weights_hdf5: path of the weights.

    Raises:
        ValueError: the file or an array is missing, or an array has the wrong shape.

    Example:
        >>> from persist_jax.models.mlp import mlp
        >>> check_weights(mlp((4,), hidden=()), "nowhere/weights.hdf5")
        Traceback (most recent call last):
        ValueError: nowhere/weights.hdf5: no such file
    """
    with hdf5_arrays.opened(Path(weights_hdf5)) as file:
        _check(network, _headers(network, file))


def read_weights(network: Network, weights_hdf5: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a network's variables from a Keras weight file.

    Arrays are matched by the order that the file records (`layer_names`, `weight_names`), never by
    name: Keras numbers names globally, so they differ between files of the same network. A
    `.weights.h5` file of Keras 3 records no order, but numbers its names within the file.

    Args:
        network: the network.
        weights_hdf5: path of the weights, in HDF5, from `save_weights` or `save` of Keras 2 or 3.

    Returns:
        Variables for `network.apply`, in float32.

    Raises:
        ValueError: the file or an array is missing, or an array has the wrong shape, is stored
            outside the file or is not finite in float32; the line names the file and the array.
    """
    with hdf5_arrays.opened(Path(weights_hdf5)) as file:
        stored = _headers(network, file)
        _check(network, stored)
        arrays = [
            hdf5_arrays.read(group, header.name)
            for _, group, weights in stored
            for header in weights
        ]
        return variables_from_weights(network, arrays)


def read_network(
    config_json: str | os.PathLike[str], weights_hdf5: str | os.PathLike[str]
) -> tuple[Network, dict[str, Any]]:
    """Read a network and its variables from a Keras configuration and a Keras weight file.

    Args:
        config_json: path of `config.json`; see `network_from_config`.
        weights_hdf5: path of the weights; see `read_weights`.

    Returns:
        The network, and its variables for `network.apply(variables, x)`.

    Raises:
        ValueError: a layer or an argument is unknown, a file or an array is missing, or an array
            has the wrong shape.

    Example:
        >>> read_network("nowhere/config.json", "nowhere/weights.hdf5")
        Traceback (most recent call last):
        ValueError: nowhere/config.json: no such file
    """
    network = read_config(config_json)
    return network, read_weights(network, weights_hdf5)


def write_weights(
    path: str | os.PathLike[str], network: Network, variables: dict[str, Any]
) -> None:
    """Write variables as a Keras weight file.

    Args:
        path: the file to write.
        network: the network.
        variables: its variables.

    Example:
        >>> import tempfile
        >>> from persist_jax.models.mlp import mlp
        >>> network = mlp((2, 2, 1), hidden=(3,))
        >>> variables = network.init(jax.random.key(0), jnp.ones((1, 2, 2, 1)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_weights(Path(folder) / "weights.hdf5", network, variables)
    """
    with needed_by("write_weights", "experiment"):
        import h5py

    names = [f"{type(layer).__name__.lower()}_{i}" for i, layer in enumerate(network.layers)]
    weights: dict[str, list[str]] = {name: [] for name in names}
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array(names, "S")
        for weight in weight_order(network):
            layer, keras = names[weight.layer], _KERAS_NAMES.get(weight.name, weight.name)
            if isinstance(network.layers[weight.layer], BatchNormalization) and keras == "bias":
                keras = "beta"
            weights[layer].append(f"{layer}/{keras}:0")
            array = variables[weight.collection][layer_name(weight.layer)][weight.name]
            file.require_group(layer)[weights[layer][-1]] = np.asarray(array)
        for name, recorded in weights.items():
            file.require_group(name).attrs["weight_names"] = np.array(recorded, "S")
