"""`launch.sweep`, killed at its n-th change of the disk: `DIES_AT=n python -m tests.faults.dying`.

With `DIES_AT=0` it lives, and says on its last line how many changes there were.
"""

import os
import signal
import sys

import launch.sweep
from launch.command_line import run

_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}


def _changes_the_disk(event: str, arguments: tuple) -> bool:
    if event == "open":
        _, mode, flags = arguments
        return bool((isinstance(mode, str) and set(mode) & set("wax+")) or flags & os.O_CREAT)
    return event in _CHANGES


def main() -> None:
    dies_at, seen = int(os.environ["DIES_AT"]), 0
    (workdir,) = (a.partition("=")[2] for a in sys.argv if a.startswith("--workdir="))

    def watch(event: str, arguments: tuple) -> None:
        nonlocal seen
        if not arguments or not _changes_the_disk(event, arguments):
            return
        if not str(arguments[0]).startswith(workdir):
            return
        seen += 1
        if seen == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    try:
        run(launch.sweep.main)
    finally:
        if not dies_at:
            print(f"changes: {seen}", flush=True)


if __name__ == "__main__":
    main()
