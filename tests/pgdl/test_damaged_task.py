"""Tasks that hold what cannot be trained on: the file is named, and the record in it."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from persist_jax import pgdl
from persist_jax.data import cache as cache_module

TASK = Path(__file__).parents[1] / "data" / "pgdl_sample" / "input_data" / "task1_v4"
SHARDS = TASK / "dataset_1" / "train"


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(TASK, tmp_path / "input_data" / "task1_v4"))


@pytest.fixture
def converted(tmp_path, monkeypatch):
    """`converted(train, test)`: the conversion writes these labels, and pixels of zeros."""

    def use(train, test):
        def run(conversion, folder):
            for part, labels in (("train", train), ("test", test)):
                np.save(folder / f"{part}_x.npy", np.zeros((len(labels), 2), np.float32))
                np.save(folder / f"{part}_y.npy", np.array(labels, np.int32))

        monkeypatch.setattr(cache_module, "_run", run)
        return tmp_path / "cache"

    return use


def test_a_wrong_label_is_named_by_shard_and_record(copy, converted):
    # The test shards hold 67, 67 and 66 records, those to train on 200 each.
    labels = np.arange(200) % 4
    labels[70] = 17
    wanted = r"^task1_v4: test example 70 \(.*/test/shard_1.tfrecord, record 3\): label 17, which"
    with pytest.raises(ValueError, match=wanted):
        pgdl.read_task(copy, cache=converted(np.arange(600) % 4, labels))
    shutil.rmtree(copy.parents[1] / "cache")
    labels = np.arange(600) % 4
    labels[405] = -1
    wanted = r"train example \d+ \(.*/train/shard_2.tfrecord, record 5\): label -1 is not at l"
    with pytest.raises(ValueError, match=wanted):
        pgdl.read_task(copy, cache=converted(labels, np.arange(200) % 4))


def test_classes_too_small_to_validate_are_named(copy, converted):
    with pytest.raises(ValueError, match="/train: no label has 5 examples, one of them for"):
        pgdl.read_task(copy, cache=converted(np.arange(8) % 4, np.arange(4)))
    shutil.rmtree(copy.parents[1] / "cache")
    few = [0] * 9 + [1] * 4
    with pytest.raises(ValueError, match="/train: 4 examples of label 1; a fifth of each label"):
        pgdl.read_task(copy, cache=converted(few, [0, 1]))


def test_shards_that_are_none_are_named(copy):
    folder = copy / "dataset_1" / "train"
    shutil.copy(folder / "shard_0.tfrecord", folder / "shard_00.tfrecord")
    with pytest.raises(ValueError, match=r"shard_00.tfrecord: the same number as shard_0.tfrecord"):
        pgdl.read_task(copy)
    (folder / "shard_00.tfrecord").unlink()
    os.mkfifo(folder / "shard_3.tfrecord")
    with pytest.raises(ValueError, match=r"train/shard_3.tfrecord: not a regular file$"):
        pgdl.read_task(copy)
    (folder / "shard_3.tfrecord").unlink()
    (folder / "shard_3.tfrecord").mkdir()
    with pytest.raises(ValueError, match=r"train/shard_3.tfrecord: a folder, not a file$"):
        pgdl.read_task(copy)


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_shard_that_is_missing_or_empty_is_named(copy, part):
    folder = copy / "dataset_1" / part
    shard = folder / "shard_1.tfrecord"
    content = shard.read_bytes()
    shard.unlink()
    with pytest.raises(ValueError, match=f"^{shard}: missing, but shard_2.tfrecord is there$"):
        pgdl.read_task(copy)
    shard.touch()
    with pytest.raises(ValueError, match=f"^{shard}: empty$"):
        pgdl.read_task(copy)
    shard.write_bytes(content)
    # The first one, which only the other part shows to have been there.
    shard.with_name("shard_0.tfrecord").unlink()
    other = copy / "dataset_1" / ("test" if part == "train" else "train") / "shard_0.tfrecord"
    with pytest.raises(ValueError, match=f"^{folder}/shard_0.tfrecord: missing, but {other} is th"):
        pgdl.read_task(copy)
    # The first two.
    shard.unlink()
    with pytest.raises(ValueError, match=f"^{shard}: missing, but shard_2.tfrecord is there$"):
        pgdl.read_task(copy)


def test_shards_may_be_numbered_from_1(copy, converted):
    for part in ("train", "test"):
        folder = copy / "dataset_1" / part
        (folder / "shard_0.tfrecord").rename(folder / "shard_03.tfrecord")
    task = pgdl.read_task(copy, cache=converted(np.arange(60) % 4, np.arange(4)))
    assert len(task.dataset.test.y) == 4


@pytest.mark.parametrize("content", ["{", "[]", '{"20": 1, "20": 2}', "9" * 400, "[" * 10**5])
def test_model_configs_that_are_none_are_named(copy, converted, content):
    (copy / "model_configs.json").write_text(content)
    with pytest.raises(ValueError, match=f"^{copy}/model_configs.json: [^\n]*$"):
        pgdl.read_task(copy, cache=converted(np.arange(60) % 4, np.arange(4)))


@pytest.mark.slow
def test_records_that_are_no_examples_are_named(tmp_path):
    """In this process, which TensorFlow takes seconds to start in."""
    import tensorflow as tf

    from persist_jax.pgdl.convert import write_pgdl_task

    def tensor(value, dtype):
        proto = tf.make_tensor_proto(value, dtype)
        return proto.SerializeToString()

    def example(**features):
        feature = {
            name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))
            for name, content in features.items()
        }
        return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()

    huge = tf.make_tensor_proto(1.0, tf.float32)
    huge.tensor_shape.CopyFrom(tf.TensorShape([10**6, 10**6]).as_proto())
    image, label = tensor(np.zeros((2, 2)), tf.float32), tensor(3, tf.int32)
    good = example(inputs=image, output=label)
    path = tmp_path / "shard_0.tfrecord"
    for record, message in {
        b"\xff\xff": "not PGDL examples",
        example(inputs=image): r"not PGDL examples \(record 1: output: 0 tensors, not one\)",
        example(inputs=huge.SerializeToString(), output=label): r"1 values for the shape \(1000000",
        example(inputs=label, output=label): "inputs: not of type float32",
        example(inputs=image, output=tensor([3, 4], tf.int32)): r"output: shape \(2,\), not one",
        example(inputs=tensor([1.0], tf.float32), output=label): r"record 1: an example of shape ",
    }.items():
        with tf.io.TFRecordWriter(str(path)) as writer:
            for content in (good, record):
                writer.write(content)
        with pytest.raises(ValueError, match=f"^{path}: .*{message}"):
            write_pgdl_task(tmp_path, {"train": [str(path)], "test": [str(path)]})
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=f"^{tmp_path}: no examples$"):
        write_pgdl_task(tmp_path, {"train": [str(path)], "test": [str(path)]})
