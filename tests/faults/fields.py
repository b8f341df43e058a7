"""Every field of the configurations through values that it cannot have, as the command reads it.

    python -m tests.faults.fields [TEXT]

prints a table of the fields with TEXT in their names: how many values each was given, in the file
and on the command line, how many of them were refused in one line that names the field, and which
were accepted.
"""

import json
import math
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict

from launch.command_line import parse_flags
from launch.configuration_file import define_config, load_config, read_given
from persist_jax.data import DATASETS
from persist_jax.models import MODELS
from persist_jax.parameters import FLOAT32_MAX, FLOAT32_MIN, INT32_MAX
from persist_jax.store.configuration import Configuration, flatten
from persist_jax.sweep.reading import every_field, read_configuration
from persist_jax.terms.regularisers import REGULARISERS
from persist_jax.training.optimisers import OPTIMISERS, SCHEDULES

FILES = ("configs/mnist.py:digits", "configs/pgdl.py")
# Parameters without a default, as a person might give them.
NEEDED = {
    "staircase": {"decay_rate": 0.9, "decay_steps": 10},
    "cosine": {"cosine_steps": 10},
    "warm_up": {"warm_up_steps": 10},
    "mlp": {"hidden": (4, 3)},
    "keras": {"folder": "nowhere"},
    "images": {"name": "digits"},
}
AT_LEAST_ONE = {
    "batch_size", "epochs", "term_every", "checkpoint_every", "warm_up_steps",
    "hidden", "blocks", "width", "devices",
}  # fmt: skip
ABOVE_NOTHING = {"weights", "learning_rate", "sampling", "fraction", "eps", "decay_rate"}
NOT_COUNTS = ABOVE_NOTHING | {"min_delta", "weight_decay"}


def _nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def _cyclic() -> dict:
    value: dict = {}
    value["again"] = value
    return value


# What a file may set.
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 0.5, 1.5, 2**31, 10**12, 10**20, 10**400, 10**5000, -(10**400),
    1e300, -1e300, 1e-300, 1e-60, 1e39, 1 - 1e-12, math.nan, math.inf, -math.inf, "", "../../x",
    "/etc", "..", "abc", "false", "1", "nan", "a\nb", "nul\0", "\ud800", "x" * 10**6, "é" * 100,
    b"bytes", 1j, {1, 2}, object(), print, [], [None], [[]], [True], ["a", 1], [0, 1.5],
    [math.nan], [-1], (10**400,), [1] * 20_000, {}, {"x": 1}, {1: 2}, {"name": "x" * 10**6},
    {"kind": []}, _nested(30), _nested(10**5), _cyclic(), ConfigDict({"x": 1}), range(3), ...,
)  # fmt: skip
# What a command line may say.
TEXTS = (
    "", "abc", "None", "True", "false", "-1", "0", "1.5", "1e9", "1e20", "1e300", "1e-300", "1e39",
    "nan", "inf", "-inf", str(2**31), "9" * 400, "9" * 5000, "../../x", "b'bytes'", "{}", "[]",
    "()", "{'x': 1}", "(0,1.5)", "(nan,)", "1,", "a,b", "(", "[" * 10**5, "-" * 10**5 + "1",
    "[" * 100 + "]" * 100, "x" * 10**5, "0x10", "1_000", "\x1b[31m", "'", "lambda: 0", "é",
)  # fmt: skip


class Field(NamedTuple):
    """A field of a configuration file, and what else is set so that it is read."""

    file: str
    name: str
    others: dict[str, Any]


class Trial(NamedTuple):
    """One value of one field, and what came of it."""

    field: Field
    value: Any
    error: BaseException | None
    config: Configuration | None


def fields() -> Iterator[Field]:
    """Every field of both files, and every parameter of every entry of every registry."""
    for file in FILES:
        path, _, argument = file.partition(":")
        names: list[str] = []
        _add_names(load_config(path, *filter(None, [argument])).to_dict(), "", names)
        names = dict.fromkeys([*names, *every_field(), "models.mlp_0.sampling", "new"])
        for name in names:
            chosen = {"regularisers": [name.split(".")[1]]} if name.startswith("terms.") else {}
            yield Field(file, name, chosen)
    for registry, section, chooser in (
        (OPTIMISERS, "train.optimiser", "name"),
        (SCHEDULES, "train.optimiser.schedule", "name"),
        (MODELS, "models.mlp_0", "kind"),
        (DATASETS, "dataset", "kind"),
        (REGULARISERS, "terms", None),
    ):
        for entry in registry.values():
            if not entry.function.__module__.startswith("persist_jax."):
                continue  # of another test
            rate = {"learning_rate": 0.1} if registry is OPTIMISERS else {}
            others = {section: {chooser: entry.name} | rate | NEEDED.get(entry.name, {})}
            place = section
            if chooser is None:
                place = f"terms.{entry.name}"
                others = {place: {}, "regularisers": [entry.name]}
            if registry is MODELS:
                others["networks"] = ["mlp_0"]
            for parameter in [*rate, *entry.defaults()]:
                yield Field(FILES[0], f"{place}.{parameter}", others)


