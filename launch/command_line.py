"""What every command has in common: bad input is one line and exit status 2."""

import errno
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence

from launch.interruption import INTERRUPTION

if getattr(sys.modules["__main__"].__spec__, "parent", None) == "launch":
    INTERRUPTION.watch()  # what follows takes long to import

try:
    from absl import app, flags, logging
    from ml_collections.config_flags import config_path
except ModuleNotFoundError as error:
    # Before anything else can be said in the usual way.
    print(f'{error.name}: not installed; pip install -e ".[experiment,prepare]"', file=sys.stderr)
    sys.exit(2)

__all__ = ["INTERRUPTION", "fail", "flags", "parse_flags", "quiet", "run"]

_LONGEST = 2000  # characters of a line
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
    app.run(lambda _: _leave(_guarded(main)), flags_parser=_parse)


def quiet() -> None:
    """Without what libraries say beside the errors that they raise."""
    sys.unraisablehook = _unraisable
    # A cache of programs that cannot be written or read only costs time.
    warnings.filterwarnings("ignore", "Error (writing|reading) persistent compilation cache")
    # What the writer of checkpoints logs, it raises as well: a full disk would be 200 lines.
    logging.set_verbosity(logging.FATAL)


def _unraisable(what: "sys.UnraisableHookArgs") -> None:
    """Of nothing in Python: the checkpoints' writer on what it has already raised."""
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
    """Say in one line what is wrong; returns the exit status of bad input."""
    line = " ".join(str(message).split())
    print(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}...", file=sys.stderr)
    return 2


def _guarded(main: Callable[[], int | None]) -> int:
    """What a person's input or machine is at fault for is one line; all else is a bug of ours."""
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
        return fail(line)


def _in_words(error: Exception) -> str | None:
    """The one line of an error that input or machine can cause; `None` for another one."""
    said = " ".join(str(error).split())
    place = getattr(error, "filename", None)
    # The writer of checkpoints says it in words only.
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in said:
        quoted = re.search(r'"(/[^"]*)"', said)
        place = place or (quoted and quoted[1])
        return (
            f"{f'{place}: ' if place else ''}no space left on the disk; make room, and the same "
            "command goes on from what is on disk"
        )
    if isinstance(error, OSError) and error.strerror and place:
        return f"{place}: {error.strerror}"
    # A device's lack of memory is a RuntimeError of JAX.
    if said.startswith("out of memory: "):
        return said
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in said:
        return (
            f"out of memory{': ' if said else ''}{said[:300]}; lower config.max_lanes, "
            "config.train.batch_size or config.train.sampling"
        )
    return None if isinstance(error, RuntimeError) else said


def _parse(argv: Sequence[str]) -> list[str]:
    if _HELP & set(argv[1:]):
        print(sys.modules["__main__"].__doc__.strip())
        print(flags.FLAGS.main_module_help())
        sys.exit(0)
    try:
        rest = parse_flags(argv)
    except ValueError as error:
        sys.exit(fail(error))
    quiet()  # the flags have their own verbosity
    return rest


def parse_flags(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Set the flags, and fields of a configuration, that a command line gives.

    Args:
        argv: the command and its arguments.
        values: the flags.

    Returns:
        The command.

    Raises:
        ValueError: one line that names the argument.
    """
    # The overrides of a configuration are read from here, whatever is parsed.
    sys.argv[:] = argv = [_current(argument) for argument in argv]
    try:
        rest = values(argv)
    except flags.Error as error:
        # absl's own words end with the reason, and have the value before it.
        line = str(error).strip().splitlines()[-1]
        raise ValueError(line if len(line) < 400 else f"{line[:150]} ... {line[-150:]}") from None
    except Exception as error:  # of a configuration file, or of a field that is set over it
        raise ValueError(_wrong_override(argv, error, values)) from None
    if len(rest) > 1:
        raise ValueError(f"unexpected argument {rest[1]!r}; options look like --name=value")
    return rest


def _wrong_override(argv: Sequence[str], error: Exception, values: flags.FlagValues) -> str:
    """Which argument sets a field that a configuration cannot have, or cannot be read."""
    config = values["config"].parser.config if "config" in values else None
    if config is None:
        return str(error)
    overrides = [a for a in argv if a.lstrip("-").removeprefix("no").startswith("config.")]
    for argument in overrides:
        path = argument.partition("=")[0].partition("config.")[2]
        try:
            config_path.get_type(path, config, default_type=object)
        except KeyError as wrong:
            section = str(wrong.args[0]).splitlines()[0].strip("'\"")
            return f"{argument[:150]}: the configuration has no section {section[:150]!r}"
        except Exception:
            return f"{argument[:150]}: {path[:150]!r} is not a field of the configuration"
    longest = max(overrides, key=len, default="--config")
    said = " ".join(str(error).split())
    return f"{longest[:80]}: {type(error).__name__}: {said[:300]}"


def _current(argument: str) -> str:
    """An override of a configuration's field, under the field's name of today."""
    flag, equals, value = argument.partition("=")
    dashes, config, path = flag.partition("config.")
    negated = dashes.removeprefix("--") if dashes in ("--", "--no") else None
    if negated is None or not config:
        return argument
    if path.startswith("hidden."):
        path = f"models.{path.removeprefix('hidden.')}.hidden"
    return f"{dashes}config.{_FORMER.get(path, path)}{equals}{value}"
