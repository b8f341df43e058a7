"""Wrong values of fields, a sample of them here and all where there is time; see `fields`."""

import sys

import pytest

from launch.configuration_file import ConfigurationError, load_config
from tests.faults import fields as trials

FIELDS = list(trials.fields())
pytestmark = pytest.mark.usefixtures("unchecked_types")


def test_every_field_of_every_registered_entry_is_tried():
    names = {field.name for field in FIELDS}
    assert {"seeds", "train.sampling", "train.optimiser.b1", "dataset.validation_seed"} <= names
    assert {"terms.t2.alpha", "models.mlp_0.blocks", "train.optimiser.schedule.final"} <= names
    assert "embedded.train.sampling" in names


def test_a_wrong_value_is_refused_by_name_or_sensible():
    """Every third field is given one of the values, and every value to some of the fields."""
    found = [
        trials.in_the_file(field, trials.VALUES[i % len(trials.VALUES)])
        for i, field in enumerate(FIELDS[::3])
    ]
    assert not [fault for trial in found for fault in trials.faults(trial)]
    assert sum(trial.config is None for trial in found) > len(found) / 2


@pytest.mark.slow
def test_so_is_one_of_the_command_line():
    found = [
        trials.on_the_command_line(field, trials.TEXTS[i % len(trials.TEXTS)])
        for i, field in enumerate(FIELDS[1::4])
    ]
    assert not [fault for trial in found for fault in trials.faults(trial)]
    assert sum(trial.config is None for trial in found) > len(found) / 2


@pytest.mark.slow
@pytest.mark.parametrize("file", trials.FILES)
def test_many_values_of_every_field(file):
    """Every 72nd value; `python -m tests.faults.fields` tries all."""
    wrong = []
    for i, field in enumerate(field for field in FIELDS if field.file == file):
        values, texts = trials.VALUES[i % 72 :: 72], trials.TEXTS[i % 72 :: 72]
        wrong += [trials.faults(trials.in_the_file(field, value)) for value in values]
        wrong += [trials.faults(trials.on_the_command_line(field, text)) for text in texts]
    assert not [fault for found in wrong for fault in found]


@pytest.mark.parametrize(
    "text, words",
    [
        ("def get_config(:", "mine.py, line 1: SyntaxError: invalid syntax; correct the file"),
        ("def get_config():\n    1 / 0", "mine.py, line 2: ZeroDivisionError: division by zero"),
        ("def get_config():\n    return {}['a']", "mine.py, line 2: KeyError: 'a'"),
        ("def get_config():\n    get_config()", "mine.py, line 2: RecursionError: maximum"),
        ("import sys\nsys.exit(3)", "mine.py, line 2: SystemExit: 3"),
        ("import no_such_thing", "mine.py, line 1: ModuleNotFoundError: No module named"),
        ("x = 1", "mine.py: has no function get_config"),
        ("get_config = 5", "mine.py: has no function get_config"),
        ("def get_config(a):\n    return {}", "mine.py: get_config needs an argument: --config="),
        ("def get_config():\n    pass", "mine.py: get_config returns a NoneType, must"),
        ("def get_config():\n    return [1]", "mine.py: get_config returns a list, must"),
        ("\0", "mine.py: SyntaxError: source code string cannot contain null bytes"),
        ("def get_config():\n    raise ValueError('not so')", "mine.py, line 2: not so"),
    ],
)
def test_a_configuration_file_that_does_not_hold_is_one_line(tmp_path, text, words):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="^[^\n]*$") as error:
        load_config(str(path))
    assert words in str(error.value)


def test_a_file_may_import_what_lies_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "beside_it.py").write_text("NAME = 'mine'")
    path = tmp_path / "mine.py"
    path.write_text("from beside_it import NAME\n\ndef get_config():\n    return {'name': NAME}")
    assert load_config(str(path)).name == "mine"


@pytest.mark.parametrize("path", ["", ".", "nowhere.py", "x" * 5000])
def test_a_file_that_is_not_there_is_named(path):
    with pytest.raises(ConfigurationError, match=r"^--config: .*(no file|file|long)") as error:
        load_config(path)
    assert path[:20] in str(error.value)


def test_a_file_that_takes_no_argument_says_so(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def get_config():\n    return {}")
    with pytest.raises(ConfigurationError, match="does not take 'digits'; leave it out"):
        load_config(str(path), "digits")


