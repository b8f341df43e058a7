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
from persist_jax.pgdl.keras_weights import read_weights

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


def _split_list(group, attribute, parts):
    listed = group.attrs[attribute]
    del group.attrs[attribute]
    for number, part in enumerate(np.array_split(listed, parts)):
        group.attrs[f"{attribute}{number}"] = part


def test_lists_that_keras_split_are_read(weights):
    """As Keras does with what HDF5 has no room for in one attribute."""
    _, whole = read_network(CONFIG, weights)
    with h5py.File(weights, "a") as file:
        _split_list(_group(file, 1), "weight_names", 2)
        _split_list(file, "layer_names", 3)
    _, split = read_network(CONFIG, weights)
    jax.tree.map(np.testing.assert_array_equal, split, whole)
    with h5py.File(weights, "a") as file:
        del file.attrs["layer_names2"]
    with pytest.raises(ValueError, match=r"layer 6 \(Dense\): kernel wants .*, found nothing"):
        read_network(CONFIG, weights)
    with h5py.File(weights, "a") as file:
        file.attrs["layer_names0"] = [b"x" * 30] * 2100
    with pytest.raises(ValueError, match="layer_names has 2100 names of .*, at most 2000"):
        read_network(CONFIG, weights)


def test_a_list_of_more_than_64_kb_is_read(tmp_path):
    network = network_from_config(
        {"model_config": [{"layer_name": "Dense", "units": 2}], "input_shape": [2]}
    )
    params = {"layer_00": {"kernel": np.ones((2, 2)), "bias": np.ones(2)}}
    write_weights(tmp_path / "weights.hdf5", network, {"params": params})
    with h5py.File(tmp_path / "weights.hdf5", "a") as file:
        names = [f"{'no_weights_' * 20}{number}" for number in range(400)]
        for name in names:
            file.create_group(name).attrs["weight_names"] = []
        together = np.array([*names, *file.attrs["layer_names"].astype(str)], "S")
        assert together.nbytes > 1 << 16
        del file.attrs["layer_names"]
        for number, part in enumerate(np.array_split(together, 2)):
            file.attrs[f"layer_names{number}"] = part
    read = read_weights(network, tmp_path / "weights.hdf5")
    np.testing.assert_array_equal(read["params"]["layer_00"]["kernel"], np.ones((2, 2)))


@pytest.fixture
def of_keras_3(weights, tmp_path):
    """The same weights as Keras 3 lays them out in a `.weights.h5` file."""
    path = tmp_path / "model.weights.h5"
    with h5py.File(weights) as file, h5py.File(path, "w") as other:
        groups = [file[layer] for layer in file.attrs["layer_names"]]
        groups = [group for group in groups if len(group.attrs["weight_names"])]
        names = ["conv2d", "batch_normalization", "conv2d_1", "dense", "dense_1"]
        for name, group in zip(names, groups, strict=True):
            for number, weight in enumerate(group.attrs["weight_names"]):
                other[f"layers/{name}/vars/{number}"] = group[weight][()]
        other.create_group("layers/flatten/vars")
        other.create_group("vars")
    return path


def test_files_of_keras_3_hold_the_same(weights, of_keras_3):
    _, wanted = read_network(CONFIG, weights)
    network, read = read_network(CONFIG, of_keras_3)
    jax.tree.map(np.testing.assert_array_equal, read, wanted)
    check_weights(network, of_keras_3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layers: layers.pop("conv2d_1"), "'conv2d_1/vars' is missing"),
        (lambda layers: layers.pop("dense/vars/0"), "'dense/vars/0' is missing"),
        (lambda layers: layers.copy("dense", "dense_2"), r"6 layers .*too many is 'dense_2'\)"),
        (lambda layers: layers["dense/vars"].create_dataset("2", (1,)), "wants 2 weights, found 3"),
        (lambda layers: layers.move("conv2d_1", "conv2d_2"), "'conv2d_1/vars' is missing"),
        (lambda layers: _link(layers, "dense/vars"), "'dense/vars' is a soft link; only arrays"),
    ],
)
def test_files_of_keras_3_that_do_not_fit_are_named(of_keras_3, change, message):
    with h5py.File(of_keras_3, "a") as file:
        change(file["layers"])
    with pytest.raises(ValueError, match=f"^{of_keras_3}: .*{message}"):
        read_network(CONFIG, of_keras_3)


def _link(layers, name):
    del layers[name]
    layers[name] = h5py.SoftLink("/layers/dense_1/vars")


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
