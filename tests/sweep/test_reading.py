"""From what a person gives to a configuration: choices, leftovers, sizes of the embedded data."""

import json

import pytest
from ml_collections import ConfigDict

from configs import mnist, pgdl
from persist_jax.store.configuration import fixed_checksum, grid, read_config, settle
from persist_jax.sweep.experiment import load_experiment
from persist_jax.sweep.reading import (
    defaults,
    evaluate_of,
    every_field,
    free_fields,
    options_of,
    read_configuration,
)
from persist_jax.training import Evaluate, Options

OWN = {
    "dataset": {"kind": "images", "name": "digits"},
    "models": {"m": {"kind": "mlp", "hidden": [8]}},
    "networks": ["m"],
    "regularisers": ["none", "t1"],
}


def test_every_configuration_file_is_whole(monkeypatch):
    monkeypatch.delenv("PGDL_ROOT", raising=False)
    for dataset in mnist.DATASETS:
        config, notices = read_configuration(mnist.get_config(dataset))
        assert config.name == dataset and notices == ()
        assert set(config.models) == set(config.networks)
    assert config.models["mlp_0"]["hidden"] == [64, 48, 32]


def test_a_configuration_of_ones_own_has_the_papers_defaults():
    config, notices = read_configuration(OWN)
    paper, _ = read_configuration(mnist.get_config())
    own = {"name", "dataset", "networks", "models", "regularisers", "terms"}
    for field in set(type(config).model_fields) - own:
        assert getattr(config, field) == getattr(paper, field), field
    assert config.models["m"] == {"kind": "mlp", "hidden": [8], "dropout": 0.0}
    assert (config.name, notices) == ("sweep", ())
    assert options_of(config, "m") == Options() == Options.read({})


@pytest.mark.parametrize("field", ["dataset", "networks", "regularisers", "models"])
def test_these_fields_are_all_that_it_needs(field):
    with pytest.raises(ValueError, match=f"^{field}: missing"):
        read_configuration({name: value for name, value in OWN.items() if name != field})


def test_an_optimiser_without_a_name_is_the_papers_with_some_fields_changed():
    """As `--config.train.optimiser.learning_rate=0.1` where the file has no optimiser."""
    paper = Options().optimiser
    train = {"optimiser": {"learning_rate": 0.1, "schedule": {"decay_rate": 0.5}}}
    found = read_configuration(OWN | {"train": train})[0].train["optimiser"]
    changed = {"learning_rate": 0.1, "schedule": paper["schedule"] | {"decay_rate": 0.5}}
    assert found == paper | changed
    named = {"optimiser": {"name": "sgd", "learning_rate": 0.1}}
    assert read_configuration(OWN | {"train": named})[0].train["optimiser"] == named["optimiser"]
    assert Options().optimiser == paper


@pytest.mark.parametrize("name", ["m2²", "größe", "a-b_c", "20", "none", "t1", "True", "-x"])
def test_a_network_may_have_any_name_of_letters_and_digits(name, tmp_path):
    fields = OWN | {"models": {name: OWN["models"]["m"]}, "networks": [name]}
    config, _ = read_configuration(fields)
    settle(config, tmp_path, (), defaults(config))
    assert read_config(tmp_path) == config and options_of(config, name) == Options()


