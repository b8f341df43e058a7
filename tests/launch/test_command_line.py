"""Of every command: signals, flags and fields of a configuration, errors in a line each."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from absl.testing import flagsaver

from launch.command_line import _in_words, fail, flags, parse_flags
from launch.configuration_file import ConfigurationError, define_config, load_config, read_given
from launch.sweep import CHOSEN_EXECUTOR
from persist_jax.sweep.reading import options_of

ROOT = Path(__file__).parents[2]
SWEEP = [sys.executable, "-m", "launch.sweep", "--config=configs/mnist.py:digits"]
# One call of C that no signal ends, as a compilation is.
BUSY = """
import hashlib
from launch.interruption import INTERRUPTION
INTERRUPTION.watch()
with INTERRUPTION.deferred() as must_stop:
    {question}
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


def _start(*command):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, **pipes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_training_is_one_line(tmp_path, number):
    process = _start(*SWEEP, f"--workdir={tmp_path / 'out'}")
    time.sleep(1.0)  # in the imports, or on a fast machine behind them
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert error == "Interrupted. Run the same command again to resume.\n"


def test_a_signal_is_heard_during_a_long_call():
    process = _start(sys.executable, "-c", BUSY.format(question=""))
    assert process.stdout.readline() == "busy\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, len(error.splitlines())) == (130, 1)


def test_while_there_is_something_to_save_the_second_one_acts_at_once():
    process = _start(sys.executable, "-c", BUSY.format(question="must_stop()"))
    assert process.stdout.readline() == "busy\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith("Stopping after this epoch")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, len(error.splitlines())) == (130, 1)


@pytest.mark.parametrize(
    "error, words",
    [
        (OSError(28, "No space left on device", "/a/b"), "/a/b: no space left on the disk; make"),
        (OSError(28, "No space left on device"), "no space left on the disk; make room"),
        (ValueError('RESOURCE_EXHAUSTED: writing "/a": No space left on device'), "/a: no space"),
        (PermissionError(13, "Permission denied", "/a"), "/a: Permission denied"),
        (MemoryError(), "out of memory; lower config.max_lanes, config.train.batch_size"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), "out of memory: "),
        (ValueError("weights: no\nnumber"), "weights: no number"),
    ],
)
def test_faults_of_input_and_machine_are_one_line(error, words):
    assert _in_words(error).startswith(words) and "\n" not in _in_words(error)


