"""Flags and errors of every command: one line for each mistake, and exit status 2."""

import errno
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial

from .interruption import INTERRUPTION

if getattr(sys.modules["__main__"].__spec__, "parent", None) == "launch":
    INTERRUPTION.watch()  # before the slow imports below

try:
    import ml_collections  # noqa: F401  for `configuration_file`
    from absl import app, flags, logging
except ModuleNotFoundError as error:
    # Without absl, `fail` does not work yet.
    print(f'{error.name}: not installed; pip install "persist_jax[experiment]"', file=sys.stderr)
    sys.exit(2)

from .configuration_file import ConfigurationError, without_file

__all__ = ["INTERRUPTION", "fail", "flags", "parse_flags", "quiet", "run"]

_LONGEST, _MOST_LINES = 2000, 40  # characters of a line, lines of a refusal
_HELP = {"--help", "-help", "-h", "--helpshort", "--helpfull"}
# Former names of configuration fields, and their present ones.
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
    """Silence messages of libraries that repeat errors which they raise."""
    sys.unraisablehook = _unraisable
    # Without the compilation cache, a sweep only takes longer.
    warnings.filterwarnings("ignore", "Error (writing|reading) persistent compilation cache")
    # The checkpoint writer also raises the errors that it logs: a full disk would print 200 lines.
    logging.set_verbosity(logging.FATAL)


def _unraisable(what: "sys.UnraisableHookArgs") -> None:
    """Hide errors without a Python object: the checkpoint writer has raised them already."""
    if what.object is not None:
        sys.__unraisablehook__(what)


def _leave(status: int) -> None:
    if status == 0:
        sys.exit(0)
    # Do not wait for threads that compile or write: they would print more errors.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def fail(message: object) -> int:
    """Print each mistake in one line; return the exit status of bad input."""
    lines = getattr(message, "lines", [message])
    more = [f"and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
    for line in [*lines[:_MOST_LINES], *more]:
        line = " ".join(str(line).split())
        print(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}...", file=sys.stderr)
    return 2


def _guarded(main: Callable[[], int | None]) -> int:
    """Run `main`; print an error of the input or the machine in one line, raise any other."""
    try:
        return main() or 0
    except BrokenPipeError:
        # Nobody reads the output any more: keep Python from writing the rest when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return fail("the reader of the output is gone; run the same command again to resume")
    except (ValueError, OSError, ImportError, MemoryError, RuntimeError) as error:
        line = _in_words(error)
        if line is None:
            raise
        return fail(error if hasattr(error, "lines") else line)


def _in_words(error: Exception) -> str | None:
    """Return one line for an error of the input or the machine; `None` for any other."""
    said = " ".join(str(error).split())
    place = getattr(error, "filename", None)
    # The checkpoint writer's error has no number, only a text.
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in said:
        quoted = re.search(r'"(/[^"]*)"', said)
        place = place or (quoted and quoted[1])
        words = "no space left on the disk; make room and run the same command again to resume"
        return f"{f'{place}: ' if place else ''}{words}"
    if isinstance(error, OSError) and error.strerror and place:
        return f"{place}: {error.strerror}"
    # JAX raises a RuntimeError if a device runs out of memory.
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
    quiet()  # again: absl's flags have set the verbosity
    return rest


def parse_flags(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Set the flags and record the configuration fields; return the command's name.

    Raises:
        ValueError: an argument is wrong; one line that names it.
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
        # The last line of absl's message has the value and ends with the reason.
        line = str(error).strip().splitlines()[-1]
        raise ValueError(line if len(line) < 400 else f"{line[:150]} ... {line[-150:]}") from None
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    if len(rest) > 1:
        raise ValueError(f"unexpected argument {rest[1]!r}; options look like --name=value")
    return rest


def _overrides(argv: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Split arguments into flags and, by field, the texts of `--config.FIELD=TEXT`."""
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
