"""What a configuration may name: the data set kind "pgdl" and the model kind "keras"."""

import json
import shutil
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest

from persist_jax import data, pgdl
from persist_jax.models import MODELS, Model, build_model

ROOT = Path(__file__).parents[1] / "data" / "pgdl_sample"
TASK = ROOT / "input_data" / "task1_v4"


@pytest.fixture(autouse=True)
def _no_root(monkeypatch):
    monkeypatch.delenv("PGDL_ROOT", raising=False)


def _ask(about, **fields):
    kind, parameters = data.DATASETS.choose({"kind": "pgdl", **fields}, "dataset")
    return getattr(kind.properties, about)(**parameters)


@pytest.mark.slow
def test_real_data_by_root_and_by_environment(cache, monkeypatch):
    task = pgdl.read_task(TASK, validation_seed=1, cache=cache)
    by_root = {"kind": "pgdl", "root": str(ROOT), "validation_seed": 1, "cache": str(cache)}
    assert data.load_dataset(by_root).checksum == task.dataset.checksum
    assert not _ask("embedded", root=str(ROOT)) and _ask("embedded")
    monkeypatch.setenv("PGDL_ROOT", str(ROOT))
    assert data.load_dataset(by_root | {"root": None}).checksum == task.dataset.checksum
    assert not _ask("embedded")


@pytest.mark.slow
def test_without_a_root_it_is_the_sample(sample_root, cache):
    dataset = data.load_dataset({"kind": "pgdl", "cache": str(cache)})
    sample = pgdl.read_task(pgdl.task_folder(sample_root, pgdl.SAMPLE_TASK), cache=cache)
    assert dataset.checksum == sample.dataset.checksum and dataset.name == pgdl.SAMPLE_TASK


def test_networks_of_a_task_are_those_in_its_folder():
    models = _ask("brings", root=str(ROOT))
    assert list(models) == ["model_20", "model_21", "model_22", "model_148"]
    assert models["model_148"] == {"kind": "keras", "folder": str(TASK / "model_148")}
    with pytest.raises(ValueError, match="task2: no such folder, tasks there: task1_v4"):
        _ask("brings", root=str(ROOT), task="task2")


def test_networks_of_the_sample_are_known_before_it_is_written(tmp_path):
    assert not _ask("at_hand", cache=str(tmp_path))
    names = set(_ask("brings", cache=str(tmp_path)))
    assert names == {"model_20", "model_148"} and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_networks_of_the_sample_are_those_that_are_written(sample_root, cache):
    written = _ask("brings", cache=str(cache))
    assert all((Path(fields["folder"]) / "config.json").is_file() for fields in written.values())


@pytest.mark.slow
def test_at_hand_is_what_needs_no_conversion(tmp_path, cache):
    pgdl.read_task(TASK, cache=cache)
    assert _ask("at_hand", root=str(ROOT), cache=str(cache))
    assert not _ask("at_hand", root=str(ROOT), cache=str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_sample_is_at_hand_once_it_is_converted(cache):
    data.load_dataset({"kind": "pgdl", "cache": str(cache)})
    assert _ask("at_hand", cache=str(cache))


def _keras(folder, input_shape=(12, 12, 3), classes=10, **fields):
    fields = {"kind": "keras", "folder": str(folder), **fields}
    return build_model(fields, input_shape, classes, "models.m")


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(TASK / "model_148", tmp_path / "model_148"))


def test_a_keras_model_starts_from_its_file(folder):
    for name in ("weights_init.hdf5", "weights.hdf5"):
        network, variables = pgdl.read_network(folder / "config.json", folder / name)
        model = _keras(folder, weights=name)
        assert isinstance(model, Model) and model.network == network
        for seed in range(2):
            given = model.init(jax.random.key(seed), np.zeros((1, 12, 12, 3), np.float32))
            jax.tree.map(np.testing.assert_array_equal, given, variables)


def test_a_keras_model_is_known_by_its_content(folder):
    checksum = _keras(folder).checksum
    assert checksum == _keras(TASK / "model_148").checksum
    assert checksum != _keras(folder, weights="weights.hdf5").checksum
    assert MODELS["keras"].properties.places == ("folder",)
    config = json.loads((folder / "config.json").read_text())
    changed = next(i for i in config["model_config"] if "activation" in i)
    for activation, same in ((changed["activation"], True), ("tanh", False)):
        changed |= {"name": "renamed", "activation": activation}
        (folder / "config.json").write_text(json.dumps(config))
        assert (_keras(folder).checksum == checksum) == same


def test_building_reads_no_array(folder, monkeypatch):
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: pytest.fail("an array is read"))
    assert _keras(folder).training_differs in (True, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"input_shape": (8, 8, 1)},
            r"takes examples of shape \(12, 12, 3\), but the data set has \(8, 8, 1",
        ),
        ({"classes": 11}, r"gives logits of shape \(10,\) for 11 classes$"),
        ({"weights": "none.hdf5"}, r"none.hdf5: no such file$"),
        ({"seed": 3}, r"^models.m.seed: unknown field; known are folder, weights$"),
        ({"folder": "nowhere"}, r"^models.m: /.*nowhere/config.json: no such file$"),
    ],
)
def test_what_does_not_fit_is_one_line(arguments, message):
    with pytest.raises(ValueError, match=r"^models.m.*" + message.removeprefix("^models.m")):
        _keras(**{"folder": TASK / "model_20"} | arguments)


def test_images_in_place_of_logits_are_refused(folder):
    convolution = {"layer_name": "Conv2D", "filters": 10, "kernel_size": 3}
    config = {"model_config": [convolution], "input_shape": [12, 12, 3]}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"gives logits of shape \(10, 10, 10\) for 10 classes"):
        _keras(folder)
