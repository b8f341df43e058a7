"""Records on disk: whole, exact, and refused with one line when they do not hold."""

import json
import os

import numpy as np
import pytest

from persist_jax.store import (
    Record,
    Run,
    has_result,
    read_history,
    read_results,
    write_history,
    write_result,
)

PARTS = ("train", "validation", "test")


def result(**changes):
    """The fields of a `result.json`; `validation` and `test` are trained accuracies."""
    trained = {part: changes.pop(part, 0.75) for part in PARTS}
    fields = {
        "network": "mlp_0",
        "regulariser": "t1",
        "weight": 1e-3,
        "seed": 0,
        "status": "completed",
        "reason": None,
        "epochs": 12,
        "best_epoch": 8,
        "best_iteration": 80,
        "validation_loss": 0.5,
        "accuracy": {"initial": dict.fromkeys(PARTS, 0.1), "trained": trained},
        "seconds": 3.25,
    }
    return fields | changes


def write(workdir, fields):
    """Writes a result where it belongs."""
    names = ("network", "regulariser", "weight", "seed")
    folder = Run(**{name: fields[name] for name in names}).folder(workdir)
    write_result(folder, fields)
    return folder


def test_a_record_survives_the_disk(tmp_path):
    fields = result(weight=1e-6, seed=3)
    folder = write(tmp_path, fields)
    assert folder == tmp_path / "runs/mlp_0/t1/1e-06/seed3"
    written = json.loads((folder / "result.json").read_text())
    assert len(written.pop("crc32")) == 8 and written == fields
    (record,) = read_results(tmp_path)
    assert record.run == Run("mlp_0", "t1", 1e-6, 3)
    assert record.accuracy.plain() == fields["accuracy"]
    assert not record.continued
    other = tmp_path / "copy"
    write_result(record.run.folder(other), record)
    assert [copy.plain() for copy in read_results(other)] == [fields]


COUNTS = {"neurons": 9, "constant": 1, "clusters": 2, "clustered": 5}
COUNTS |= {"deaths": [0.0, 0.1, 0.2, 0.3, 1.0], "mean_correlation": 0.25}
FOUND = {"threshold": 0.9, "examples": 43, "initial": None, "trained": COUNTS}


def test_what_is_redundant_may_be_on_record(tmp_path):
    folder = write(tmp_path, result(redundancy=FOUND))
    assert json.loads((folder / "result.json").read_text())["redundancy"] == FOUND
    (record,) = read_results(tmp_path)
    assert record.redundancy.initial is None and record.redundancy.trained.clustered == 5
    write(tmp_path, result())
    assert "redundancy" not in json.loads((folder / "result.json").read_text())
    assert read_results(tmp_path)[0].redundancy is None


def test_the_cloud_and_chance_may_be_on_record(tmp_path):
    known = {"points": 9, "chance": {"share": 0.125, "examples": 43}}
    folder = write(tmp_path, result(**known))
    fields = json.loads((folder / "result.json").read_text())
    assert {name: fields[name] for name in known} == known
    (record,) = read_results(tmp_path)
    assert (record.points, record.chance.share, record.chance.examples) == (9, 0.125, 43)
    write(tmp_path, result())  # as before version 0.2
    assert not known.keys() & json.loads((folder / "result.json").read_text()).keys()
    (record,) = read_results(tmp_path)
    assert (record.points, record.chance) == (None, None)


def test_numpy_numbers_and_lost_losses_become_plain(tmp_path):
    nowhere = dict.fromkeys(PARTS, float("nan"))
    accuracy = {"initial": {part: np.float32(0.5) for part in nowhere}, "trained": nowhere}
    fields = result(
        status="diverged", reason="why", validation_loss=np.inf, accuracy=accuracy,
        epochs=np.int64(2),
    )  # fmt: skip
    write(tmp_path, fields)
    (record,) = read_results(tmp_path)
    assert record.validation_loss is None
    assert record.accuracy.trained.plain() == dict.fromkeys(nowhere)
    assert record.epochs == 2


def test_continued_runs_follow_the_one_they_continue(tmp_path):
    folder = write(tmp_path, result(seed=1))
    write(tmp_path, result(seed=0))
    write_result(folder / "continued", result(seed=1))
    records = read_results(tmp_path)
    assert [(r.run.seed, r.continued) for r in records] == [(0, False), (1, False), (1, True)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": "failed"}, "status: 'failed' is not one of completed, diverged"),
        ({"regulariser": ""}, "regulariser: '' cannot name a folder"),
        ({"regulariser": 1}, "regulariser: 1 is not text"),
        ({"weight": float("nan")}, "weight: None"),
        (
            {"evaluation": {"best": {"tset": 0.5}, "last": {}}},
            "evaluation.best: 'tset' is not one of train",
        ),
        ({"seed": 0.5}, "seed: 0.5"),
        ({"network": "../x"}, "network: '../x'"),
        ({"epochs": True}, "epochs: True"),
        ({"seconds": None}, "seconds: None"),
        ({"validation": None}, "accuracy.trained.validation: None"),
        ({"test": 70.0}, "accuracy.trained.test: 70.0"),
        ({"reason": 3}, "reason: 3 is not text"),
        ({"accuracy": {"trained": {}}}, "accuracy.initial: missing"),
        ({"redundancy": FOUND | {"threshold": 2.0}}, "redundancy.threshold: 2.0 must be at most"),
        ({"redundancy": {"trained": COUNTS}}, "redundancy.threshold: missing"),
        (
            {"redundancy": FOUND | {"initial": COUNTS | {"deaths": [0.5, 0.1, 0.2, 0.3, 0.4]}}},
            "redundancy.initial.deaths: [0.5, 0.1, 0.2, 0.3, 0.4] are not five ascending",
        ),
        (
            {"redundancy": FOUND | {"trained": COUNTS | {"constant": 10}}},
            "redundancy.trained: constant: 10 of 9 neurons",
        ),
        ({"points": 0}, "points: 0 must be at least 1"),
        ({"chance": 0.1}, "chance: 0.1 is not an object"),
        ({"chance": {"share": 1.5, "examples": 3}}, "chance.share: 1.5 must be at most 1"),
        ({"chance": {"share": 0.5, "examples": 0}}, "chance.examples: 0 must be at least 1"),
        ({"speed": 1}, "speed: unknown field; did you mean seed?"),
    ],
)
def test_a_record_that_does_not_hold_is_never_written(tmp_path, change, words):
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        write_result(tmp_path, result(**change))
    assert str(error.value).startswith(words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "{", "[]", '{"network": "a"}', "\xff"])
