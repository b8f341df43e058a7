"""What a folder's runs keep to: the fields of its configuration, by content and not by place."""

import json

import pytest

from persist_jax._plumbing.validation import Given, MayChange
from persist_jax.store.configuration import (
    Configuration,
    check_settled,
    fixed_checksum,
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
FREE = {"dataset.cache", "train.checkpoint_every"}
REQUIRED = ("dataset", "networks", "regularisers")


def _config(**changes):
    return Configuration.read(FIELDS | changes)


@pytest.fixture
def workdir(tmp_path):
    """A folder with runs of network a under t2."""
    settle(_config(), tmp_path, FREE)
    (tmp_path / "runs" / "a" / "t2").mkdir(parents=True)
    return tmp_path


def test_before_anything_has_run_everything_may_change(tmp_path):
    settle(_config(), tmp_path, FREE)
    settle(_config(train={"learning_rate": 0.2}), tmp_path, FREE)
    assert read_config(tmp_path).train == {"learning_rate": 0.2}


def test_what_a_killed_process_had_begun_to_write_goes(tmp_path):
    (tmp_path / f".config.json.{'3a' * 16}").touch()
    settle(_config(), tmp_path, FREE)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


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
        settle(_config(**change), workdir, FREE)
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
    settle(_config(**change), workdir, FREE)


def test_every_field_that_differs_is_named(workdir):
    terms, dataset = {"t2": {"alpha": 0.3}}, {"kind": "images", "name": "mnist"}
    with pytest.raises(ValueError) as error:
        settle(_config(terms=terms, dataset=dataset, dataset_checksum="ee"), workdir, FREE)
    fields = [line.partition(":")[0] for line in error.value.lines]
    assert fields == ["dataset.name", "terms.t2.alpha"]  # and not the checksum, which follows


def test_a_field_decides_the_results_of_runs_unless_it_is_marked():
    free = {n for n, field in Configuration.model_fields.items() if MayChange in field.metadata}
    assert set(Configuration.model_fields) - free == {
        "dataset", "models", "terms", "train", "checksums", "dataset_checksum"
    }  # fmt: skip


def test_the_checksum_is_of_the_fields_that_may_not_change():
    def checksum(**changes):
        return fixed_checksum(_config(**changes), FREE, "a", "t2")

    slower = {"learning_rate": 0.1, "checkpoint_every": 1}
    assert checksum() == checksum(seeds=[4], devices=2, train=slower, name="other")
    assert checksum() == checksum(dataset=FIELDS["dataset"] | {"cache": "/elsewhere"})
    assert checksum() == checksum(models=FIELDS["models"] | {"b": {"kind": "mlp", "hidden": [9]}})
    assert checksum() != checksum(models=FIELDS["models"] | {"a": {"kind": "mlp", "hidden": [9]}})
    assert checksum() != checksum(train=slower | {"learning_rate": 0.2})


def test_a_network_may_have_the_name_of_a_regulariser(tmp_path):
    """Runs of the network t2 say nothing of the term t2."""
    models = {"t2": {"kind": "mlp", "hidden": [4]}}
    changes = {"models": models, "networks": ["t2"], "checksums": {}}
    settle(_config(**changes), tmp_path, FREE)
    (tmp_path / "runs" / "t2" / "none").mkdir(parents=True)
    settle(_config(**changes, terms={"t2": {"alpha": 0.3}}), tmp_path, FREE)


def test_what_runs_were_made_of_stays_on_record(workdir):
    """Otherwise a network could go and come back as another one."""
    gone = {"networks": ["b"], "models": {"b": FIELDS["models"]["b"]}, "checksums": {"b": "bb"}}
    settle(_config(**gone), workdir, FREE)
    changed = FIELDS["models"] | {"a": {"kind": "mlp", "hidden": [9]}}
    with pytest.raises(ValueError, match=r"^models.a.hidden: \[9\]"):
        settle(_config(models=changed), workdir, FREE)
    with pytest.raises(ValueError, match=r"^checksums.a: 'zz'"):
        settle(_config(checksums={"a": "zz"}), workdir, FREE)


def test_runs_without_a_configuration_are_refused(workdir):
    (workdir / "config.json").unlink()
    with pytest.raises(ValueError, match="config.json: missing, but .* holds runs"):
        check_settled(_config(), workdir, FREE)


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
        settle(_config(), workdir, FREE)
    assert len(str(error.value)) < 500
    assert (workdir / "config.json").read_bytes() == content
    with pytest.raises(ValueError, match=r"^[^\n]*config\.json: [^\n]+$"):
        read_config(workdir)


def test_only_these_fields_have_no_default():
    config = Configuration.read({name: FIELDS[name] for name in REQUIRED})
    assert config.weights[:2] == (1e-6, 1e-5) and len(config.weights) == 10
    assert (config.seeds, config.parallel, config.report.test) == ((0,), "lanes", "nemenyi")
    with pytest.raises(ValueError) as error:
        Configuration.read({"weights": [-1.0, 0.0]})
    missing = [f"{name}: missing" for name in REQUIRED]
    assert sorted(error.value.lines) == sorted([*missing, "weights[1]: 0.0 must not be 0"])


def test_one_value_stands_for_a_list_of_one():
    """As it does on a command line, where names come as `a,b` and may be numbers."""
    config = _config(networks="a, b", regularisers=["none,t2"], weights=0.1, seeds=3)
    assert (config.networks, config.regularisers) == (("a", "b"), ("none", "t2"))
    assert (config.weights, config.seeds) == ((0.1,), (3,))
    assert _config(networks=[20, 148]).networks == ("20", "148")
    assert _config(weights_of={"t2": 0.5}).weights_for("t2") == (0.5,)


def test_a_list_stands_for_a_tuple_wherever_one_is():
    class Nested(Given):
        pairs: tuple[tuple[int, ...], ...]
        either: tuple[int, ...] | bool
        by_name: dict[str, tuple[int, int]] | None = None

    read = Nested.read({"pairs": [[1], [2, 3]], "either": [4], "by_name": {"a": [5, 6]}})
    assert (read.pairs, read.either, read.by_name) == (((1,), (2, 3)), (4,), {"a": (5, 6)})
    with pytest.raises(ValueError, match=r"^pairs\[0\]\[0\]: '1' is not a whole number$"):
        Nested.read({"pairs": [["1"]], "either": True})


def test_a_copy_is_checked_and_takes_lists():
    config = _config()
    changed = config.replace(seeds=[3], report={"test": "wilcoxon"})
    assert (changed.seeds, changed.report.test, changed.weights) == ((3,), "wilcoxon", (1e-6, 1.0))
    assert Configuration.read(changed.plain()) == changed
    for wrong in ({"seeds": ["3"]}, {"max_lanes": 1.0}, {"continued": 1}, {"new": 1}):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))}"):
            config.replace(**wrong)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"weights": [0.0]}, "weights[0]: 0.0 must not be 0"),
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
        ({"models": {"a\n": {}}}, "models: 'a\\n' is not a name of letters"),
        ({"models": {"é" * 101: {}}}, "models: 'ééé"),
        ({"extra": 1}, "extra: unknown field; known are name, notice, dataset"),
        ({"regularizers": 1}, "regularizers: unknown field; did you mean regularisers?"),
        ({"weight": 1}, "weight: unknown field; did you mean weights?"),
        ({"equivalence": 1}, "equivalence: unknown field; did you mean report.equivalence?"),
        ({"continued": "yes"}, "continued: 'yes' is not true or false"),
    ],
)
def test_wrong_fields_are_named(change, words):
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        Configuration.read(FIELDS | change)
    assert str(error.value).startswith(words)


def test_it_survives_the_disk(tmp_path):
    settle(_config(), tmp_path, FREE)
    assert read_config(tmp_path) == _config()
    kept = json.loads((tmp_path / "config.json").read_text())
    assert flatten(kept)["train.learning_rate"] == 0.1
