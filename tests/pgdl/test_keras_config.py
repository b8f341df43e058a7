"""Keras configurations: what is refused, and what is accepted because it changes nothing."""

import json
import os
from pathlib import Path

import pytest

from persist_jax.pgdl import network_from_config, read_network

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


def _config(*layers, input_shape=(8, 8, 1)):
    return {"model_config": list(layers), "input_shape": list(input_shape)}


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"layer_name": "Conv3D"}, r"layer 1: unknown layer 'Conv3D', known: Conv2D, Dense,"),
        ({"layer_name": "Dense", "units": 3, "unit": 4}, r"\(Dense\): unknown argument 'unit', k"),
        ({"layer_name": "Flatten", "x": 1}, r"\(Flatten\): unknown argument 'x', known: none"),
        ({"layer_name": "Dense", "units": 3.5}, r"units = 3.5, not a whole number"),
        ({"layer_name": "Dense", "units": True}, r"units = True, not a whole number"),
        ({"layer_name": "Dense", "units": float("nan")}, r"units = nan, not a whole number"),
        ({"layer_name": "Dense"}, r"layer 1 \(Dense\): units is missing"),
        ({"layer_name": "Dense", "units": 3, "activation": "reluu"}, r"'reluu', not one of linear"),
        ({"layer_name": "Dense", "units": 3, "activation": ["relu"]}, r"= \['relu'\], not one of"),
        ({"layer_name": "Dropout", "rate": 1.0}, r"rate = 1.0, not a number of at least 0"),
        ({"layer_name": "MaxPooling2D", "padding": "causal"}, r"'causal', not one of valid, same"),
        ({"layer_name": "MaxPooling2D", "pool_size": [2, 2, 2]}, r"not a number or a pair"),
        ({"layer_name": ["Dense"]}, r"layer 1: unknown layer \['Dense'\]"),
        ({"units": 3}, r"layer 1 has no layer_name"),
    ],
)
def test_refused_layers(layer, message):
    with pytest.raises(ValueError, match=message):
        network_from_config(_config({"layer_name": "Flatten"}, layer))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"input_shape": [3]}, "model_config is missing"),
        ({"model_config": []}, "input_shape is missing"),
        (_config(), "model_config has no layer"),
        (_config({"layer_name": "Flatten"}, input_shape=[0, 3]), r"input_shape = \[0, 3\]"),
    ],
)
def test_refused_configurations(config, message):
    with pytest.raises(ValueError, match=message):
        network_from_config(config)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"layer_name": "Conv2D", "filters": 2, "kernel_size": 9}, r"Conv2D leaves nothing"),
        ({"layer_name": "MaxPooling2D", "pool_size": 9}, r"MaxPooling2D leaves nothing"),
        ({"layer_name": "PReLU", "shared_axes": [4]}, r"shared_axes \[4\] are not axes 1 to 3"),
        ({"layer_name": "Conv2D", "filters": 2, "kernel_size": 3, "groups": 2}, r"groups"),
    ],
)
def test_layers_that_do_not_fit_name_the_file(tmp_path, layer, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(_config(layer)))
    with pytest.raises(ValueError, match=f"^{path}: .*{message}"):
        read_network(path, GOLDEN / "conv_bn.hdf5")


def test_convolution_after_flatten_is_refused(tmp_path):
    path = tmp_path / "config.json"
    convolution = {"layer_name": "Conv2D", "filters": 2, "kernel_size": 3}
    path.write_text(json.dumps(_config({"layer_name": "Flatten"}, convolution)))
    with pytest.raises(ValueError, match=r"Conv2D takes inputs \(b, h, w, c\), got shape \(1, 64"):
        read_network(path, GOLDEN / "conv_bn.hdf5")


def _network(*layers, **fields):
    return network_from_config(_config(*layers) | fields)


DENSE = {"layer_name": "Dense", "units": 3}
NORM = {"layer_name": "BatchNormalization"}
FLATTEN = {"layer_name": "Flatten"}
NORMAL = {"class_name": "HeNormal", "config": {"seed": None}}


