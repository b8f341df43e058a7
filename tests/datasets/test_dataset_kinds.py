"""What a configuration may say under `dataset`, for images."""

import numpy as np
import pytest

from persist_jax import data


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "^dataset.kind: missing; it is one of images"),
        ({"kind": "imagse"}, "^dataset.kind: 'imagse' is not one of images, "),
        ({"kind": "images"}, "^dataset.name: missing$"),
        ({"kind": "images", "name": 3}, "^dataset.name: 3 is not text$"),
        ({"kind": "images", "name": "digits", "root": "."}, "^dataset.root: unknown field; known"),
        (
            {"kind": "images", "name": "digits", "validation_fraction": 1.0},
            "^dataset.validation_fraction: 1.0 must be below 1$",
        ),
    ],
)
def test_wrong_fields_are_one_line(fields, message):
    with pytest.raises(ValueError, match=message):
        data.load_dataset(fields)


def test_digits_by_configuration():
    fields = {"kind": "images", "name": "digits", "validation_fraction": 0.1, "cache": None}
    dataset = data.load_dataset(fields | {"double_division": True})
    alone = data.load_images("digits", validation_fraction=0.1, double_division=True)
    assert dataset.checksum == alone.checksum
    assert dataset.checksum != data.load_images("digits", validation_fraction=0.1).checksum


def test_at_hand_is_what_needs_no_conversion(tmp_path, monkeypatch):
    def at_hand(name):
        fields = {"kind": "images", "name": name, "cache": str(tmp_path), "data_dir": "elsewhere"}
        kind, parameters = data.DATASETS.choose(fields, "dataset")
        return kind.properties.at_hand(**parameters)

    def convert(conversion, folder):
        for part in ("train", "test"):
            np.save(folder / f"{part}_x.npy", np.zeros((10, 4, 4, 1), np.uint8))
            np.save(folder / f"{part}_y.npy", np.arange(10, dtype=np.int32) % 2)

    assert at_hand("digits") and not at_hand("mnist") and not list(tmp_path.iterdir())
    monkeypatch.setattr("persist_jax.data.cache._run", convert)
    data.load_images("mnist", cache=tmp_path)
    assert at_hand("mnist") and not at_hand("fashion_mnist")
    next(tmp_path.glob("mnist-*/test_x.npy")).unlink()
    assert not at_hand("mnist")


def test_places_say_only_where_data_lies():
    kind, _ = data.DATASETS.choose({"kind": "images", "name": "digits"}, "dataset")
    assert set(kind.properties.places) == {"data_dir", "manual_dir", "cache"}
    assert not kind.properties.embedded(name="digits") and not kind.properties.brings()