def test_all_mistakes_are_said_at_once_with_the_nearest_right_name():
    wrong = {
        "dataset": {"kind": "images", "name": "digits", "train_exampels": 3},
        "models": {"m": {"kind": "mlp", "hidden": [0]}, "n": {"kind": "mlpp"}},
        "networks": ["mm"],
        "regularisers": ["none", "t11"],
        "regularizers": [],
        "weight": [1],
        "train": {"lr": 0.1, "optimiser": {"name": "sgd", "lr": 0.1, "schedule": {"name": "cos"}}},
        "epochs": 3,
        "terms": {"t2": {"alhpa": 1}},
        "weights_of": {"t3": [1.0]},
        "report": {"tset": "x"},
        "seeds": [0, 0.5],
    }
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        read_configuration(wrong)
    for line in (
        "dataset.train_exampels: unknown field; did you mean dataset.train_examples?",
        "models.m.hidden[0]: 0 must be at least 1",
        "models.n.kind: 'mlpp' is not one of mlp, ",
        "networks: 'mm' is not one of m, n; did you mean m?",
        "regularisers: 't11' is not one of none, t1, ",
        "regularizers: unknown field; did you mean regularisers?",
        "weight: unknown field; did you mean weights?",
        "train.lr: unknown field; did you mean train.optimiser.learning_rate?",
        "train.optimiser.lr: unknown field; did you mean train.optimiser.learning_rate?",
        "train.optimiser.learning_rate: missing",
        "train.optimiser.schedule.name: 'cos' is not one of constant, staircase, cosine",
        "epochs: unknown field; did you mean train.epochs?",
        "terms.t2.alhpa: unknown field; did you mean terms.t2.alpha?",
        "weights_of: 't3' is not one of none, t1, ",
        "report.tset: unknown field; did you mean report.test?",
        "seeds[1]: 0.5 is not a whole number",
    ):
        assert any(found.startswith(line) for found in error.value.lines), line
    (line,) = [line for line in error.value.lines if line.startswith("regularisers:")]
    assert line.endswith("; did you mean t1?")
    assert len(error.value.lines) == 16


def test_weights_below_0_are_for_terms_of_neurons():
    config, _ = read_configuration(OWN | {"weights": [-1.0, 0.5], "regularisers": ["none", "t1"]})
    assert config.weights_for("t1") == (-1.0, 0.5)
    wrong = {"regularisers": ["t2", "l1", "l2"], "weights": [-1.0], "weights_of": {"l2": [-0.1]}}
    with pytest.raises(ValueError) as error:
        read_configuration(OWN | wrong)
    assert error.value.lines == [
        "weights: -1 of l1 must not be below 0", "weights_of.l2: -0.1 of l2 must not be below 0"
    ]  # fmt: skip


def test_a_sum_of_terms_and_dropout_are_rows_of_the_grid(tmp_path):
    fields = OWN | {
        "regularisers": ["none", "t2+l2", "dropout"],
        "terms": {"t2+l2": {"l2": {"weight": 0.003}}},
        "weights_of": {"t2+l2": [0.5, -0.5], "dropout": [0.2]},
    }
    config, _ = read_configuration(fields)
    assert config.terms == {"t2+l2": {"t2": {"alpha": 0.5}, "l2": {"weight": 0.003}}}
    settle(config, tmp_path, free_fields(config), defaults(config))
    assert read_config(tmp_path) == config
    assert [(run.regulariser, run.weight) for run in grid(config)] == [
        ("none", 0), ("t2+l2", 0.5), ("t2+l2", -0.5), ("dropout", 0.2)
    ]  # fmt: skip
    programs = load_experiment(config).programs("m", "t2+l2")
    assert programs._with_term and not load_experiment(config).programs("m", "dropout")._with_term
    with pytest.raises(ValueError) as error:
        read_configuration(fields | {"weights_of": {"t2+l3": [1.0], "dropout": [1.5]}})
    assert "weights_of: 'l3' is not one of none, t1" in str(error.value)
    with pytest.raises(ValueError, match="weights_of.dropout: 1.5 of dropout must be"):
        read_configuration(fields | {"weights_of": {"dropout": [1.5]}})
    with pytest.raises(ValueError, match="regularisers: dropout of m drops values of hidden"):
        models = {"m": {"kind": "resnet", "blocks": 1, "width": 2}}
        load_experiment(read_configuration(fields | {"models": models})[0])


