"""The commands of an installed package, without a clone of its repository.

    persist-jax sweep --config=mnist:digits       # or a file of your own, --config=FILE
    persist-jax report --workdir=DIR
    persist-jax prepare --dataset=mnist

`persist-jax COMMAND --help` lists the flags.
"""

import importlib
import sys

from .interruption import INTERRUPTION

_COMMANDS = ("sweep", "report", "prepare")


def main() -> None:
    """Run the command that the first argument names."""
    INTERRUPTION.watch()  # before the slow imports
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h"):
        print(__doc__.strip())
        return
    if name not in _COMMANDS:
        print(f"persist-jax: {name!r} is not one of {', '.join(_COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"persist-jax {name}", *rest]
    command = importlib.import_module(f".{name}", __package__)
    command.run(command.main)
