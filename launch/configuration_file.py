"""The flag `--config`: a Python file of the user, and fields that override it."""

import ast
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

flags.disclaim_key_flags()  # so that --help lists the flag for the command that defines it

_SHIPPED = Path(__file__).parents[1] / "configs"


class ConfigurationError(Exception):
    """An error of a configuration file, in one line; absl would change that of a ValueError."""


class _Parser(flags.ArgumentParser):
    """Loads the file, and sets the fields that `parse_flags` found on the command line."""

    overrides: dict[str, list[str]] = {}  # by dotted name, the texts of its flags
    given: tuple[str, ...] = ()  # arguments of `load_config`

    def parse(self, argument: str) -> ConfigDict:
        path, colon, given = argument.partition(":")
        self.given = (path, *([given] if colon else []))
        config = load_config(*self.given)
        if "name" not in config:
            set_field(config, "name", [Path(path).stem])
        for name, texts in self.overrides.items():
            set_field(config, name, texts)
        return config


def define_config(words: str, values: flags.FlagValues = flags.FLAGS) -> flags.FlagHolder:
    """Define the flag --config; its value is the configuration with all overrides."""
    words = f"{words} FILE, or FILE:ARGUMENT for its get_config; default: none."
    return flags.DEFINE(_Parser(), "config", None, words, values)


def read_given(values: flags.FlagValues = flags.FLAGS):
    """Call `read_configuration` with the value of --config and its overrides.

    An error line begins with the flag or the file that set the wrong field.
    """
    from persist_jax._plumbing.validation import Mistakes, lines_of
    from persist_jax.sweep.reading import read_configuration

    fields, parser = values["config"].value, values["config"].parser
    if fields is None:
        raise without_file()
    mistakes, file = Mistakes(), ":".join(parser.given)
    try:
        return read_configuration(fields, parser.overrides)
    except ValueError as error:
        for line in lines_of(error):
            field = line.partition(":")[0].partition("[")[0]
            set_here = any(f"{name}.".startswith(f"{field}.") for name in parser.overrides)
            mistakes.append(f"--config.{line}" if set_here else f"{file}: {line}")
    mistakes.check()


def set_field(config: ConfigDict, name: str, texts: Sequence[str]) -> None:
    """Set a field to the value on the command line; create missing sections.

    `texts` has one text per flag: a number, `True`, `None`, a list as `1,2`, or other text. The
    last text counts; if the file's value is a list, the entries of all texts count.
    """
    *sections, field = name.split(".")
    with config.unlocked(), config.ignore_type():
        for section in sections:
            if not isinstance(config.get(section), ConfigDict):
                config[section] = ConfigDict()
            config = config[section]
        kind = config.get_type(field) if field in config else object
        value = texts[-1] if kind is str or name == "name" else _value(texts[-1], kind)
        if kind is tuple:
            value = tuple(entry for text in texts for entry in _value(text, kind))
        config[field] = value


def _value(text: str, kind: type = object) -> Any:
    if kind is bool and text in ("0", "1"):
        return text == "1"
    try:
        value = ast.literal_eval(text)
        value = float(value) if kind is float and type(value) is int else value
    except (ValueError, SyntaxError, OverflowError, MemoryError, RecursionError):
        parts = text.split(",")
        value = [_value(part.strip()) for part in parts] if len(parts) > 1 else text
        value = {"true": True, "false": False}.get(text, value)
    return (value,) if kind is tuple and not isinstance(value, list | tuple) else value


def without_file() -> ValueError:
    """Return the error of a command without --config: a list of the configurations."""
    from persist_jax._plumbing.validation import Mistakes

    mistakes = Mistakes(["--config: missing; give a file of your own or one of these"])
    for path in sorted(_SHIPPED.glob("[a-z]*.py")):
        words = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "\n"
        mistakes.append(f"--config={_from_here(path)}: {words.splitlines()[0]}")
    return mistakes.error()


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def load_config(path: str, *given: str) -> ConfigDict:
    """Call a file's `get_config` with the given arguments.

    `path` may also be the name of a configuration of the package, as "mnist".
    """
    try:
        if not Path(path).is_file():
            shipped = _SHIPPED / f"{path}.py"
            if not path.isidentifier() or not shipped.is_file():
                raise ConfigurationError(_not_there(path))
            path = str(shipped)
        fields = _function(path, given)(*given)
        if not isinstance(fields, ConfigDict | dict):
            kind = type(fields).__name__
            raise ConfigurationError(
                f"{path}: get_config returns a {kind}, must return a ConfigDict or a dict"
            )
        return fields if type(fields) is ConfigDict else ConfigDict(fields)
    except ConfigurationError:
        raise
    except BaseException as error:  # the user's code may raise anything, even SystemExit
        raise ConfigurationError(_line(path, error)) from None


def _not_there(path: str) -> str:
    from persist_jax._plumbing.validation import nearest

    if Path(path).exists():
        return f"--config: {path!r}: is not a file; give one, such as configs/mnist.py"
    there = [*_SHIPPED.glob("[a-z]*.py"), *Path(path).parent.glob("*.py")]
    there = {file.stem: file for file in there}
    meant = nearest(Path(path).stem, there)
    todo = f"did you mean {_from_here(there[meant])}?" if meant else "see configs/*.py"
    return f"--config: {path!r}: no such file; {todo}"


def _function(path: str, given: tuple[str, ...]) -> Any:
    """Return the function `get_config` of a file; it must accept the given arguments."""
    name, folder = "config_config", str(Path(path).resolve().parent)  # as ml_collections calls it
    if folder not in sys.path:  # last: a file beside it must not hide a package
        sys.path.append(folder)
    spec = importlib.util.spec_from_loader(name, SourceFileLoader(name, path))
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = vars(module).get("get_config")
    if not callable(function):
        words = "has no function get_config, which returns the configuration"
        raise ConfigurationError(f"{path}: {words}")
    try:
        inspect.signature(function).bind(*given)
    except TypeError:
        wrong = f"does not take {given[0]!r}; leave it out" if given else "needs an argument"
        todo = f"--config={path}{'' if given else ':ARGUMENT'}"
        raise ConfigurationError(f"{path}: get_config {wrong}: {todo}") from None
    return function


def _line(path: str, error: BaseException) -> str:
    """Return the line for an error of a file, with the number of the wrong line."""
    number = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == path:
            number = line
    words = error.msg if isinstance(error, SyntaxError) else str(error)
    if number is None and isinstance(error, OSError):
        return f"--config: {path}: {error.strerror or words}"
    place = path if number is None else f"{path}, line {number}"
    if isinstance(error, ValueError):  # the file refuses its argument
        return f"{place}: {words}"
    missing = isinstance(error, ModuleNotFoundError)
    todo = "install it, or put its file beside this one" if missing else "correct the file"
    return f"{place}: {type(error).__name__}: {words}; {todo}"
