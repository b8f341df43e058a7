"""What every command has in common: bad input is one line and exit status 2."""

import sys
from collections.abc import Callable, Sequence

from absl import app, flags


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
        sys.exit(fail(error))
    if len(rest) > 1:
        sys.exit(fail(f"unexpected argument {rest[1]!r}; options look like --name=value"))
    return rest


def _unknown_field(argv: Sequence[str]) -> str | None:
    for argument in argv:
        name, _, _ = argument.lstrip("-").partition("=")
        room, _, path = name.partition(".")
        if not path or room not in flags.FLAGS:
            continue
        fields = flags.FLAGS[room].value
        for part in path.split("."):
            if not hasattr(fields, "keys") or part not in fields:
                known = ", ".join(fields) if hasattr(fields, "keys") else "none"
                return f"{name}: unknown field {part!r}; known here: {known}"
            fields = fields[part]
    return None
