"""What a folder's runs keep to: the fields of its configuration, by content and not by place."""

import json

import pytest

from persist_jax.store.configuration import (
    Configuration,
    check_settled,
    flatten,
    read_config,
    settle,
)

FIELDS = {
    "name": "grid",
    "dataset": {"kind": "images", "name": "digits", "cache": None},
    "models": {"a": {"kind": "mlp", "hidden": [4]}, "b": {"kind": "mlp", "hidden": [5]}},
    "networks": ["a", "b"],
    "regularisers": ["none", "t2"],
    "terms": {"t2": {"alpha": 0.5}},
    "weights": [1e-6, 1.0],
    "seeds": [0, 1],
    "train": {"learning_rate": 0.1, "checkpoint_every": 10},
    "continued": False,
    "parallel": "lanes",
    "lane_strategy": "auto",
    "devices": None,
    "max_lanes": 0,
    "report": {"significance": 0.05, "test": "nemenyi", "correction": "holm"},
    "checksums": {"a": "aa", "b": "bb"},
    "dataset_checksum": "dd",
}
PLACES = {"dataset.cache"}


def _config(**changes):
    return Configuration.read(FIELDS | changes)


@pytest.fixture
def workdir(tmp_path):
    """A folder with runs of network a under t2."""
    settle(_config(), tmp_path, PLACES)
    (tmp_path / "runs" / "a" / "t2").mkdir(parents=True)
    return tmp_path


def test_before_anything_has_run_everything_may_change(tmp_path):
    settle(_config(), tmp_path, PLACES)
    settle(_config(train={"learning_rate": 0.2}), tmp_path, PLACES)
    assert read_config(tmp_path).train == {"learning_rate": 0.2}


@pytest.mark.parametrize(
    "change, words",
    [
        ({"train": {"learning_rate": 0.2, "checkpoint_every": 10}}, "train.learning_rate: 0.2, b"),
        ({"train": {"checkpoint_every": 10}}, "train.learning_rate: None, but"),
        ({"models": FIELDS["models"] | {"a": {"kind": "mlp", "hidden": [9]}}}, "models.a.hidden"),
        ({"terms": {"t2": {"alpha": 0.3}}}, "terms.t2.alpha: 0.3, but .* with 0.5"),
        ({"dataset": {"kind": "images", "name": "mnist"}}, "dataset.name: 'mnist', but"),
        ({"checksums": {"a": "xx"}}, "checksums.a: 'xx', but .* holds runs with 'aa'"),
        ({"dataset_checksum": "ee"}, "dataset_checksum: 'ee', but"),
    ],
)
def test_what_the_runs_are_made_of_may_not(workdir, change, words):
    before = (workdir / "config.json").read_text()
    with pytest.raises(ValueError, match=f"^{words}"):
        settle(_config(**change), workdir, PLACES)
    assert (workdir / "config.json").read_text() == before


@pytest.mark.parametrize(
    "change",
    [
        {"weights": [3.0], "seeds": [4], "networks": ["b"], "regularisers": ["l1"]},
        {"train": {"learning_rate": 0.1, "checkpoint_every": 1}, "devices": 2},
        {"models": FIELDS["models"] | {"b": {"kind": "mlp", "hidden": [9]}}},
        {"models": {"a": FIELDS["models"]["a"], "c": {"kind": "mlp", "hidden": [2]}}},
        {"dataset": {"kind": "images", "name": "digits", "cache": "/elsewhere"}},
        {"terms": {"t2": {"alpha": 0.5}, "l1": {}}},
        {"checksums": {}, "dataset_checksum": None},
    ],
)
def test_grid_machine_and_places_may_change(workdir, change):
    settle(_config(**change), workdir, PLACES)