def test_what_is_evaluated_is_checked_and_may_change(small, tmp_path):
    config = small()
    assert config.evaluate == Evaluate().plain() and evaluate_of(config) == Evaluate()
    settle(config, tmp_path, free_fields(config), defaults(config))
    (tmp_path / "runs" / "mlp" / "l2").mkdir(parents=True)
    other = small(evaluate={"pruning": [0.5], "loss": None})
    settle(other, tmp_path, free_fields(other), defaults(other))
    with pytest.raises(ValueError, match="prunning: unknown field; did you mean") as error:
        small(evaluate={"prunning": [0.5], "dropped": 1.0})
    assert "evaluate.dropped: 1.0 must be below 1" in str(error.value)


def test_many_mistakes_are_cut_short():
    with pytest.raises(ValueError) as error:
        read_configuration(OWN | {"seeds": [-1] * 5000})
    assert len(error.value.lines) == 5000
    assert str(error.value).endswith("; and 4980 more") and len(str(error.value)) < 1000


def test_checkpoints_and_measures_may_change_and_no_other_hyperparameter(small, tmp_path):
    config = small()
    settle(config, tmp_path, free_fields(config), defaults(config))
    (tmp_path / "runs" / "mlp" / "l2").mkdir(parents=True)
    other = small(**{"train.checkpoint_every": 1, "train.measures": True})
    settle(other, tmp_path, free_fields(other), defaults(other))
    free = free_fields(config)
    assert fixed_checksum(config, free, "mlp", "l2") == fixed_checksum(other, free, "mlp", "l2")
    for field in {*Options.model_fields} - {"checkpoint_every", "measures", "optimiser"}:
        value = getattr(options_of(config, "mlp"), field)
        choices = {"neurons": "channels", "matmul_precision": "highest", "min_delta": 0.5}
        changed = small(**{f"train.{field}": choices.get(field, 1.0 if value == 0.5 else 7)})
        with pytest.raises(ValueError, match=f"^train.{field}: "):
            settle(changed, tmp_path, free, defaults(changed))


def test_names_of_every_field():
    assert {"seeds", "report.test", "train.epochs", "train.optimiser.schedule.name"} <= {
        *every_field()
    }


def test_embedded_data_brings_its_sizes_and_its_notice(monkeypatch, tmp_path):
    monkeypatch.delenv("PGDL_ROOT", raising=False)
    fields = pgdl.get_config()
    fields.dataset.cache = str(tmp_path)
    fields.train.epochs = 3
    config, notices = read_configuration(fields, {"train.epochs"})
    assert config.name == "pgdl_sample"
    assert "embedded sample" in config.notice and notices == (config.notice,)
    assert config.networks == ("model_20", "model_148")
    assert config.train["epochs"] == 3 and config.train["batch_size"] == 43
    assert config.train["optimiser"]["learning_rate"] == 0.05
    assert config.train["optimiser"]["momentum"] == 0.9
    assert not list(tmp_path.iterdir())  # reading writes nothing


def test_with_real_data_nothing_is_replaced(request):
    fields = pgdl.get_config()
    fields.dataset.root = str(request.path.parents[1] / "data" / "pgdl_sample")
    config, _ = read_configuration(fields)
    assert config.name == "pgdl" and config.notice == ""
    assert config.train["batch_size"] == 256
    # Of the paper's networks the task here has these.
    assert config.networks == ("model_20", "model_21", "model_22", "model_148")


def test_another_choice_drops_the_parameters_of_the_one_before(small):
    """As with `--config.train.optimiser.name=adam --config.train.optimiser.b1=0.8`."""
    fields = small.fields()
    fields["train"]["optimiser"] |= {"name": "adam", "b1": 0.8}
    with pytest.raises(ValueError, match="train.optimiser.momentum: unknown field"):
        read_configuration(fields)
    config, _ = read_configuration(fields, {"train.optimiser.name", "train.optimiser.b1"})
    assert config.train["optimiser"] == {"name": "adam", "learning_rate": 0.05, "b1": 0.8}


