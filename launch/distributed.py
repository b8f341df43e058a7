"""One run over several processes: its flags, and a process above each that says how it ended.

JAX's runtime ends a process whose company is lost, at once and in its own words, some twenty lines.
So the command runs once more below itself; what it prints passes through here, but for those words.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple, TextIO

from absl import flags

from launch.interruption import INTERRUPTION

flags.disclaim_key_flags()  # the flags are those of the command which asks for them

LOST = (
    "another process of this run has ended or cannot be reached; start all of them again: the same "
    "commands go on from what is on disk"
)
# What JAX's errors say where a process cannot be reached.
_LOSSES = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "coordination", "heartbeat")
_BELOW = "PERSIST_JAX_BELOW"  # set for the process that trains
_FATAL = b"JAX distributed service detected fatal errors"
# The runtime's own lines, of which two threads may write one.
_NOISE = re.compile(rb"[WEIF]\d{4} \d\d:|\[Gloo\]|.*connected to \d+ peer|Additional GRPC|:UNKNOWN")


class Wanted(NamedTuple):
    """What the flags ask for.

    Attributes:
        distributed: whether this process is one of several.
        parameters: of `persist_jax.sweep.distributed.join`.
    """

    distributed: bool
    parameters: dict[str, object]


def define_distributed() -> Callable[[], Wanted]:
    """Define the flags; what they ask for is there once they are parsed."""
    distributed = flags.DEFINE_bool(
        "distributed", False, "One of several processes that train each run; docs/scaling.md."
    )
    own = [
        flags.DEFINE_string("coordinator_address", None, "Host:port of process 0."),
        flags.DEFINE_integer("num_processes", None, "How many there are.", lower_bound=1),
        flags.DEFINE_integer("process_id", None, "Which one this is.", lower_bound=0),
    ]

    def wanted() -> Wanted:
        given = {flag.name: flag.value for flag in own if flag.value is not None}
        if given and not distributed.value:
            raise ValueError(f"--{next(iter(given))}: belongs to --distributed")
        return Wanted(distributed.value, given)

    return wanted


def check_distributed(config, executor: str) -> None:
    """Refuse what processes cannot train together.

    Args:
        config: the configuration.
        executor: the name of the executor.

    Raises:
        ValueError: one line that names the flag or the field.
    """
    if executor != "local":
        raise ValueError(
            f"--executor: {executor!r} trains groups apart, the processes of --distributed every "
            "group together; choose one of the two"
        )
    if config.parallel != "batch":
        raise ValueError(
            f"parallel: {config.parallel!r} must be 'batch' with --distributed, where all devices "
            "share each batch; groups on several machines are --executor's"
        )


@contextmanager
def company() -> Iterator[None]:
    """Inside, what fails since another process has died says so in one line.

    Raises:
        ConnectionError: the line.
    """
    import jax

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if any(word in str(error) for word in _LOSSES):
            raise ConnectionError(LOST) from None
        raise


def is_below() -> bool:
    """Whether this is the process that trains; from then on it ends with the one above."""
    if os.environ.pop(_BELOW, None) is None:
        return False
    threading.Thread(target=_end_with_input, daemon=True).start()
    return True


def run_below() -> int:
    """Run this command in a process below this one.

    Returns:
        Its exit status; 2 when its company is lost, which is said in one line.
    """
    process = subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]],
        env=os.environ | {_BELOW: "1"},
        stdin=subprocess.PIPE,  # open for as long as this process lives
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a terminal's signals come from here, once
    )
    held: list[bytes] = []
    with INTERRUPTION.handed_on(process.send_signal):
        out = threading.Thread(target=_pass_on, args=(process.stdout, sys.stdout, held))
        out.start()
        _pass_on(process.stderr, sys.stderr, held)
        out.join()
        status = process.wait()
    # The runtime and we may both have found out, in any order.
    if any(_FATAL in line or LOST.encode() in line for line in held):
        print(LOST, file=sys.stderr)
        return 2
    if status < 0:
        sys.stderr.buffer.writelines(held)
    return status if status >= 0 else 128 - status


def _pass_on(lines: IO[bytes], to: TextIO, held: list[bytes]) -> None:
    """Pass lines on as they come, but for the runtime's own, which are held."""
    dying = False
    for line in lines:
        dying = dying or _FATAL in line or LOST.encode() in line
        if dying or _NOISE.match(line):
            held.append(line)
        else:
            to.buffer.write(line)
            to.flush()


def _end_with_input() -> None:
    os.read(0, 1)
    os._exit(128 + signal.SIGKILL)