@pytest.mark.parametrize(
    ("layer", "neutral"),
    [
        (
            DENSE,
            {"kernel_regularizer": None, "bias_constraint": None, "activity_regularizer": None},
        ),
        (DENSE, {"kernel_initializer": "he_normal", "bias_initializer": NORMAL}),
        (DENSE, {"name": "fc1", "dtype": "float32", "trainable": True}),
        (DENSE, {"input_shape": [8, 8, 1]}),
        (DENSE, {"batch_input_shape": [None, 8.0, 8.0, 1.0]}),
        ({"layer_name": "Dropout", "rate": 0.5}, {"noise_shape": None, "seed": 3}),
        ({"layer_name": "MaxPooling2D"}, {"data_format": "channels_last"}),
        (NORM, {"axis": -1, "renorm": False, "gamma_regularizer": None}),
        (NORM, {"axis": [-1], "moving_mean_initializer": "zeros", "renorm_momentum": 0.9}),
        (NORM, {"axis": 3}),
        (NORM, {"axis": [3]}),
        ({"layer_name": "PReLU"}, {"alpha_initializer": "zeros", "shared_axes": None}),
    ],
)
def test_neutral_arguments_are_as_left_out(layer, neutral):
    assert _network(layer | neutral, FLATTEN) == _network(layer, FLATTEN)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [DENSE | {"kernel_regularizer": {"class_name": "L2"}}],
            r'^layer 0 \(Dense\): kernel_regularizer = {"class_name": "L2"} would change the '
            r"result; only null is supported$",
        ),
        ([DENSE | {"activity_regularizer": "l1"}], r'activity_regularizer = "l1" would change'),
        ([DENSE | {"bias_constraint": "non_neg"}], r'bias_constraint = "non_neg" would change'),
        ([DENSE | {"dtype": "float64"}], r'dtype = "float64" .*; only "float32" is supported$'),
        ([DENSE | {"trainable": False}], r"trainable = false .*; only true is supported$"),
        ([DENSE | {"input_shape": [8, 8, 3]}], r"input_shape = \[8, 8, 3\] .*only \[8, 8, 1\] is"),
        ([DENSE | {"batch_input_shape": [8, 8, 1]}], r"batch_input_shape = \[8, 8, 1\] would"),
        ([FLATTEN, DENSE | {"input_shape": [64]}], r"\(Dense\): unknown argument 'input_shape'"),
        ([FLATTEN | {"data_format": "channels_first"}], r"only \"channels_last\" is supported$"),
        ([{"layer_name": "Dropout", "rate": 0.5, "noise_shape": [1]}], r"noise_shape = \[1\]"),
        ([NORM | {"axis": 1}], r"^layer 0 \(BatchNormalization\): axis = 1 .*; only -1 is"),
        ([FLATTEN, NORM | {"axis": 3}], r"^layer 1 \(BatchNormalization\): axis = 3 would"),
        ([{"layer_name": "GlobalAveragePooling2D"}, NORM | {"axis": [3]}], r"axis = \[3\] would"),
        ([NORM | {"renorm": True}], r"renorm = true .*; only false is supported$"),
    ],
)
def test_arguments_that_would_change_the_result_are_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        _network(*layers)


def test_the_axis_of_flat_batches_is_1():
    pooling = {"layer_name": "GlobalAveragePooling2D"}
    assert _network(FLATTEN, NORM | {"axis": 1}) == _network(FLATTEN, NORM)
    assert _network(pooling, NORM | {"axis": [1]}) == _network(pooling, NORM)
    kept = pooling | {"keepdims": True}
    assert _network(kept, NORM | {"axis": 3}) == _network(kept, NORM)



def _first_layer(name, units="2"):
    layer = f'{{"layer_name": "{name}", "units": {units}}}'
    return f'{{"model_config": [{layer}], "input_shape": [2]}}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 10**5 + "]" * 10**5, "nested too deeply"),
        ("[" * 200 + "]" * 200, "nested more than 100 deep"),
        (_first_layer("Dense", "9" * 400), "an integer of 400 digits"),
        ('{"model_config": [], "model_config": []}', "key 'model_config' appears twice"),
        ('{"model_config": [{"layer_name": ', r"not JSON \(Expecting value: line 1 column 34"),
        (_first_layer("x" * 10**5), "layer 0: unknown layer 'xxx"),
        (_first_layer("x" * (1 << 24)), "1677[0-9]{4} bytes, at most 16777216 are read"),
        (b"\xff\xfe\x00", "not JSON"),
    ],
)
def test_files_of_any_content_are_one_line(tmp_path, text, message):
    path = tmp_path / "config.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=f"^{path}: .*{message}") as error:
        read_network(path, GOLDEN / "conv_bn.hdf5")
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_sizes_are_bounded_before_a_network_is_traced(tmp_path):
    pipe = tmp_path / "config.json"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match=f"^{pipe}: not a regular file$"):
        read_network(pipe, pipe)
    with pytest.raises(ValueError, match="model_config has 10000 layers, at most 500 are read"):
        _network(*[DENSE] * 10**4)
    with pytest.raises(ValueError, match="input_shape has 1000 axes, at most 8 are read"):
        _network(DENSE, input_shape=[1] * 1000)
    for units in (2**31, 1e30, 10**300):
        with pytest.raises(ValueError, match="units = .*, not a whole number of at most 21474"):
            _network(DENSE | {"units": units})
    for value in (float("nan"), float("inf"), 10**400):
        with pytest.raises(ValueError, match="max_value = .*, not a number of float32"):
            _network({"layer_name": "ReLU", "max_value": value})
    with pytest.raises(ValueError, match="momentum = -1, not a number from 0 to 1"):
        _network(NORM | {"momentum": -1})
