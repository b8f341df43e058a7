"""What every command has in common: bad input is one line and exit status 2."""

import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging


def run(main: Callable[[], int | None]) -> None:
    """Parse the flags, call ``main`` and exit with the status it returns."""
    app.run(lambda _: sys.exit(_guarded(main)), flags_parser=_parse)


def fail(message: object) -> int:
    """Say in one line what is wrong; returns the exit status of bad input."""
    print(" ".join(str(message).split()), file=sys.stderr)
    return 2


def _guarded(main: Callable[[], int | None]) -> int:
    try:
        return main() or 0
    except (ValueError, OSError) as error:
        return fail(error)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
    except AttributeError as error:
        # ml_collections refuses an unknown field without saying which fields there are.
        sys.exit(fail(_unknown_field(argv) or error))
    except (flags.Error, ValueError, TypeError, KeyError, OSError) as error:
        # A configuration's own error comes wrapped in a traceback; its last line says it.
        sys.exit(fail(str(error).strip().splitlines()[-1]))
    if len(rest) > 1:
        sys.exit(fail(f"unexpected argument {rest[1]!r}; options look like --name=value"))
    logging.set_verbosity(logging.WARNING)
    return rest


def _unknown_field(argv: Sequence[str]) -> str | None:
    given = dict(argument.lstrip("-").partition("=")[::2] for argument in argv[1:])
    for name in given:
        room, _, path = name.partition(".")
        if not path or room not in given:
            continue
        fields = flags.FLAGS[room].parser.parse(given[room])
        for part in path.split("."):
            known = list(fields) if hasattr(fields, "keys") else []
            if part not in known:
                choices = ", ".join(known) or "none, it is a value"
                return f"{name}: unknown field {part!r}; known here: {choices}"
            fields = fields[part]
    return None
