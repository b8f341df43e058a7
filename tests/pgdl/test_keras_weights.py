"""Weight files: what is refused, by their headers alone, and what is written."""

import json
import shutil
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from persist_jax.pgdl import check_weights, network_from_config, read_network, write_weights

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CONFIG = GOLDEN / "conv_bn.config.json"


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
    config = {"model_config": layers, "input_shape": [4]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    network = network_from_config(config)
    keys = iter(jax.random.split(jax.random.key(0), 100))
    variables = jax.tree.map(
        lambda leaf: jax.random.normal(next(keys), leaf.shape),
        jax.jit(network.init)(jax.random.key(0), jnp.ones((1, 4))),
    )
    write_weights(tmp_path / "weights.hdf5", network, variables)
    again, read = read_network(tmp_path / "config.json", tmp_path / "weights.hdf5")
    assert again == network and hash(again) == hash(network)
    jax.tree.map(np.testing.assert_array_equal, read, variables)


def test_headers_are_enough_to_check(weights, monkeypatch):
    network, _ = read_network(CONFIG, weights)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: pytest.fail("an array is read"))
    check_weights(network, weights)
    with h5py.File(weights, "a") as file:
        group = _group(file, 3)
        name = group.attrs["weight_names"][0]
        del group[name]
        group[name] = np.zeros((3, 3, 6, 11), np.float32)
    for check in (lambda: check_weights(network, weights), lambda: read_network(CONFIG, weights)):
        with pytest.raises(ValueError, match=r"kernel wants shape \(3, 3, 6, 12\), found"):
            check()


def test_weights_that_are_no_arrays_of_numbers(weights):
    with h5py.File(weights, "a") as file:
        group = _group(file, 7)
        name = group.attrs["weight_names"][1]
        del group[name]
        group[name] = np.full((10,), b"x")
    with pytest.raises(ValueError, match=r"not a Keras weight file \(.*holds no numbers\)"):
        read_network(CONFIG, weights)
    with h5py.File(weights, "a") as file:
        del _group(file, 7)[name]
        _group(file, 7).create_group(name)
    with pytest.raises(ValueError, match="not a Keras weight file"):
        read_network(CONFIG, weights)
