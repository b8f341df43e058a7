"""PGDL tasks: what Keras and TensorFlow wrote is read with the accuracies they report."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from persist_jax import data, pgdl
from persist_jax.data import cache as cache_module
from persist_jax.pgdl import stratified_split

ROOT = Path(__file__).parents[1] / "data" / "pgdl_sample"
TASK = ROOT / "input_data" / "task1_v4"
PARTS = "train", "test"


@pytest.fixture(scope="module")
def task(cache):
    return pgdl.read_task(TASK, cache=cache)


@pytest.fixture(scope="module")
def golden():
    with np.load(ROOT / "golden.npz") as stored:
        return dict(stored)


def _accuracy(logits, variables, split):
    return np.mean(np.argmax(logits(variables, split.x), axis=1) == split.y)


@pytest.mark.parametrize(
    "network_id",
    ["148", *(pytest.param(name, marks=pytest.mark.slow) for name in ("20", "21", "22"))],
)
def test_logits_and_accuracies(task, golden, network_id):
    for read, prefix in ((task.initial, "init_"), (task.trained, "")):
        network, variables = read(network_id)
        logits = jax.jit(lambda variables, x, network=network: network.apply(variables, x)[0])
        wanted = golden[f"{network_id}/{prefix}logits"]
        np.testing.assert_allclose(logits(variables, golden["x"]), wanted, rtol=1e-4, atol=1e-5)
        accuracy = _accuracy(logits, variables, task.dataset.test)
        np.testing.assert_allclose(accuracy, golden[f"{network_id}/{prefix}test_acc"], atol=1e-4)
    # Train and validation together are the train shards, whose accuracy is on record.
    train, validation = task.dataset.train, task.dataset.validation
    together = data.Split(*(np.concatenate(parts) for parts in zip(train, validation, strict=True)))
    accuracy = _accuracy(logits, variables, together)
    np.testing.assert_allclose(accuracy, golden[f"{network_id}/train_acc"], atol=1e-4)
    recorded = task.model_configs[network_id]["metrics"]["train_acc"]
    np.testing.assert_allclose(accuracy, recorded, atol=1e-4)


def test_networks_are_numbered_folders_in_numerical_order(task):
    assert task.networks == ("20", "21", "22", "148")
    assert task.folder("148") == TASK / "model_148"
    with pytest.raises(ValueError, match="no network '149', known: 20, 21, 22, 148"):
        task.initial("149")


def test_examples_are_in_shard_order(task, golden):
    dataset = task.dataset
    assert dataset.input_shape == (12, 12, 3) and dataset.num_classes == 10
    assert dataset.train.x.dtype == np.float32 and dataset.train.y.dtype == np.int32
    # Test example i was written to shard i mod 3; the shards hold 67, 67 and 66.
    for shard, first in enumerate((0, 67, 134)):
        x, y = golden["x"][shard::3], golden["y"][shard::3]
        np.testing.assert_array_equal(dataset.test.x[first : first + len(y)], x)
        np.testing.assert_array_equal(dataset.test.y[first : first + len(y)], y)


def test_split_of_the_task_is_disjoint_and_stratified(task):
    train, validation = task.dataset.train, task.dataset.validation
    assert len(train.y) + len(validation.y) == 600
    examples = {x.tobytes() for x in (*train.x, *validation.x)}
    assert len(examples) == 600
    for label in range(10):
        there = np.sum(train.y == label), np.sum(validation.y == label)
        assert there[1] == sum(there) // 5


@pytest.mark.parametrize("sizes", [(5000, 7000), (4999, 12), (3, 6000), (5006, 4996, 40)])
def test_split_takes_1000_or_a_fifth_of_each_label(sizes):
    names = (0, 7, 9)[: len(sizes)]
    labels = np.random.default_rng(0).permutation(np.repeat(names, sizes))
    train, validation = stratified_split(labels, 3)
    together = np.sort(np.concatenate([train, validation]))
    np.testing.assert_array_equal(together, np.arange(sum(sizes)))
    for label, size in zip(names, sizes, strict=True):
        assert np.sum(labels[validation] == label) == (1000 if size >= 5000 else size // 5)
    again, _ = stratified_split(labels, 3)
    other, _ = stratified_split(labels, 4)
    np.testing.assert_array_equal(train, again)
    assert not np.array_equal(train, other)
    np.testing.assert_array_equal(stratified_split(labels)[0], stratified_split(labels, 0)[0])


def test_seed_changes_the_split_and_nothing_else(task, cache):
    again = pgdl.read_task(TASK, cache=cache)
    other = pgdl.read_task(TASK, validation_seed=1, cache=cache)
    np.testing.assert_array_equal(task.dataset.validation.x, again.dataset.validation.x)
    assert not np.array_equal(task.dataset.validation.x, other.dataset.validation.x)
    np.testing.assert_array_equal(task.dataset.test.x, other.dataset.test.x)


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(TASK, tmp_path / "input_data" / "task1_v4"))


def test_shards_are_read_by_number_and_again_when_they_change(copy, tmp_path, monkeypatch):
    """The conversion itself is replaced: what it is asked for, and when, is the point here."""
    asked = []

    def run(conversion, folder):
        asked.append([Path(shard).name for shard in conversion.arguments["shards"]["test"]])
        for part in PARTS:
            np.save(folder / f"{part}_x.npy", np.zeros((10, 2), np.float32))
            np.save(folder / f"{part}_y.npy", np.arange(10, dtype=np.int32) % 2)

    monkeypatch.setattr(cache_module, "_run", run)
    shard = copy / "dataset_1" / "test" / "shard_10.tfrecord"
    # The tenth shard comes after the second, and other files beside the shards do not count.
    for number in range(3, 11):
        shutil.copy(shard.parent / "shard_0.tfrecord", shard.parent / f"shard_{number}.tfrecord")
    shard.with_name("shard_x.tfrecord").write_text("no shard")
    (copy / "model_configs.json").write_text(json.dumps({"20": {"here": True}}))
    (copy / "model_20b").mkdir()
    for _ in range(2):
        task = pgdl.read_task(copy, cache=tmp_path)
    assert asked == [[f"shard_{number}.tfrecord" for number in range(11)]]
    assert task.networks == ("20", "21", "22", "148")
    assert task.model_configs == {"20": {"here": True}}
    shard.touch()
    pgdl.read_task(copy, cache=tmp_path)
    assert len(asked) == 2


@pytest.mark.slow
def test_damaged_shard_is_named_in_one_line(copy, cache):
    shard = copy / "dataset_1" / "train" / "shard_1.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"task1_v4: {shard}: not PGDL examples") as error:
        pgdl.read_task(copy, cache=cache)
    assert "\n" not in str(error.value)


def test_missing_things_are_named(tmp_path, copy, cache):
    with pytest.raises(ValueError, match="absent: no such folder"):
        pgdl.read_task(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"no folder model_<digits>"):
        pgdl.read_task(tmp_path)
    with pytest.raises(ValueError, match=r"task2: no such folder, tasks there: task1_v4"):
        pgdl.task_folder(tmp_path, "task2")
    shutil.rmtree(copy / "dataset_1" / "test")
    with pytest.raises(ValueError, match=r"dataset_1/test: no shard_<number>.tfrecord"):
        pgdl.read_task(copy, cache=cache)