def test_a_broken_result_is_named(tmp_path, content):
    folder = write(tmp_path, result())
    (folder / "result.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"^[^\n]*seed0/result\.json: [^\n]+$"):
        read_results(tmp_path)


def test_a_number_that_changed_is_not_believed(tmp_path):
    path = write(tmp_path, result()) / "result.json"
    text = path.read_text()
    path.write_text(text.replace("0.75", "0.85", 1))
    with pytest.raises(ValueError, match=f"^{path}: damaged or edited; if"):
        read_results(tmp_path)
    fields = json.loads(path.read_text())
    del fields["crc32"]
    path.write_text(json.dumps(fields))
    assert read_results(tmp_path)[0].accuracy.trained.train == 0.85
    path.write_text(text)
    assert read_results(tmp_path)[0].accuracy.trained.train == 0.75


def test_a_result_in_the_wrong_folder_is_named(tmp_path):
    write_result(tmp_path / "runs/mlp_0/t1/0.001/seed5", result(seed=0))
    with pytest.raises(ValueError, match=r"seed5/result\.json: .* belongs in .*seed0"):
        read_results(tmp_path)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    folder = write(tmp_path, result())
    write_history(folder, {"validation_loss": np.zeros(2)})

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_result(folder, result(epochs=99))
    with pytest.raises(KeyboardInterrupt):
        write_history(folder, {"validation_loss": np.ones(3)})
    assert sorted(path.name for path in folder.iterdir()) == ["history.npz", "result.json"]
    assert read_results(tmp_path)[0].epochs == 12
    assert read_history(folder)["validation_loss"].tolist() == [0, 0]


def test_a_history_survives_the_disk(tmp_path):
    arrays = {
        "train_loss": np.linspace(2, 0, 6),
        "validation_loss": np.ones(3),
        "constant_neurons": np.array([0, 2, 5], np.int32),
        "measures/dormant": np.array([np.nan, 0.5, 0.25], np.float32),
        "deaths": np.random.default_rng(0).random((2, 5)).astype(np.float32),
        "deaths_iteration": np.array([0, 4]),
    }
    write_history(tmp_path, arrays)
    read = read_history(tmp_path)
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype
    assert read_history(tmp_path / "elsewhere") == {}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, "validation_loss: missing"),
        ({"loss": np.zeros(1)}, "loss: not one of"),
        ({"train_loss": np.zeros((1, 1))}, "train_loss: float64"),
        ({"seconds": np.array([None])}, "seconds: object"),
        ({"constant_neurons": np.int32(3)}, "constant_neurons: int32.. is not 1-d"),
        ({"measures/rank": np.zeros((1, 2))}, "measures/rank: float64.1, 2. is not 1-d"),
        ({"deaths": np.zeros((2, 3))}, "deaths: must be given together"),
        ({"deaths": np.zeros((2, 3)), "deaths_iteration": np.zeros(3)}, "deaths: .2, 3."),
    ],
)
def test_a_history_that_does_not_hold_is_never_written(tmp_path, arrays, words):
    arrays = arrays | ({"validation_loss": np.zeros(1)} if arrays else {})
    with pytest.raises(ValueError, match=f"^{words}"):
        write_history(tmp_path, arrays)
    assert not list(tmp_path.iterdir())


def test_a_broken_history_is_named(tmp_path):
    (tmp_path / "history.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ValueError, match=r"^[^\n]*history\.npz: [^\n]+$"):
        read_history(tmp_path)


def test_pickled_histories_are_refused(tmp_path):
    np.savez(tmp_path / "history.npz", validation_loss=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="history.npz"):
        read_history(tmp_path)


def test_records_cannot_change(tmp_path):
    write(tmp_path, result())
    (record,) = read_results(tmp_path)
    assert isinstance(record, Record)
    with pytest.raises(ValueError, match="frozen"):
        record.status = "diverged"


def test_a_broken_result_is_no_reason_to_train_again(tmp_path):
    folder = Run("mlp_0", "t1", 1e-3, 0).folder(tmp_path)
    assert not has_result(folder)
    write(tmp_path, result())
    assert has_result(folder)
    (folder / "result.json").write_text("{")
    with pytest.raises(ValueError, match="result.json"):
        has_result(folder)
