"""The training of the small sweep, killed at its n-th change of the disk.

    python -m tests.faults.dying WORKDIR n

With `n = 0` it lives, and says how many changes there were.
"""

import os
import signal
import sys
from pathlib import Path

from persist_jax.data import cache_folder
from persist_jax.sweep.machine import use_compilation_cache
from tests.faults import small_sweep

_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}


def _changes_the_disk(event: str, arguments: tuple) -> bool:
    if event == "open":
        _, mode, flags = arguments
        return bool((isinstance(mode, str) and set(mode) & set("wax+")) or flags & os.O_CREAT)
    return event in _CHANGES


def main(workdir: str, dies_at: int) -> None:
    seen = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal seen
        if arguments and _changes_the_disk(event, arguments):
            seen += str(arguments[0]).startswith(workdir)
            if seen == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

    use_compilation_cache(cache_folder())
    config = small_sweep.configuration()
    sys.addaudithook(watch)
    small_sweep.train(config, Path(workdir))
    print(seen)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