def test_a_parameter_that_a_person_gave_is_never_dropped(small):
    fields = small.fields()
    fields["train"]["optimiser"]["name"] = "adam"
    given = {"train.optimiser.name", "train.optimiser.momentum"}
    with pytest.raises(ValueError, match="train.optimiser.momentum: unknown field; known are b1"):
        read_configuration(fields, given)


def test_a_network_may_have_its_own_sampling(small):
    own = {"kind": "mlp", "hidden": [4], "sampling": {"fraction": 0.25, "neurons": "channels"}}
    config = small(networks=["mlp", "own"], models=small.fields()["models"] | {"own": own})
    options = options_of(config, "own")
    assert (options.sampling, options.neurons) == (0.25, "channels")
    assert options_of(config, "mlp").sampling == 0.5
    assert options.batch_size == options_of(config, "mlp").batch_size


def test_a_parameter_at_its_default_is_no_other_configuration(small):
    fields = small.fields(regularisers=["t1", "t2"])
    fields["models"]["mlp"] |= {"dropout": 0.0}
    written, _ = read_configuration(fields)
    del fields["models"]["mlp"]["dropout"]
    fields |= {"terms": {"t2": {"alpha": 0.5}}, "dataset": {"kind": "some_digits", "first": 0}}
    assert read_configuration(fields)[0] == written
    assert written.terms == {"t1": {"reduce": "sum"}, "t2": {"alpha": 0.5}}


def test_a_folder_older_than_a_parameter_has_its_default(small, tmp_path):
    config = small(regularisers=["t1", "t2"])
    settle(config, tmp_path, (), defaults(config))
    (tmp_path / "runs" / "mlp" / "t1").mkdir(parents=True)
    before = json.loads((tmp_path / "config.json").read_text())
    del before["terms"]["t1"], before["models"]["mlp"]["dropout"]
    (tmp_path / "config.json").write_text(json.dumps(before))
    with pytest.raises(ValueError, match="^models.mlp.dropout: 0.5, but .* with 0.0"):
        settle(config, tmp_path, (), defaults(config))
    before["models"]["mlp"]["dropout"] = 0.5
    (tmp_path / "config.json").write_text(json.dumps(before))
    other = small(regularisers=["t1"], terms={"t1": {"reduce": "mean"}})
    with pytest.raises(ValueError, match="^terms.t1.reduce: 'mean', but .* with 'sum'"):
        settle(other, tmp_path, (), defaults(other))
    settle(config, tmp_path, (), defaults(config))
    assert read_config(tmp_path) == config


@pytest.mark.parametrize(
    "field, default, other",
    [("matmul_precision", "default", "bfloat16"), ("neurons", "positions", "channels")],
)
def test_a_folder_without_a_field_of_train_has_its_default(small, tmp_path, field, default, other):
    config = small()
    assert config.train[field] == default == getattr(options_of(config, "mlp"), field)
    assert small(**{f"train.{field}": default}) == config
    settle(config, tmp_path, (), defaults(config))
    (tmp_path / "runs" / "mlp" / "l2").mkdir(parents=True)
    before = json.loads((tmp_path / "config.json").read_text())
    del before["train"][field]
    (tmp_path / "config.json").write_text(json.dumps(before))
    assert getattr(options_of(read_config(tmp_path), "mlp"), field) == default
    changed = small(**{f"train.{field}": other})
    with pytest.raises(ValueError, match=f"^train.{field}: '{other}', but .* with '{default}'"):
        settle(changed, tmp_path, (), defaults(changed))
    settle(config, tmp_path, (), defaults(config))
    assert read_config(tmp_path) == config


def test_another_schedule_takes_over_no_number_that_means_something_else():
    fields = mnist.get_config("digits")
    fields.train.optimiser.schedule.name = "cosine"
    with pytest.raises(ValueError, match="schedule.cosine_steps: missing"):
        read_configuration(fields, {"train.optimiser.schedule.name"})