def test_what_runs_were_made_of_stays_on_record(workdir):
    """Otherwise a network could go and come back as another one."""
    gone = {"networks": ["b"], "models": {"b": FIELDS["models"]["b"]}, "checksums": {"b": "bb"}}
    settle(_config(**gone), workdir, PLACES)
    changed = FIELDS["models"] | {"a": {"kind": "mlp", "hidden": [9]}}
    with pytest.raises(ValueError, match=r"^models.a.hidden: \[9\]"):
        settle(_config(models=changed), workdir, PLACES)
    with pytest.raises(ValueError, match=r"^checksums.a: 'zz'"):
        settle(_config(checksums={"a": "zz"}), workdir, PLACES)


def test_runs_without_a_configuration_are_refused(workdir):
    (workdir / "config.json").unlink()
    with pytest.raises(ValueError, match="config.json: missing, but .* holds runs"):
        check_settled(_config(), workdir, PLACES)


_DEEP = json.dumps(FIELDS).replace('"cache": null', '"cache": ' + "[" * 50 + "]" * 50)
_BROKEN = {
    "empty": b"", "list": b"[]", "number": b"3", "null": b"null", "cut": b"{",
    "other": b'{"name": "x"}', "deep": b"[" * 10**5, "no text": b"\xff\xfe",
    "digits": b'{"name": ' + b"9" * 5000 + b"}", "not a number": b'{"name": NaN}',
    "of another type": json.dumps(FIELDS | {"train": 5}).encode(),
    "beyond float32": json.dumps(FIELDS | {"weights": [10**400]}).encode(),
    "deep in a field": _DEEP.encode(),
}  # fmt: skip


@pytest.mark.parametrize("content", _BROKEN.values(), ids=list(_BROKEN))
def test_a_broken_configuration_is_named(workdir, content):
    (workdir / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"^[^\n]*config\.json: [^\n]+$") as error:
        settle(_config(), workdir, PLACES)
    assert len(str(error.value)) < 500
    assert (workdir / "config.json").read_bytes() == content
    with pytest.raises(ValueError, match=r"^[^\n]*config\.json: [^\n]+$"):
        read_config(workdir)


@pytest.mark.parametrize("field", [n for n in FIELDS if n not in ("terms", "checksums")])
def test_a_missing_field_is_named(field):
    fields = {name: value for name, value in FIELDS.items() if name != field}
    if field == "dataset_checksum":
        assert Configuration.read(fields).dataset_checksum is None
    else:
        with pytest.raises(ValueError, match=f"^{field}: missing$"):
            Configuration.read(fields)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"weights": [0.0]}, "weights[0]: 0.0 must be above 0"),
        ({"weights": [1.0, 1]}, "weights: 1 is there more than once"),
        ({"weights": []}, "weights: [] needs at least 1, has 0"),
        ({"weights": [float("inf")]}, "weights[0]: inf is not finite"),
        ({"seeds": []}, "seeds: [] needs at least 1, has 0"),
        ({"seeds": [0, 1.5]}, "seeds[1]: 1.5 is not a whole number"),
        ({"seeds": [2**31]}, "seeds[0]: 2147483648 must be below 2147483648"),
        ({"max_lanes": -1}, "max_lanes: -1 must be at least 0"),
        ({"parallel": "rows"}, "parallel: 'rows' is not one of lanes, batch"),
        ({"report": {"alpha": 0.1}}, "report.alpha: unknown field; known are significance, test"),
        ({"name": "../x"}, "name: '../x' cannot name a folder"),
        ({"models": {"a.b": {}}}, "models: 'a.b' is not a name of letters, digits, _ and -"),
        ({"extra": 1}, "extra: unknown field; known are name, notice, dataset"),
        ({"continued": "yes"}, "continued: 'yes' is not true or false"),
    ],
)
def test_wrong_fields_are_named(change, words):
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        Configuration.read(FIELDS | change)
    assert str(error.value).startswith(words)


def test_it_survives_the_disk(tmp_path):
    settle(_config(), tmp_path, PLACES)
    assert read_config(tmp_path) == _config()
    kept = json.loads((tmp_path / "config.json").read_text())
    assert flatten(kept)["train.learning_rate"] == 0.1
