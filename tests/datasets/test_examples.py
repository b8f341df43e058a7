"""What no data set may hold: each is refused by the example's number, its part and its origin."""

import dataclasses
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest

from persist_jax import data
from persist_jax.data import Dataset, Split
from persist_jax.data import cache as cache_module


def _split(labels, **pixels):
    x = np.zeros((len(labels), 2, 3), pixels.pop("dtype", np.float32))
    for name, value in pixels.items():
        x[int(name.removeprefix("at_")), 1, 2] = value
    return Split(x, np.asarray(labels))


def _masked(name):
    split = _split([0, 1, 2])
    array = np.ma.masked_array(getattr(split, name))
    array[1] = np.ma.masked
    return split._replace(**{name: array})


LONGEST = np.finfo(np.longdouble).max
GOOD = {part: _split([0, 1, 2, 1]) for part in ("train", "validation", "test")}


def _origin(part, position):
    return f"file of {part}, line {position}"


@pytest.mark.parametrize("part", GOOD)
@pytest.mark.parametrize(
    ("split", "message"),
    [
        (_split([0, 1, -1, 2]), r"example 2 \(file of {part}, line 2\): label -1 is not at least"),
        (_split([0, 1, 2, 1], at_3=np.nan), r"example 3 \(.*\): nan is not finite in float32"),
        (_split([0, 1, 2, 1], at_0=-np.inf), r"example 0 \(.*\): -inf is not finite in float32"),
        (_split([0, 1, 2], at_1=1e39, dtype=float), r"example 1 .*: 1e\+39 is not finite in float"),
        (_split([0, 1, 2], at_1=np.inf, dtype=np.float16), r"example 1 .*: inf is not finite in"),
        (_split([0, 1, 2], at_1=1e39, dtype=np.longdouble), r"example 1 .*: 1e\+39 is not finite"),
        (_split([0, 1, 2], at_1=LONGEST, dtype=np.longdouble), "example 1 .*: inf is not finite"),
        (_masked("x"), "{part} examples with masked entries; fill them or leave them out"),
        (_masked("y"), "{part} labels with masked entries; fill them or leave them out"),
        (_split([]), r"no {part} examples"),
        (_split([0.0, 1.0, 2.0]), r"{part} labels of type float64, not whole numbers"),
        (_split([0, 1, 2], dtype=complex), r"{part} examples of type complex128, not real"),
        (Split(np.zeros((4, 2, 3)), np.zeros(3, int)), r"4 {part} examples, but labels of shape "),
    ],
)
def test_what_cannot_be_trained_on_is_named(part, split, message):
    with pytest.raises(ValueError, match=f"^some: ({part} )?{message.format(part=part)}") as error:
        Dataset("some", **GOOD | {part: split}, origin=_origin)
    assert "\n" not in str(error.value)


def test_classes_are_those_of_the_train_part():
    dataset = Dataset("some", **GOOD)
    assert dataset.num_classes == 3
    gap = r"train example 1: label 19, but no train example has label 2; classes are numbered"
    with pytest.raises(ValueError, match=gap):
        Dataset("some", **GOOD | {"train": _split([0, 19, 1])})
    with pytest.raises(ValueError, match="train example 0: label 1, but no train example has"):
        Dataset("some", **GOOD | {"train": _split([1, 2, 3])})
    for part in ("validation", "test"):
        with pytest.raises(ValueError, match=f"{part} example 3: label 3, which no train example"):
            Dataset("some", **GOOD | {part: _split([0, 1, 2, 3])})
        # A class that only training has is no fault: a small part may miss one.
        assert Dataset("some", **GOOD | {part: _split([2])}).num_classes == 3


def test_a_data_set_may_say_how_many_classes_it_has():
    dataset = Dataset("some", **GOOD | {"test": _split([0, 7])}, classes=8)
    assert dataset.num_classes == 8
    with pytest.raises(ValueError, match="test example 1: label 8 is not one of 0 to 7"):
        dataclasses.replace(dataset, test=_split([0, 8]))


def test_other_shapes_and_integer_pixels():
    other = Split(np.zeros((3, 3, 2), np.float32), np.arange(3))
    with pytest.raises(ValueError, match=r"some: test examples of shape \(3, 2\), but train"):
        Dataset("some", **GOOD | {"test": other})
    bytes_ = {part: _split([0, 1, 2], dtype=np.uint8) for part in GOOD}
    assert Dataset("some", **bytes_).num_classes == 3


@pytest.mark.parametrize("dtype", ["f2", ">f2", ">f4", ">f8", ">i2", "g", ">g"])
def test_arrays_that_jax_does_not_take_are_converted(dtype):
    def split(x, y):
        return Split(np.arange(6).reshape(3, 2).astype(x), np.arange(3).astype(y))

    native = np.dtype(dtype).newbyteorder("=") if "g" not in dtype else "f8"
    plain = Dataset("some", *3 * [split(native, "i8")])
    dataset = Dataset("some", *3 * [split(dtype, ">i8")])
    assert dataset.checksum == plain.checksum
    assert all(jnp.asarray(array).size for part in dataset.parts.values() for array in part)


def test_arrays_of_other_classes_are_plain_ones(tmp_path):
    """A mask without an entry is none; a file that is mapped stays mapped."""
    np.save(tmp_path / "x.npy", GOOD["train"].x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for x in (np.ma.masked_array(mapped), mapped, jnp.asarray(mapped)):
        dataset = Dataset("some", **GOOD | {"train": Split(x, GOOD["train"].y)})
        assert type(dataset.train.x) is np.ndarray
        assert dataset.checksum == Dataset("some", **GOOD).checksum
        if x is mapped:
            assert np.shares_memory(dataset.train.x, mapped)


def test_registered_data_is_checked_where_it_is_loaded():
    with mock.patch.dict(data.DATASETS):
        data.register("no_data")(_no_data)
        with pytest.raises(ValueError, match="dataset.kind: 'no_data' returned a dict, not a Data"):
            data.load_dataset({"kind": "no_data"})


def _no_data():
    return GOOD


def test_an_image_is_named_by_its_place_in_the_cache(tmp_path, monkeypatch):
    def convert(conversion, folder):
        for part in ("train", "test"):
            np.save(folder / f"{part}_x.npy", np.zeros((10, 4, 4, 1), np.uint8))
            labels = np.arange(10, dtype=np.int32) % 2
            labels[9] = 5 if part == "train" else 1
            np.save(folder / f"{part}_y.npy", labels)

    monkeypatch.setattr(cache_module, "_run", convert)
    found = r"plain: validation example 1 \(.*/plain-\w+, train image 9\): label 5, which no train"
    with pytest.raises(ValueError, match=found):
        data.load_images("plain", cache=tmp_path)
    with pytest.raises(ValueError, match="^validation_fraction: 0.01 of 10 examples leaves none"):
        data.load_images("plain", validation_fraction=0.01, cache=tmp_path)