def test_names_of_a_command_line_are_split(small):
    config = small(networks=["mlp,other"], regularisers=["none,t1"])
    assert config.networks == ("mlp", "other") and config.regularisers == ("none", "t1")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"dataset": {}}, "dataset.kind: missing; it is one of "),
        ({"dataset": None}, "dataset: None is not a section of fields"),
        ({"dataset": {"kind": "tables"}}, "dataset.kind: 'tables' is not one of images, pgdl"),
        ({"dataset.colour": 1}, "dataset.colour: unknown field; known are first, where"),
        ({"networks": ["mlp_7"]}, "networks: 'mlp_7' is not one of mlp, other"),
        ({"networks": []}, "networks: [] needs at least 1"),
        ({"networks": 3}, "networks: '3' is not one of mlp, other"),
        ({"networks": {}}, "networks: {} is not a list"),
        ({"networks": ["mlp", "mlp"]}, "networks: mlp is there more than once"),
        ({"models.mlp": {"kind": "mpl"}}, "models.mlp.kind: 'mpl' is not one of "),
        ({"models.mlp": {"kind": "mlp"}}, "models.mlp.hidden: missing"),
        ({"models.mlp.hidden": [4, 0]}, "models.mlp.hidden[1]: 0 must be at least 1"),
        ({"models.mlp.dropout": 1.5}, "models.mlp.dropout: 1.5 must be below 1"),
        ({"models.mlp.sampling": {"share": 1}}, "models.mlp.sampling.share: unknown field"),
        ({"models.other.sampling": {"fraction": 0}}, "models.other.sampling.fraction: 0 must be"),
        ({"train.sampling": 0.0}, "train.sampling: 0.0 must be above 0"),
        ({"models.mlp.hidden": [1] * 1001}, "models.mlp.hidden: [1, 1, 1"),
        ({"models.mlp.dropout": 1 - 1e-12}, "models.mlp.dropout: 0.999999999999 is 1 in float32"),
        ({"weights": [1e-60]}, "weights[0]: 1e-60 is 0 in float32"),
        ({"weights": [1e39]}, "weights[0]: 1e+39 is beyond float32"),
        ({"train.epochs": 10**12}, "train.epochs: 1000000000000 must be at most 2147483647"),
        ({"seeds": [10**400]}, "seeds[0]: a whole number of about 400 digits is beyond"),
        ({"name": "x" * 20000}, "name: 'xxx"),
        ({"models.mlp.sampling": {"fraction": 2}}, "models.mlp.sampling.fraction: 2 must be"),
        ({"regularisers": ["drop_out"]}, "regularisers: 'drop_out' is not one of none, t1"),
        ({"terms": {"t9": {}}}, "terms: 't9' is not one of none, t1"),
        ({"regularisers": ["t2"], "terms": {"t2": {"alpha": 2.0}}}, "terms.t2.alpha: 2.0 must be"),
        ({"models.other.hiden": [4]}, "models.other.hiden: unknown field; did you mean models"),
        ({"models.other": 4}, "models.other: 4 is not a section of fields"),
        ({"terms": {"t2": {"beta": 1}}}, "terms.t2.beta: unknown field; known are alpha"),
        ({"train": {"batch_size": None}}, "train.batch_size: None is not a whole number"),
        ({"train": 3}, "train: 3 is not a section of fields"),
        ({"train.optimiser": 3}, "train.optimiser: 3 is not a section of fields"),
        ({"train.optimiser.name": "sdg"}, "train.optimiser.name: 'sdg' is not one of sgd, adam"),
    ],
)
def test_wrong_fields_are_named_in_one_line(small, change, words):
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        read_configuration(ConfigDict(small.fields(**change)))
    assert str(error.value).startswith(words)


def test_more_iterations_than_a_device_counts(small):
    config = small(**{"train.epochs": 2**30})
    options = options_of(config, "mlp")
    with pytest.raises(ValueError, match="^train.epochs: 1073741824 of 2 steps are 2147483648"):
        options.check_iterations(140)
    with pytest.raises(ValueError, match="^train.epochs: "):
        load_experiment(config)
    options.check_iterations(70)