OWN = """
MLP = dict(kind="mlp", hidden=(8,), dropout=0.0)

def get_config():
    return dict(
        dataset=dict(kind="images", name="digits"),
        models={"m2²": MLP | dict(hidden=(8, 4)), "a-b": MLP},
        networks=("m2²",), regularisers=("none", "t1"), continued=False,
    )
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN, encoding="utf-8")
    return f"--config={path}"


def _read(*arguments):
    values = flags.FlagValues()
    define_config("", values)
    parse_flags(["sweep", *map(str, arguments)], values)
    return read_given(values)[0]


def test_a_field_that_the_file_does_not_name_can_be_set(own):
    config = _read(own, "--config.train.epochs=3", "--config.seeds=1,2", "--config.weights=0.1")
    assert (config.seeds, config.weights) == ((1, 2), (0.1,))
    options = options_of(config, "m2²")
    assert (options.epochs, options.batch_size) == (3, 256)
    assert (config.name, config.dataset["name"]) == ("own", "digits")


@pytest.mark.parametrize(
    "arguments, field, value",
    [
        (["--config.networks=a-b"], "networks", ("a-b",)),
        (["--config.networks=m2²,a-b"], "networks", ("m2²", "a-b")),
        (["--config.networks=m2²", "--config.networks=a-b"], "networks", ("m2²", "a-b")),
        (["--config.models.m2².hidden=16"], "models.m2².hidden", [16]),
        (["--config.hidden.m2²=16,8"], "models.m2².hidden", [16, 8]),
        (["--config.models.m2².hidden=(16, 8)"], "models.m2².hidden", [16, 8]),
        (["--config.continued"], "continued", True),
        (["--config.continued=true", "--noconfig.continued"], "continued", False),
        (["--config.continued=1"], "continued", True),
        (["-config.devices", "1", "--config.max_lanes", "2"], "devices", 1),
        (["--config.devices=None"], "devices", None),
        (["--config.regularisers=none"], "regularisers", ("none",)),
        (["--config.train.patience=None"], "train.patience", None),
        (["--config.train.learning_rate=1e-3"], "train.optimiser.learning_rate", 1e-3),
        (["--config.train.optimiser.name=adam"], "train.optimiser.name", "adam"),
        (["--config.train.alpha=0.3", "--config.regularisers=t2"], "terms.t2.alpha", 0.3),
        (["--config.weights_of.t1=0.1,1"], "weights_of.t1", (0.1, 1.0)),
        (["--config.dataset.name=digits"], "dataset.name", "digits"),
        (["--config.dataset.cache=/a b=c"], "dataset.cache", "/a b=c"),
        (["--config.name=2024"], "name", "2024"),
    ],
)
def test_the_text_of_a_field(own, arguments, field, value):
    if "train.optimiser.name" in arguments[0]:
        arguments = [*arguments, "--config.train.optimiser.learning_rate=0.1"]
    root, *names = field.split(".")
    found = getattr(_read(own, *arguments), root)
    for name in names:
        found = found[name]
    assert found == value and type(found) is type(value)


def test_every_wrong_field_is_said_where_it_was_set(own, capsys):
    wrong = ["--config.train.lr=1", "--config.trian.epochs=1", "--config.regularisers=none,t11"]
    path = own.partition("=")[2]
    Path(path).write_text(OWN.replace("networks=", "netwroks="), encoding="utf-8")
    with pytest.raises(ValueError) as error:
        _read(own, *wrong)
    assert fail(error.value) == 2
    lines = capsys.readouterr().err.splitlines()
    choices = "none, t1, t2, min_corr, l1, l2, t1_living, t2_living, dropout"
    assert sorted(lines) == [
        f"--config.regularisers: 't11' is not one of {choices}; did you mean t1?",
        "--config.train.lr: unknown field; did you mean train.optimiser.learning_rate?",
        "--config.trian: unknown field; did you mean train?",
        f"{path}: networks: missing",
        f"{path}: netwroks: unknown field; did you mean networks?",
    ]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--epochs=3"], "Unknown command line flag 'epochs'; did you mean --config.train.epochs?"),
        (["--lr=3"], "flag 'lr'; did you mean --config.train.optimiser.learning_rate?"),
        (["--regularizers=t1"], "'regularizers'; did you mean --config.regularisers?"),
        (["--confg.x=3"], "Unknown command line flag 'confg.x'"),
        (["3"], "unexpected argument '3'; options look like --name=value"),
        (["--config.keys=3"], "--config.keys: unknown field; known are name"),
        (["--config.=3"], "--config.: unknown field"),
        (["--config.models.a-b.dropout=" + "9" * 400], "--config.models.a-b.dropout: '9999"),
    ],
)
def test_a_wrong_argument_is_one_line(own, arguments, words):
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        _read(own, *arguments)
    assert words in str(error.value)


def test_a_frozen_configuration_takes_fields_as_well(own):
    path = Path(own.partition("=")[2])
    frozen = OWN.replace("return dict(", "return FrozenConfigDict(dict(")[:-2] + "))\n"
    path.write_text(f"from ml_collections import FrozenConfigDict\n{frozen}", encoding="utf-8")
    assert _read(own, "--config.seeds=3", "--config.continued").seeds == (3,)


def test_without_a_configuration_the_shipped_ones_are_listed():
    with pytest.raises(ValueError) as error:
        _read()
    first, *others = error.value.lines
    assert first.startswith("--config: missing")
    (words,) = [line for line in others if "configs/mnist.py" in line]
    assert words.startswith("--config=") and ": The paper's experiment on MNIST: " in words
    assert len(others) == len([*ROOT.glob("configs/[a-z]*.py")])
    with flagsaver.flagsaver(), pytest.raises(ValueError, match="^--config: missing"):
        parse_flags(["sweep", "--config.train.epochs=3"])  # of launch.sweep
        read_given()


@pytest.mark.parametrize(
    "path, words",
    [
        ("configs/mnsit.py", "did you mean .*configs/mnist.py?"),
        ("mnst", "did you mean .*configs/mnist.py?"),
        ("configs/zzz.py", "see configs/*.py"),
    ],
)
def test_a_path_that_does_not_exist_gets_the_nearest(path, words):
    words = words.replace("?", "[?]").replace("/*", "/[*]")
    with pytest.raises(ConfigurationError, match=f"^--config: '{path}': no such file; {words}$"):
        load_config(path)


def test_the_nearest_path_may_be_beside_it(own):
    path = own.partition("=")[2]
    with pytest.raises(ConfigurationError, match=f"; did you mean {path}[?]$"):
        load_config(path.replace("own.py", "ownn.py"))


def test_a_flag_of_another_executor_is_refused():
    with flagsaver.as_parsed(ray_num_cpus="2"):
        flags.FLAGS.mark_as_parsed()
        with pytest.raises(ValueError, match="^--ray_num_cpus: belongs to --executor=ray, not to"):
            CHOSEN_EXECUTOR()
        with flagsaver.as_parsed(executor="ray", workers="3"):
            assert CHOSEN_EXECUTOR() == ("ray", {"num_cpus": 2.0, "workers": 3})


def test_a_bug_is_a_traceback():
    assert _in_words(RuntimeError("of ours")) is None
    bug = "from launch.command_line import run\nrun(lambda: {}['of ours'])"
    done = subprocess.run([sys.executable, "-c", bug], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "KeyError: 'of ours'" in done.stderr


@pytest.mark.slow
def test_words_that_nobody_can_take_are_one_line():
    with open("/dev/full", "w") as full:
        command = [*SWEEP, "--dry_run"]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("no space left on the disk") and done.stderr.count("\n") == 1
