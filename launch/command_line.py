"""What every command has in common: bad input is one line and exit status 2."""

import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

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
    app.run(lambda _: sys.exit(_guarded(main)), flags_parser=_parse)


def fail(message: object) -> int:
    """Say in one line what is wrong; returns the exit status of bad input."""
    print(" ".join(str(message).split()), file=sys.stderr)
    return 2


def _guarded(main: Callable[[], int | None]) -> int:
    try:
        return main() or 0
    except (ValueError, OSError, ImportError) as error:
        return fail(error)


def _parse(argv: Sequence[str]) -> list[str]:
    if _HELP & set(argv[1:]):
        print(sys.modules["__main__"].__doc__.strip())
        print(flags.FLAGS.main_module_help())
        sys.exit(0)
    # The overrides of a configuration are read from here, whatever is parsed.
    sys.argv[:] = argv = [_current(argument) for argument in argv]
    try:
        rest = flags.FLAGS(argv)
    except KeyError as error:
        # Of a section that is not there: a field of it can only be given in the file.
        section = str(error.args[0]).splitlines()[0].strip("'\"")
        given = [a for a in argv if "config." in a and section in a.partition("=")[0].split(".")]
        sys.exit(fail(f"{(given or argv)[-1]}: the configuration has no section {section!r}"))
    except (flags.Error, ValueError, TypeError, AttributeError, OSError) as error:
        # A configuration's own error comes wrapped in a traceback; its last line says it.
        sys.exit(fail(str(error).strip().splitlines()[-1]))
    if len(rest) > 1:
        sys.exit(fail(f"unexpected argument {rest[1]!r}; options look like --name=value"))
    logging.set_verbosity(logging.WARNING)
    return rest


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
