"""Image sets: a real tfds data set, the embedded digits, and what is refused."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from persist_jax import data

# A data set that tfds prepares from nothing: image i is full of i, label i mod 7.
BUILDER = """
import sys
import numpy as np
import tensorflow_datasets as tfds

class Plain(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(5, 4, 1)),
            "label": tfds.features.ClassLabel(num_classes=7),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(100), "test": self._generate_examples(30)}

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"image": np.full((5, 4, 1), i, np.uint8), "label": i % 7}

Plain(data_dir=sys.argv[1]).download_and_prepare()
"""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", BUILDER, str(folder)]
    subprocess.run(command, check=True, env=quiet, capture_output=True)
    return folder


@pytest.mark.slow
def test_tfds_images_are_scaled_and_split_by_position(data_dir, cache):
    dataset = data.load_images("plain", data_dir=data_dir, cache=cache)
    assert dataset.input_shape == (5, 4, 1) and dataset.num_classes == 7
    for part, count, first in ((dataset.train, 80, 0), (dataset.validation, 20, 80)):
        wanted = np.arange(first, first + count)
        np.testing.assert_allclose(part.x[:, 0, 0, 0], wanted / 255.0, rtol=1e-6)
        np.testing.assert_array_equal(part.y, wanted % 7)
        assert part.x.dtype == np.float32 and part.y.dtype == np.int32
    np.testing.assert_array_equal(dataset.test.y, np.arange(30) % 7)
    # The cache has it now: neither tfds' files nor tfds itself are needed again.
    twice = data.load_images("plain", double_division=True, cache=cache)
    np.testing.assert_allclose(twice.test.x * 255.0, dataset.test.x, rtol=1e-6)


@pytest.mark.slow
def test_a_file_of_tfds_that_is_missing_or_empty_is_named(data_dir, tmp_path):
    folder = shutil.copytree(data_dir, tmp_path / "tfds")
    (shard,) = folder.glob("plain/1.0.0/plain-train.tfrecord*")
    shard.write_bytes(b"")
    with pytest.raises(ValueError, match=f"^plain: {shard}: empty$"):
        data.load_images("plain", data_dir=folder, cache=tmp_path / "cache")
    shard.unlink()
    with pytest.raises(ValueError, match=f"^plain: {shard}: no such file$"):
        data.load_images("plain", data_dir=folder, cache=tmp_path / "cache")


def test_digits():
    dataset = data.load_images("digits", validation_fraction=0.1)
    images = load_digits().images
    parts = dataset.train, dataset.validation, dataset.test
    assert [len(part.y) for part in parts] == [1350, 150, 297]
    np.testing.assert_array_equal(dataset.train.x[..., 0] * 16.0, images[:1350])
    np.testing.assert_array_equal(dataset.test.x[..., 0] * 16.0, images[1500:])
    twice = data.load_images("digits", double_division=True)
    assert twice.train.x.max() == 1.0 / 16.0


@pytest.mark.slow
def test_failed_download_names_both_ways_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="fashion_mnist: download or preparation failed") as error:
        data.load_images(
            "fashion_mnist", data_dir=tmp_path, manual_dir=tmp_path, cache=tmp_path / "cache"
        )
    line = str(error.value)
    assert "\n" not in line and str(tmp_path) in line
    assert "python -m launch.prepare --dataset=fashion_mnist" in line
    assert "--manual_dir=FOLDER" in line and "train-images-idx3-ubyte.gz" in line
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_unknown_names_and_fractions(tmp_path, cache):
    with pytest.raises(ValueError, match="mnst: tfds has no data set of this name"):
        data.load_images("mnst", data_dir=tmp_path, cache=cache)
    for examples in (0, 1201):
        with pytest.raises(ValueError, match=f"^train_examples: {examples} is not between"):
            data.load_images("digits", train_examples=examples)
    with pytest.raises(ValueError, match="validation_fraction = 1.0, not between 0 and 1"):
        data.load_images("digits", validation_fraction=1.0)


def test_fewer_examples_are_the_first_ones():
    whole, few = (data.load_images("digits", train_examples=size) for size in (None, 100))
    np.testing.assert_array_equal(few.train.x, whole.train.x[:100])
    np.testing.assert_array_equal(few.train.y, whole.train.y[:100])
    for part in ("validation", "test"):
        np.testing.assert_array_equal(getattr(few, part).x, getattr(whole, part).x)


def test_each_seed_draws_its_own_examples():
    whole = data.load_images("digits")
    drawn = data.load_images("digits", train_examples=300, draw="per_seed", label_noise=0.4)
    assert drawn.train_examples == 300 and len(drawn.train.y) == 1200
    seeds = [drawn.drawn(seed) for seed in range(3)]
    for own in seeds:
        assert len(np.unique(own.positions)) == 300 and np.all(np.diff(own.positions) > 0)
        clean = whole.train.y[own.positions]
        assert np.sum(own.y != clean) == 120
        # Every other class is as probable: some 13 of 120 each.
        shifts = np.bincount((own.y - clean) % 10, minlength=10)
        assert shifts[0] == 180 and 3 <= shifts[1:].min() <= shifts[1:].max() <= 30
    shared = len(np.intersect1d(seeds[0].positions, seeds[1].positions))
    assert 40 < shared < 110  # 75 by chance
    again = data.load_images("digits", train_examples=300, draw="per_seed", label_noise=0.4)
    for ours, theirs in zip(again.drawn(1), seeds[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    own = drawn.of_seed(1)
    np.testing.assert_array_equal(own.train.x, whole.train.x[seeds[1].positions])
    np.testing.assert_array_equal(own.train.y, seeds[1].y)
    for part in ("validation", "test"):
        np.testing.assert_array_equal(getattr(own, part).y, getattr(whole, part).y)


def test_more_noise_keeps_the_images_and_the_wrong_labels():
    few, many = (
        data.load_images("digits", train_examples=300, draw="per_seed", label_noise=share)
        for share in (0.2, 0.4)
    )
    (places, some), (same, more) = few.drawn(5), many.drawn(5)
    np.testing.assert_array_equal(places, same)
    wrong = some != few.train.y[places]
    np.testing.assert_array_equal(some[wrong], more[wrong])
    # Noise alone has all images, and nothing drawn has none of its own.
    noise = data.load_images("digits", label_noise=0.5).drawn(0)
    np.testing.assert_array_equal(noise.positions, np.arange(1200))
    assert data.load_images("digits", train_examples=300).drawn(0) is None
    assert data.load_images("digits", train_examples=1200, draw="per_seed").drawn(0) is None
    with pytest.raises(ValueError, match="digits: label_noise: 1.5 is not in"):
        data.load_images("digits", label_noise=1.5)
