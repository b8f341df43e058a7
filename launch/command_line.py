"""Flags and errors of every command: bad input is said in a line each, with exit status 2."""

import errno
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial

from .interruption import INTERRUPTION

if getattr(sys.modules["__main__"].__spec__, "parent", None) == "launch":
    INTERRUPTION.watch()  # what follows takes long to import

try:
    import ml_collections  # noqa: F401  for `configuration_file`
    from absl import app, flags, logging
except ModuleNotFoundError as error:
    # Before anything else can be said in the usual way.
    print(f'{error.name}: not installed; pip install -e ".[experiment,prepare]"', file=sys.stderr)
    sys.exit(2)

from .configuration_file import ConfigurationError, without_file

__all__ = ["INTERRUPTION", "fail", "flags", "parse_flags", "quiet", "run"]

_LONGEST, _MOST_LINES = 2000, 40  # characters of a line, lines of a refusal
_HELP = {"--help", "-help", "-h", "--helpshort", "--helpfull"}
# Fields of a configuration by the names they had.
_FORMER = {
    "train.optimiser": "train.optimiser.name",
    "train.learning_rate": "train.optimiser.learning_rate",
    "train.momentum": "train.optimiser.momentum",
    "train.nesterov": "train.optimiser.nesterov",
    "train.decay_rate": "train.optimiser.schedule.decay_rate",
    "train.decay_steps": "train.optimiser.schedule.decay_steps",
    "train.alpha": "terms.t2.alpha",
    "report.alpha": "report.significance",
}


def run(main: Callable[[], int | None]) -> None:
    """Parse the flags, call `main` and exit with the status it returns."""
    INTERRUPTION.watch()
    quiet()
    parse = partial(_parse, command=main.__module__)
    app.run(lambda _: _leave(_guarded(main)), flags_parser=parse)


def quiet() -> None:
    """Silence what libraries print beside the errors that they raise."""
    sys.unraisablehook = _unraisable
    # A cache of programs that cannot be written or read only costs time.
    warnings.filterwarnings("ignore", "Error (writing|reading) persistent compilation cache")
    # What the writer of checkpoints logs, it raises as well: a full disk would be 200 lines.
    logging.set_verbosity(logging.FATAL)


def _unraisable(what: "sys.UnraisableHookArgs") -> None:
    """Hide errors without a Python object: the checkpoint writer repeats what it has raised."""
    if what.object is not None:
        sys.__unraisablehook__(what)


def _leave(status: int) -> None:
    if status == 0:
        sys.exit(0)
    # Not waiting for threads that compile or write, which would have more to say.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def fail(message: object) -> int:
    """Print what is wrong, each mistake in one line; returns the exit status of bad input."""
    lines = getattr(message, "lines", [message])
    more = [f"and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
    for line in [*lines[:_MOST_LINES], *more]:
        line = " ".join(str(line).split())
        print(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}...", file=sys.stderr)
    return 2


def _guarded(main: Callable[[], int | None]) -> int:
    """Print a fault of the input or the machine in one line; raise all else, a bug of ours."""
    try:
        return main() or 0
    except BrokenPipeError:
        # Whoever read our words has gone; Python would try to write the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return fail("the output's reader has ended; the same command goes on from what is on disk")
    except (ValueError, OSError, ImportError, MemoryError, RuntimeError) as error:
        line = _in_words(error)
        if line is None:
            raise
        return fail(error if hasattr(error, "lines") else line)


def _in_words(error: Exception) -> str | None:
    """The line on an error that the input or the machine can cause; `None` for any other."""
    said = " ".join(str(error).split())
    place = getattr(error, "filename", None)
    # The writer of checkpoints says it in words only.
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in said:
        quoted = re.search(r'"(/[^"]*)"', said)
        place = place or (quoted and quoted[1])
        words = "no space left on the disk; make room, and the same command goes on from what is on"
        return f"{f'{place}: ' if place else ''}{words} disk"
    if isinstance(error, OSError) and error.strerror and place:
        return f"{place}: {error.strerror}"
    # A device's lack of memory is a RuntimeError of JAX.
    if said.startswith("out of memory: "):
        return said
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in said:
        todo = "lower config.max_lanes, config.train.batch_size or config.train.sampling"
        return f"out of memory{': ' if said else ''}{said[:300]}; {todo}"
    return None if isinstance(error, RuntimeError) else said


def _parse(argv: Sequence[str], command: str) -> list[str]:
    if _HELP & set(argv[1:]):
        print(sys.modules[command].__doc__.strip())
        print(flags.FLAGS.module_help(argv[0] if command == "__main__" else command))
        sys.exit(0)
    try:
        rest = parse_flags(argv)
    except ValueError as error:
        sys.exit(fail(error))
    quiet()  # the flags have their own verbosity
    return rest


def parse_flags(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Set flags, and note the fields of the configuration; returns the command.

    A `ValueError` names the argument that does not hold.
    """
    argv, overrides = _overrides(values.read_flags_from_files(list(argv), force_gnu=False))
    if overrides and "config" not in values:
        raise ValueError(f"--config.{next(iter(overrides))}: this command has no configuration")
    if "config" in values:
        values["config"].parser.overrides = overrides
    try:
        rest = values(argv)
    except flags.UnrecognizedFlagError as error:
        raise ValueError(_unknown_flag(error.flagname, values)) from None
    except flags.Error as error:
        if "--config must have" in str(error):
            raise without_file() from None
        # absl's own words end with the reason, and have the value before it.
        line = str(error).strip().splitlines()[-1]
        raise ValueError(line if len(line) < 400 else f"{line[:150]} ... {line[-150:]}") from None
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    if len(rest) > 1:
        raise ValueError(f"unexpected argument {rest[1]!r}; options look like --name=value")
    return rest


def _overrides(argv: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """The other arguments, and the texts of those that set a field of the configuration."""
    rest, overrides = [], {}
    while argv:
        argument = argv.pop(0)
        found = re.fullmatch(r"--?(no)?config\.([^=]*)(=.*)?", argument, re.DOTALL)
        if found is None:
            rest.append(argument)
            continue
        no, name, text = found.groups()
        if text is None and not no and argv and not argv[0].startswith("--"):
            text = f"={argv.pop(0)}"
        name = re.sub(r"^hidden\.(.*)", r"models.\1.hidden", name)
        text = text[1:] if text else str(not no)
        overrides.setdefault(_FORMER.get(name, name), []).append(text)
    return rest, overrides


def _unknown_flag(name: str, values: flags.FlagValues) -> str:
    from persist_jax._plumbing.validation import nearest

    known = list(values)
    if "config" in values:
        from persist_jax.sweep.reading import every_field

        known += [f"config.{field}" for field in every_field()]
    meant = nearest(name, known)
    return f"Unknown command line flag {name!r}" + (f"; did you mean --{meant}?" if meant else "")
