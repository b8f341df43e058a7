"""Weight files that no network may start from: refused by their headers or their numbers."""

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from persist_jax.pgdl import check_weights, network_from_config, read_network, write_weights
from persist_jax.pgdl.keras_config import read_config

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CONFIG = GOLDEN / "conv_bn.config.json"


@pytest.fixture(scope="module")
def network():
    return read_config(CONFIG)


@pytest.fixture
def weights(tmp_path):
    return Path(shutil.copy(GOLDEN / "conv_bn.hdf5", tmp_path / "weights.hdf5"))


def _last_bias(file):
    """The group of the last layer, and the name of its bias, which is not there any more."""
    group = file[file.attrs["layer_names"][7]]
    name = group.attrs["weight_names"][1]
    name = name.decode() if isinstance(name, bytes) else name
    del group[name]
    return group, name


def _virtual(group, name):
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource("other.hdf5", "x", (10,))
    group.create_virtual_dataset(name, layout)


def _external(group, name):
    group.create_dataset(name, (10,), "f4", external=[("/dev/zero", 0, 40)])


def _put(value):
    return lambda group, name: group.create_dataset(name, data=value)


def _declare(shape, dtype="f4", **how):
    return lambda group, name: group.create_dataset(name, shape, dtype, **how)


def _link(link):
    return lambda group, name: group.__setitem__(name, link)


def _loop(group, name):
    group[name] = h5py.SoftLink(f"{group.name}/{name}")


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        (_put(np.full(10, 2j)), "'.*bias:0' holds no numbers"),
        (_put(np.zeros(10, [("a", "f4"), ("b", "f4")])), "holds no numbers"),
        (_declare((10,), h5py.ref_dtype), "holds no numbers"),
        (_put(np.zeros(10, bool)), "holds no numbers"),
        (_put(h5py.Empty("f4")), "bias:0' is empty"),
        (_virtual, "is virtual; only arrays in the file are read"),
        (_external, "is external; only arrays in the file are read"),
        (_link(h5py.ExternalLink("/dev/zero", "/x")), "is an external link; only arrays in the f"),
        (_loop, "is a soft link; only arrays in the file are read"),
        (_declare((2**40,), chunks=(1024,)), r"bias wants shape \(10,\), found \(1099511627776,\)"),
    ],
)
def test_headers_are_refused_before_anything_is_read(weights, network, replace, message):
    with h5py.File(weights, "a") as file:
        replace(*_last_bias(file))
    with pytest.raises(ValueError, match=f"^{weights}: .*{message}") as error:
        check_weights(network, weights)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        (_put(np.array([0.0] * 9 + [np.nan])), "bias:0' holds nan, which is not finite in float32"),
        (_put(np.array([-np.inf] + [0.0] * 9)), "holds -inf, which is not finite in float32"),
        (_put(np.full(10, np.inf, np.float16)), "holds inf, which is not finite in float32"),
        (_put(np.full(10, np.finfo("g").max)), "holds inf, which is not finite in float32"),
        (_put(np.full(10, 1e300)), r"holds 1e\+300, which is not finite in float32"),
        (_declare((10,)), "bias:0': 0 of 40 bytes were written"),
        (_declare((10,), chunks=(4,)), "bias:0': 0 of 3 chunks were written"),
    ],
)
def test_numbers_that_are_none_are_refused(weights, replace, message):
    with h5py.File(weights, "a") as file:
        replace(*_last_bias(file))
    with pytest.raises(ValueError, match=f"^{weights}: .*{message}"):
        read_network(CONFIG, weights)


@pytest.mark.parametrize("dtype", ["f2", "f8", "i8", ">f2", ">f4", "g"])
def test_other_numbers_are_read(weights, dtype):
    with h5py.File(weights, "a") as file:
        group, name = _last_bias(file)
        group.create_dataset(name, data=np.arange(10, dtype=dtype), chunks=(4,), compression="gzip")
    _, variables = read_network(CONFIG, weights)
    np.testing.assert_array_equal(variables["params"]["layer_07"]["bias"], np.arange(10.0))


def _as_references(file):
    file.attrs.create("layer_names", np.array([file.ref], object), dtype=h5py.ref_dtype)


def _as(value):
    return lambda file: file.attrs.__setitem__("layer_names", value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_as(np.arange(3)), "layer_names is not a list of names"),
        (_as("dense"), "layer_names is not a list of names"),
        (_as(h5py.Empty("S3")), "layer_names is not a list of names"),
        (_as_references, "layer_names is not a list of names"),
        (_as(["x" * 5000]), "layer_names has 'xxx"),
        (_as(["dense"] * 2500), "layer_names has 2500 names of .* bytes, at most 2000 of"),
        (_as(["nowhere"]), "'nowhere' is missing"),
        (lambda file: file.attrs.__delitem__("layer_names"), "no layer_names in '/'"),
    ],
)
def test_names_that_are_none_are_refused(tmp_path, change, message):
    network = network_from_config(
        {"model_config": [{"layer_name": "Dense", "units": 2}], "input_shape": [2]}
    )
    path = tmp_path / "weights.hdf5"
    params = {"layer_00": {"kernel": np.zeros((2, 2)), "bias": np.zeros(2)}}
    write_weights(path, network, {"params": params})
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(ValueError, match=f"^{path}: .*{message}"):
        check_weights(network, path)


def test_a_million_names_are_not_read(tmp_path, network):
    path = tmp_path / "weights.hdf5"
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["layer_names"] = np.full(10**6, b"dense")
    with pytest.raises(ValueError, match=f"^{path}: .* 1000000 names of 5000000 bytes, at most"):
        check_weights(network, path)


def test_one_layer_many_times_is_not_followed(weights, network):
    with h5py.File(weights, "a") as file:
        layer = file.attrs["layer_names"][7]
        name = file[layer].attrs["weight_names"][1]
        file.attrs["layer_names"] = [layer] * 50
        file[layer].attrs["weight_names"] = [name] * 50
    with pytest.raises(ValueError, match=f"^{weights}: .*more than 2000 arrays"):
        check_weights(network, weights)


def test_a_heap_that_hdf5_would_read_for_ever_is_refused(weights, network):
    content = bytearray(weights.read_bytes())
    first = content.index(b"GCOL") + 16
    for size in (0, 2**64 - 8, 5000):
        content[first : first + 16] = bytes(8) + size.to_bytes(8, "little")
        weights.write_bytes(content)
        with pytest.raises(ValueError, match=f"^{weights}: .*a damaged heap"):
            check_weights(network, weights)


def test_what_is_no_file_is_not_opened(tmp_path, network):
    pipe = tmp_path / "weights.hdf5"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match=f"^{pipe}: not a regular file$"):
        check_weights(network, pipe)
    with pytest.raises(ValueError, match=f"^{tmp_path}: a folder, not a file$"):
        check_weights(network, tmp_path)
