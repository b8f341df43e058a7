"""The flag `--config`: a Python file of somebody's, whatever it does, and fields set over it."""

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

flags.disclaim_key_flags()  # the flag is that of the command which asks for it


class ConfigurationError(Exception):
    """One line on what is wrong with a configuration file, or with a field that was set over it.

    Not a ValueError, of which absl makes another one.
    """


class _Parser(flags.ArgumentParser):
    config: ConfigDict | None = None  # the last one
    given: tuple[str, ...] = ()  # what it was loaded from: see `load_config`

    def parse(self, argument: str) -> ConfigDict:
        path, colon, given = argument.partition(":")
        self.given = (path, *([given] if colon else []))
        self.config = load_config(*self.given)
        return self.config


def define_config(
    words: str, values: flags.FlagValues = flags.FLAGS, **options: Any
) -> flags.FlagHolder:
    """The flag --config; options are those of `config_flags.DEFINE_config_file`."""
    holder = config_flags.DEFINE_config_file("config", None, words, values, **options)
    values["config"].parser = _Parser()
    return holder


def read_given(values: flags.FlagValues = flags.FLAGS):
    """`read_configuration` of the flag --config and of the fields that are set over its file.

    Raises:
        ValueError: one line that says where the wrong field was set as well.
    """
    from persist_jax.sweep.reading import read_configuration

    file = config_flags.get_config_filename(values["config"])
    overridden = config_flags.get_override_values(values["config"])
    try:
        return read_configuration(values["config"].value, overridden)
    except ValueError as error:
        set_here = any(str(error).startswith(name) for name in overridden)
        raise ValueError(f"--config.{error}" if set_here else f"{file}: {error}") from None


def loading(values: flags.FlagValues = flags.FLAGS) -> Callable[[], ConfigDict]:
    """Loads the file of --config again, in another process too, where it registers its entries."""
    path, *given = values["config"].parser.given
    return partial(_load_quietly, str(Path(path).absolute()), *given)


def load_config(path: str, *given: str) -> ConfigDict:
    """What `get_config` of a file returns.

    Args:
        path: the file.
        given: the argument of `get_config`, if there is one.

    Raises:
        ConfigurationError: one line that names the file, its line where there is one, and what to
            do.
    """
    try:
        if not Path(path).is_file():
            kind = "is not a file" if Path(path).exists() else "no such file"
            raise ConfigurationError(f"--config: {path!r}: {kind}; give one as configs/*.py")
        fields = _function(_module(path), path, given)(*given)
        if not isinstance(fields, ConfigDict | dict):
            kind = type(fields).__name__
            raise ConfigurationError(
                f"{path}: get_config returns a {kind}, must return a ConfigDict or a dict"
            )
        return fields if isinstance(fields, ConfigDict) else ConfigDict(fields)
    except ConfigurationError:
        raise
    except BaseException as error:  # it is somebody's program: it may even exit
        raise ConfigurationError(_line(path, error)) from None


def _load_quietly(path: str, *given: str) -> ConfigDict:
    from launch.command_line import quiet

    quiet()
    return load_config(path, *given)


def _module(path: str) -> ModuleType:
    name = "config_config"  # as ml_collections calls it
    spec = importlib.util.spec_from_loader(name, SourceFileLoader(name, path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _function(module: ModuleType, path: str, given: tuple[str, ...]) -> Any:
    function = vars(module).get("get_config")
    if not callable(function):
        raise ConfigurationError(
            f"{path}: has no function get_config, which returns the configuration"
        )
    try:
        inspect.signature(function).bind(*given)
    except TypeError:
        wrong = f"does not take {given[0]!r}; leave it out" if given else "needs an argument"
        raise ConfigurationError(
            f"{path}: get_config {wrong}: --config={path}{'' if given else ':ARGUMENT'}"
        ) from None
    return function


def _line(path: str, error: BaseException) -> str:
    """What a file did, and in which of its lines."""
    number = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == path:
            number = line
    words = error.msg if isinstance(error, SyntaxError) else str(error)
    if number is None and isinstance(error, OSError):
        return f"--config: {path}: {error.strerror or words}"
    place = path if number is None else f"{path}, line {number}"
    if isinstance(error, ValueError):  # the file's own refusal
        return f"{place}: {words}"
    missing = isinstance(error, ModuleNotFoundError)
    todo = "install it, or start where it lies" if missing else "correct the file"
    return f"{place}: {type(error).__name__}: {words}; {todo}"
