"""Every layer kind against Keras itself, read from both kinds of files that Keras 3 writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from persist_jax.models.activations import ACTIVATIONS
from persist_jax.pgdl import network_from_config, read_network

IMAGE = [7, 9, 4]


def _layer(name, **arguments):
    return {"layer_name": name, **arguments}


CONVOLUTIONS = {
    "conv_same_strides": {"kernel_size": 3, "strides": 2, "padding": "same"},
    "conv_same_even_kernel": {"kernel_size": [2, 4], "strides": [1, 2], "padding": "same"},
    "conv_valid": {"kernel_size": [3, 2], "strides": [2, 1], "activation": "elu"},
    "conv_dilated": {"kernel_size": 3, "padding": "same", "dilation_rate": 2, "use_bias": False},
}
POOLINGS = {
    "same": {"pool_size": [3, 2], "strides": 2, "padding": "same"},
    "same_overlapping": {"pool_size": 3, "strides": 1, "padding": "same"},
    "default": {"pool_size": 2},
    "valid": {"pool_size": 3, "strides": [1, 2]},
}
CASES = {
    **{n: (IMAGE, [_layer("Conv2D", filters=6, **a)]) for n, a in CONVOLUTIONS.items()},
    **{f"average_{n}": (IMAGE, [_layer("AveragePooling2D", **a)]) for n, a in POOLINGS.items()},
    **{f"max_{n}": (IMAGE, [_layer("MaxPooling2D", **a)]) for n, a in POOLINGS.items()},
    "max_alias": (IMAGE, [_layer("MaxPool2D", pool_size=3)]),
    "average_alias": (IMAGE, [_layer("AvgPool2D", pool_size=3)]),
    "convolution_alias": (IMAGE, [_layer("Convolution2D", filters=2, kernel_size=3)]),
    "global_alias": (IMAGE, [_layer("GlobalAvgPool2D")]),
    "global": (IMAGE, [_layer("GlobalAveragePooling2D")]),
    "global_keepdims": (IMAGE, [_layer("GlobalAveragePooling2D", keepdims=True)]),
    "batch_norm": (IMAGE, [_layer("BatchNormalization")]),
    "batch_norm_uncentred": (IMAGE, [_layer("BatchNormalization", center=False, epsilon=0.1)]),
    "batch_norm_unscaled": ([6], [_layer("BatchNormalization", scale=False)]),
    "prelu": (IMAGE, [_layer("PReLU")]),
    "prelu_shared": (IMAGE, [_layer("PReLU", shared_axes=[1, 2])]),
    "relu": (IMAGE, [_layer("ReLU")]),
    "relu_all": (IMAGE, [_layer("ReLU", max_value=1.5, negative_slope=0.2, threshold=0.3)]),
    "dense_on_images": (IMAGE, [_layer("Dense", units=3, use_bias=False)]),
    **{f"activation_{n}": ([6], [_layer("Dense", units=7, activation=n)]) for n in ACTIVATIONS},
    # Ten and more layers: names in alphabetical order are not the order of the layers.
    "chain": (
        IMAGE,
        [_layer("Conv2D", filters=5, kernel_size=1) for _ in range(11)]
        + [_layer("Flatten"), _layer("Dropout", rate=0.3), _layer("Activation", activation="tanh")]
        + [_layer("Dense", units=315) for _ in range(2)],
    ),
}


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras")
    (folder / "cases.json").write_text(json.dumps(CASES))
    script = Path(__file__).with_name("keras_oracle.py")
    command = [sys.executable, str(script), str(folder), str(folder / "cases.json")]
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    subprocess.run(command, check=True, env=quiet, capture_output=True)
    return folder


@pytest.mark.slow  # TensorFlow starts for it; the golden networks are there without
@pytest.mark.parametrize("case", CASES)
def test_outputs_equal_keras(oracle, case):
    input_shape, layers = CASES[case]
    config = oracle / f"{case}.json"
    config.write_text(json.dumps({"model_config": layers, "input_shape": input_shape}))
    network, variables = read_network(config, oracle / f"{case}.h5")
    _, of_keras_3 = read_network(config, oracle / f"{case}.weights.h5")
    jax.tree.map(np.testing.assert_array_equal, of_keras_3, variables)
    with np.load(oracle / f"{case}.npz") as wanted:
        logits, _ = network.apply(variables, wanted["x"])
        scale = np.abs(wanted["y"]).max()
        np.testing.assert_allclose(logits, wanted["y"], rtol=1e-5, atol=1e-5 * scale)
        # Every argument that Keras itself writes, at its default, changes nothing.
        full = json.loads((oracle / f"{case}.full.json").read_text())
        same = network_from_config({"model_config": full, "input_shape": input_shape})
        if same != network:  # strides that are spelt out, an alias of an activation
            np.testing.assert_array_equal(same.apply(variables, wanted["x"])[0], logits)