def _add_names(section: dict[str, Any], prefix: str, names: list[str]) -> None:
    for name, value in section.items():
        names.append(prefix + name)
        if isinstance(value, dict):
            _add_names(value, f"{prefix}{name}.", names)


def in_the_file(field: Field, value: Any) -> Trial:
    """Read the configuration with that value in its file."""
    path, _, argument = field.file.partition(":")
    given = load_config(path, *filter(None, [argument])).to_dict()
    for name, other in [*field.others.items(), (field.name, value)]:
        *rooms, last = name.split(".")
        target = given
        for room in rooms:
            target = target.setdefault(room, {})
        # Copied: the next value is set into the section that others share.
        target[last] = dict(other) if type(other) is dict and value is not other else other
    try:
        return Trial(field, value, None, read_configuration(given)[0])
    except BaseException as error:
        return Trial(field, value, error, None)


def on_the_command_line(field: Field, text: str) -> Trial:
    """Read the configuration with that text for the field, as `launch.sweep` does."""
    others = [f"--config.{name}={value}" for name, value in flatten(field.others).items()]
    arguments = ["sweep", f"--config={field.file}", *others, f"--config.{field.name}={text}"]
    values, before = flags.FlagValues(), sys.argv[:]
    define_config("", values)
    try:
        parse_flags(arguments, values)
        return Trial(field, text, None, read_given(values)[0])
    except BaseException as error:
        return Trial(field, text, error, None)
    finally:
        sys.argv[:] = before


def faults(trial: Trial) -> list[str]:
    """What is wrong with how a value was answered; nothing as a rule."""
    if trial.config is not None:
        return _senseless(trial.config)
    line = str(trial.error)
    # A value of a section may be refused for a field in it or, of models, for their choice.
    root = trial.field.name.removeprefix("embedded.").split(".")[0]
    found = []
    if not isinstance(trial.error, ValueError | OSError):
        found.append(f"{type(trial.error).__name__}, not a ValueError")
    # A path with a line's end is put on one line where it is printed.
    if len(line.splitlines()) != 1 + line.count("a\nb") or len(line) > 6000:
        found.append(f"{len(line.splitlines())} lines, {len(line)} characters")
    # A place of files is named itself, fields of `embedded` are those of the whole.
    names = [root, *({"models": ["networks"], "dataset": ["networks", "input_data"]}.get(root, []))]
    if root != "embedded" and not any(name in line for name in names):
        found.append(f"the field is not named: {line[:200]}")
    return found


def _senseless(config: Configuration) -> list[str]:
    """Numbers of an accepted configuration that no training can take."""
    json.dumps(config.plain(), allow_nan=False)
    found = []
    for name, value in flatten(config.plain()).items():
        leaf = name.split(".")[-1]
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            fits = number == 0 or FLOAT32_MIN <= abs(number) <= FLOAT32_MAX
            if isinstance(number, int) and leaf not in NOT_COUNTS:
                fits = abs(number) <= INT32_MAX
            least = 1 if leaf in AT_LEAST_ONE else FLOAT32_MIN if leaf in ABOVE_NOTHING else 0
            if not fits or number < least:
                found.append(f"accepted {name}: {number!r}")
    return found


def main() -> int:
    """The table; the exit status is 1 if anything was answered wrongly."""
    wrong, wanted = 0, (sys.argv[1:] or [""])[0]
    print("| field | values | refused | accepted |\n| --- | ---: | ---: | --- |")
    for field in fields():
        if wanted not in field.name:
            continue
        trials = [in_the_file(field, value) for value in VALUES]
        trials += [on_the_command_line(field, text) for text in TEXTS]
        accepted = [_short(t.value)[:20].replace("|", "/") for t in trials if t.config is not None]
        refused = len(trials) - len(accepted)
        print(f"| {field.name} | {len(trials)} | {refused} | {', '.join(accepted)} |", flush=True)
        for trial in trials:
            for fault in faults(trial):
                wrong += 1
                print(f"WRONG {field.file} {field.name} {_short(trial.value)}: {fault}", flush=True)
    return int(wrong > 0)


def _short(value: Any) -> str:
    try:
        return " ".join(repr(value)[:60].split())
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}"


if __name__ == "__main__":
    sys.exit(main())
