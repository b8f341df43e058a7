"""Read Keras layer configurations (`config.json` of a PGDL model) as networks."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from persist_jax._plumbing.plain_files import read_json
from persist_jax.models import layers as kinds
from persist_jax.models.activations import ACTIVATIONS
from persist_jax.models.layers import Layer
from persist_jax.models.network import Network
from persist_jax.pgdl import keras_values as values

# Tracing a layer takes milliseconds; the competition's deepest networks have about twenty layers.
_LAYERS = 500
_AXES = 8

_activation = values.choice(*ACTIVATIONS)
_padding = values.choice("valid", "same")


def _activation_or_linear(value: Any) -> str:
    return "linear" if value is None else _activation(value)


# By argument, the values at which it does not change the result. `_ANY`: every value, as for
# initialisers, since the weights come from a file.
_ANY = None
Neutral = dict[str, tuple[Any, ...] | None]


def _of_weights(*names: str) -> Neutral:
    neutral: Neutral = {f"{name}_initializer": _ANY for name in names}
    for name in names:
        neutral |= {f"{name}_regularizer": (None,), f"{name}_constraint": (None,)}
    return neutral


_POLICY = {"module": "keras", "class_name": "DTypePolicy", "registered_name": None}
_EVERYWHERE: Neutral = {
    "name": _ANY,
    "trainable": (True,),
    "dtype": ("float32", None, _POLICY | {"config": {"name": "float32"}}),
    "activity_regularizer": (None,),
}
_CHANNELS: Neutral = {"data_format": ("channels_last", None)}
_NORMALIZATION: Neutral = _of_weights("beta", "gamma", "moving_mean", "moving_variance") | {
    "renorm": (False,),
    "renorm_clipping": (None,),
    "renorm_momentum": _ANY,
    "synchronized": (False,),
    "virtual_batch_size": (None,),
    "adjustment": (None,),
    "fused": (None,),
}


class _Kind(NamedTuple):
    layer: type[Layer]
    arguments: dict[str, Callable[[Any], Any]]
    neutral: Neutral


_AFFINE = {"activation": _activation_or_linear, "use_bias": values.flag}
_CONVOLUTION = {
    "filters": values.integer,
    "kernel_size": values.pair,
    "strides": values.pair,
    "padding": _padding,
    "dilation_rate": values.pair,
    "groups": values.integer,
} | _AFFINE
_POOLING = {"pool_size": values.pair, "strides": values.optional(values.pair), "padding": _padding}
_RELU = {
    "max_value": values.optional(values.real),
    "negative_slope": values.real,
    "threshold": values.real,
}
_BATCH = {
    "momentum": values.share,
    "epsilon": values.not_negative,
    "center": values.flag,
    "scale": values.flag,
}

_KINDS: dict[str, _Kind] = {
    "Conv2D": _Kind(kinds.Conv2D, _CONVOLUTION, _of_weights("kernel", "bias") | _CHANNELS),
    "Dense": _Kind(
        kinds.Dense,
        {"units": values.integer} | _AFFINE,
        _of_weights("kernel", "bias") | {"lora_rank": (None,), "quantization_config": (None,)},
    ),
    "Dropout": _Kind(kinds.Dropout, {"rate": values.rate}, {"seed": _ANY, "noise_shape": (None,)}),
    "Flatten": _Kind(kinds.Flatten, {}, _CHANNELS),
    "MaxPooling2D": _Kind(kinds.MaxPooling2D, _POOLING, _CHANNELS),
    "AveragePooling2D": _Kind(kinds.AveragePooling2D, _POOLING, _CHANNELS),
    "GlobalAveragePooling2D": _Kind(
        kinds.GlobalAveragePooling2D, {"keepdims": values.flag}, _CHANNELS
    ),
    "Activation": _Kind(kinds.Activation, {"activation": _activation}, {}),
    "ReLU": _Kind(kinds.ReLU, _RELU, {}),
    "BatchNormalization": _Kind(kinds.BatchNormalization, _BATCH, _NORMALIZATION),
    "PReLU": _Kind(kinds.PReLU, {"shared_axes": values.axes}, _of_weights("alpha")),
}
_ALIASES = {
    "Convolution2D": "Conv2D",
    "MaxPool2D": "MaxPooling2D",
    "AvgPool2D": "AveragePooling2D",
    "GlobalAvgPool2D": "GlobalAveragePooling2D",
}
_KINDS |= {alias: _KINDS[name] for alias, name in _ALIASES.items()}


def _read_layer(entry: Any, where: str, neutral_here: Neutral) -> Layer:
    """Read a layer of the configuration; ignore arguments at a neutral value.

    Args:
        entry: the layer's name and arguments.
        where: the layer's position, for errors.
        neutral_here: arguments whose neutral values depend on the layer's position.
    """
    if not isinstance(entry, dict) or "layer_name" not in entry:
        raise ValueError(f"{where} has no layer_name")
    name = entry["layer_name"]
    if not isinstance(name, str) or name not in _KINDS:
        raise ValueError(f"{where}: unknown layer {values.shown(name)}, known: {', '.join(_KINDS)}")
    kind, where = _KINDS[name], f"{where} ({name})"
    neutral, arguments = _EVERYWHERE | kind.neutral | neutral_here, {}
    for argument in sorted(entry.keys() - kind.arguments - neutral.keys() - {"layer_name"}):
        known = ", ".join(kind.arguments) or "none"
        raise ValueError(f"{where}: unknown argument {values.shown(argument)}, known: {known}")
    for argument, value in entry.items():
        if argument in kind.arguments:
            try:
                arguments[argument] = kind.arguments[argument](value)
            except ValueError as error:
                given = values.shown(value)
                raise ValueError(f"{where}: {argument} = {given}, not {error}") from None
        elif argument in neutral:
            _refuse_unless_neutral(f"{where}: {argument}", value, neutral[argument])
    for field in dataclasses.fields(kind.layer):
        if field.default is dataclasses.MISSING and field.name not in arguments:
            raise ValueError(f"{where}: {field.name} is missing")
    return kind.layer(**arguments)


def _refuse_unless_neutral(where: str, value: Any, neutral: tuple[Any, ...] | None) -> None:
    if neutral is not _ANY and value not in neutral:
        given, only = json.dumps(value), json.dumps(neutral[0])
        given = given if len(given) <= 120 else f"{given[:120]}..."
        raise ValueError(f"{where} = {given} would change the result; only {only} is supported")


def _read_layers(entries: list[Any], input_shape: tuple[int, ...]) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    last_axis = len(input_shape)
    for index, entry in enumerate(entries):
        neutral: Neutral = {}
        if index == 0:
            of_batch = ([None, *input_shape],)
            neutral |= {"input_shape": ([*input_shape],)}
            neutral |= {"batch_input_shape": of_batch, "batch_shape": of_batch}
        if isinstance(entry, dict) and entry.get("layer_name") == "BatchNormalization":
            neutral |= {"axis": (-1, [-1], last_axis, [last_axis])}
        layers.append(_read_layer(entry, f"layer {index}", neutral))
        pooled = isinstance(layers[-1], kinds.GlobalAveragePooling2D) and not layers[-1].keepdims
        if pooled or isinstance(layers[-1], kinds.Flatten):
            last_axis = 1
    return tuple(layers)


def network_from_config(config: dict[str, Any]) -> Network:
    """Build the network of a parsed `config.json`.

    Args:
        config: `{"model_config": [{"layer_name": "Conv2D", ...}, ...], "input_shape": [h, w, c]}`
            with Keras class names and keyword arguments. Whole-valued floats count as integers;
            arguments left out have Keras' defaults. An argument that this package does not support
            is accepted at values that do not change the result, as `"kernel_regularizer": null`
            and every initialiser.

    Returns:
        The network.

    Raises:
        ValueError: an unknown layer or argument, or a wrong value.

    Example:
        >>> dense = {"layer_name": "Dense", "units": 64.0, "activation": "relu"}
        >>> network_from_config({"model_config": [dense], "input_shape": [3]}).layers
        (Dense(units=64, activation='relu', use_bias=True),)
    """
    for key in ("model_config", "input_shape"):
        if not isinstance(config.get(key), list):
            raise ValueError(f"{key} is missing or not a list")
    try:
        input_shape = tuple(values.integer(size) for size in config["input_shape"])
    except ValueError as error:
        given = values.shown(config["input_shape"])
        raise ValueError(f"input_shape = {given}, not each {error}") from None
    if len(input_shape) > _AXES:
        raise ValueError(f"input_shape has {len(input_shape)} axes, at most {_AXES} are read")
    entries = config["model_config"]
    if not 0 < len(entries) <= _LAYERS:
        count = f"{len(entries)} layers, at most {_LAYERS} are read" if entries else "no layer"
        raise ValueError(f"model_config has {count}")
    return Network(_read_layers(entries, input_shape), input_shape)


def logits_shape(network: Network) -> tuple[int, ...]:
    """Return the shape of the last layer's output for one example.

    Raises:
        ValueError: the layers do not fit together or do not fit the input shape.

    Example:
        >>> dense = {"layer_name": "Dense", "units": 64}
        >>> logits_shape(network_from_config({"model_config": [dense], "input_shape": [8, 3]}))
        (8, 64)
    """
    example = jax.ShapeDtypeStruct((1, *network.input_shape), jnp.float32)
    (logits, _), _ = jax.eval_shape(network.init_with_output, jax.random.key(0), example)
    return logits.shape[1:]


def read_config(config_json: str | Path) -> Network:
    """Read the network of a `config.json`.

    Args:
        config_json: path of the file; see `network_from_config` for its contents.

    Returns:
        The network.

    Raises:
        ValueError: the file is missing or wrong, or its layers do not fit together; the line
            begins with its path.

    Example:
        >>> read_config("nowhere/config.json")
        Traceback (most recent call last):
        ValueError: nowhere/config.json: no such file
    """
    path = Path(config_json)
    config = read_json(path)
    if not isinstance(config, dict):
        raise ValueError(f"{path}: not a JSON object")
    try:
        network = network_from_config(config)
        logits_shape(network)
        return network
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
