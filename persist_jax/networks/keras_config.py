"""Keras layer configurations (`config.json` of a PGDL model) to layers."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from persist_jax.networks import layers as kinds
from persist_jax.networks.activations import ACTIVATIONS
from persist_jax.networks.layers import Layer
from persist_jax.networks.network import Network


def _integer(value: Any) -> int:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or value < 1 or not float(value).is_integer():
        raise ValueError("a whole number of at least 1")
    return int(value)


def _real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number")
    return float(value)


def _rate(value: Any) -> float:
    if not 0.0 <= _real(value) < 1.0:
        raise ValueError("a number of at least 0 and below 1")
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _pair(value: Any) -> tuple[int, int]:
    values = value if isinstance(value, list) else [value, value]
    if len(values) != 2:
        raise ValueError("a number or a pair of numbers")
    return _integer(values[0]), _integer(values[1])


def _axes(value: Any) -> tuple[int, ...]:
    return tuple(_integer(axis) for axis in (value if isinstance(value, list) else [value]))


def _choice(*choices: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        name = value.lower() if isinstance(value, str) else value
        if name not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return name

    return read


def _optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


_activation = _choice(*ACTIVATIONS)
_padding = _choice("valid", "same")


def _activation_or_linear(value: Any) -> str:
    return "linear" if value is None else _activation(value)


class _Kind(NamedTuple):
    layer: type[Layer]
    arguments: dict[str, Callable[[Any], Any]]


_POOLING = {"pool_size": _pair, "strides": _optional(_pair), "padding": _padding}

_KINDS: dict[str, _Kind] = {
    "Conv2D": _Kind(
        kinds.Conv2D,
        {
            "filters": _integer,
            "kernel_size": _pair,
            "strides": _pair,
            "padding": _padding,
            "dilation_rate": _pair,
            "groups": _integer,
            "activation": _activation_or_linear,
            "use_bias": _flag,
        },
    ),
    "Dense": _Kind(
        kinds.Dense,
        {"units": _integer, "activation": _activation_or_linear, "use_bias": _flag},
    ),
    "Dropout": _Kind(kinds.Dropout, {"rate": _rate}),
    "Flatten": _Kind(kinds.Flatten, {}),
    "MaxPooling2D": _Kind(kinds.MaxPooling2D, _POOLING),
    "MaxPool2D": _Kind(kinds.MaxPooling2D, _POOLING),
    "AveragePooling2D": _Kind(kinds.AveragePooling2D, _POOLING),
    "GlobalAveragePooling2D": _Kind(kinds.GlobalAveragePooling2D, {"keepdims": _flag}),
    "Activation": _Kind(kinds.Activation, {"activation": _activation}),
    "ReLU": _Kind(
        kinds.ReLU, {"max_value": _optional(_real), "negative_slope": _real, "threshold": _real}
    ),
    "BatchNormalization": _Kind(
        kinds.BatchNormalization,
        {"momentum": _real, "epsilon": _real, "center": _flag, "scale": _flag},
    ),
    "PReLU": _Kind(kinds.PReLU, {"shared_axes": _axes}),
}


def _read_layer(index: int, entry: Any) -> Layer:
    if not isinstance(entry, dict) or "layer_name" not in entry:
        raise ValueError(f"layer {index} has no layer_name")
    name = entry["layer_name"]
    if not isinstance(name, str) or name not in _KINDS:
        raise ValueError(f"layer {index}: unknown layer {name!r}, known: {', '.join(_KINDS)}")
    kind, arguments, where = _KINDS[name], {}, f"layer {index} ({name})"
    for argument, value in entry.items():
        if argument == "layer_name":
            continue
        if argument not in kind.arguments:
            known = ", ".join(kind.arguments) or "none"
            raise ValueError(f"{where}: unknown argument {argument!r}, known: {known}")
        try:
            arguments[argument] = kind.arguments[argument](value)
        except ValueError as error:
            raise ValueError(f"{where}: {argument} = {value!r}, not {error}") from None
    for field in dataclasses.fields(kind.layer):
        if field.default is dataclasses.MISSING and field.name not in arguments:
            raise ValueError(f"{where}: {field.name} is missing")
    return kind.layer(**arguments)


def network_from_config(config: dict[str, Any]) -> Network:
    """Network of a parsed `config.json`.

    Args:
        config: `{"model_config": [{"layer_name": "Conv2D", ...}, ...], "input_shape": [h, w, c]}`
            with Keras class names and keyword arguments. Whole-valued floats mean integers, and
            Keras' defaults stand for what is left out.

    Returns:
        The network.

    Raises:
        ValueError: an unknown layer or argument, or a value that it does not take.

    Example:
        >>> dense = {"layer_name": "Dense", "units": 64.0, "activation": "relu"}
        >>> network_from_config({"model_config": [dense], "input_shape": [3]}).layers
        (Dense(units=64, activation='relu', use_bias=True),)
    """
    for key in ("model_config", "input_shape"):
        if not isinstance(config.get(key), list):
            raise ValueError(f"{key} is missing or not a list")
    try:
        input_shape = tuple(_integer(size) for size in config["input_shape"])
    except ValueError as error:
        raise ValueError(f"input_shape = {config['input_shape']}, not each {error}") from None
    entries = config["model_config"]
    if not entries:
        raise ValueError("model_config has no layer")
    return Network(tuple(_read_layer(i, entry) for i, entry in enumerate(entries)), input_shape)


def read_config(config_json: str | Path) -> Network:
    """Network of a `config.json`.

    Args:
        config_json: path of the file; see `network_from_config` for its contents.

    Returns:
        The network.

    Raises:
        ValueError: the file is missing or not such a configuration; the line begins with its path.

    Example:
        >>> read_config("nowhere/config.json")
        Traceback (most recent call last):
        ValueError: nowhere/config.json: no such file
    """
    path = Path(config_json)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path}: not a JSON object")
    try:
        return network_from_config(config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
