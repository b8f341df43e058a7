"""What is refused when networks are read, what is written, and the MNIST perceptrons."""

import json
import shutil
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from persist_jax.networks import (
    Network,
    mnist_mlps,
    network_from_config,
    read_network,
    write_weights,
)
from persist_jax.networks.layers import BatchNormalization, Dense, Flatten, PReLU

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CONFIG = GOLDEN / "conv_bn.config.json"


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


@pytest.fixture
def weights(tmp_path):
    return Path(shutil.copy(GOLDEN / "conv_bn.hdf5", tmp_path / "weights.hdf5"))


def _group(file, position):
    return file[file.attrs["layer_names"][position]]


def test_missing_layer_is_named(weights):
    with h5py.File(weights, "a") as file:
        file.attrs["layer_names"] = file.attrs["layer_names"][:-1]
    wanted = r"layer 7 \(Dense\): kernel wants shape \(24, 10\), found nothing"
    with pytest.raises(ValueError, match=wanted):
        read_network(CONFIG, weights)


def test_missing_weight_is_named(weights):
    with h5py.File(weights, "a") as file:
        group = _group(file, 1)
        group.attrs["weight_names"] = group.attrs["weight_names"][:3]
    wanted = r"layer 1 \(BatchNormalization\): var wants shape \(6,\), found nothing"
    with pytest.raises(ValueError, match=wanted):
        read_network(CONFIG, weights)


def test_misshapen_weight_is_named(weights):
    with h5py.File(weights, "a") as file:
        group = _group(file, 3)
        name = group.attrs["weight_names"][0]
        del group[name]
        group[name] = np.zeros((3, 3, 6, 11), np.float32)
    wanted = r"layer 3 \(Conv2D\): kernel wants shape \(3, 3, 6, 12\), found \(3, 3, 6, 11\) in "
    with pytest.raises(ValueError, match=wanted):
        read_network(CONFIG, weights)


def test_too_many_layers_and_weights(weights, tmp_path):
    config = json.loads(CONFIG.read_text())
    config["model_config"].pop()
    shorter = tmp_path / "config.json"
    shorter.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="5 layers with weights, the network has 4"):
        read_network(shorter, weights)
    with h5py.File(weights, "a") as file:
        group = _group(file, 7)
        names = list(group.attrs["weight_names"])
        group.attrs["weight_names"] = [*names, names[-1]]
    with pytest.raises(ValueError, match=r"layer 7 \(Dense\): wants 2 weights, found 3"):
        read_network(CONFIG, weights)


def test_files_that_are_no_weights(tmp_path):
    with pytest.raises(ValueError, match="none.hdf5: no such file"):
        read_network(CONFIG, tmp_path / "none.hdf5")
    text = tmp_path / "text.hdf5"
    text.write_text("not HDF5")
    with pytest.raises(ValueError, match="text.hdf5: not a Keras weight file"):
        read_network(CONFIG, text)
    with h5py.File(tmp_path / "empty.hdf5", "w"):
        pass
    with pytest.raises(ValueError, match="empty.hdf5: not a Keras weight file"):
        read_network(CONFIG, tmp_path / "empty.hdf5")
    with pytest.raises(ValueError, match="text.hdf5: not JSON"):
        read_network(text, text)


def test_written_weights_are_read_back(tmp_path):
    layers = [
        {"layer_name": "Dense", "units": 4},
        {"layer_name": "BatchNormalization"},
        {"layer_name": "PReLU"},
    ]
    layers = layers * 4  # twelve layers: alphabetical order is not theirs
    (tmp_path / "config.json").write_text(json.dumps(_config(*layers, input_shape=[4])))
    network = network_from_config(_config(*layers, input_shape=[4]))
    keys = iter(jax.random.split(jax.random.key(0), 100))
    variables = jax.tree.map(
        lambda leaf: jax.random.normal(next(keys), leaf.shape),
        jax.jit(network.init)(jax.random.key(0), jnp.ones((1, 4))),
    )
    write_weights(tmp_path / "weights.hdf5", network, variables)
    again, read = read_network(tmp_path / "config.json", tmp_path / "weights.hdf5")
    assert again == network and hash(again) == hash(network)
    jax.tree.map(np.testing.assert_array_equal, read, variables)


def test_initial_values_are_those_of_keras():
    layers = (Flatten(), Dense(300, "relu"), BatchNormalization(), PReLU(), Dense(10))
    init = jax.jit(Network(layers, (10, 10, 1)).init)
    variables = init(jax.random.key(0), jnp.ones((1, 10, 10, 1)))
    kernel = variables["params"]["layer_01"]["kernel"]
    limit = np.sqrt(6.0 / (100 + 300))
    assert 0.99 * limit < np.abs(kernel).max() <= limit
    np.testing.assert_allclose(np.std(kernel), limit / np.sqrt(3.0), rtol=0.02)
    assert not np.any(variables["params"]["layer_01"]["bias"])
    assert not np.any(variables["params"]["layer_03"]["alpha"])
    np.testing.assert_array_equal(variables["batch_stats"]["layer_02"]["var"], np.ones(300))


def test_wrong_example_shape_is_refused():
    network = mnist_mlps()["mlp_0"]
    with pytest.raises(ValueError, match=r"x has shape \(2, 8, 8, 1\), the network takes"):
        network.init(jax.random.key(0), jnp.ones((2, 8, 8, 1)))


def test_mnist_perceptrons_have_1010_neurons():
    widths = {}
    for name, network in mnist_mlps().items():
        example = jax.ShapeDtypeStruct((2, *network.input_shape), jnp.float32)
        variables = jax.eval_shape(network.init, jax.random.key(0), example)
        logits, activations = jax.eval_shape(network.apply, variables, example)
        assert logits.shape == (2, 10) and not network.has_convolution
        widths[name] = [activation.shape[1] for activation in activations]
    assert widths == {
        "mlp_0": [450, 350, 200, 10],
        "mlp_1": [450, 350, 200, 10],
        "mlp_2": [300, 250, 200, 150, 100, 10],
    }
    assert [network.training_differs for network in mnist_mlps().values()] == [False, True, False]
    with pytest.raises(ValueError, match="hidden: unknown network 'mlp_3', known: mlp_0"):
        mnist_mlps(hidden={"mlp_3": (4,)})
