"""What becomes of a group, and which faults are its own."""

import errno
import sys
import traceback
from collections.abc import Callable
from typing import NamedTuple

from persist_jax.sweep.distributed import several
from persist_jax.sweep.memory import ran_out

# Where one group cannot be written, or be spoken of, no other one can.
_OF_ALL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EPIPE}


class Ending(NamedTuple):
    """What became of a group.

    Attributes:
        finished: whether every run has ended; if not, everything is saved.
        failure: what went wrong instead, in one line; may be empty.
        error: what went wrong that every other group would meet as well.
    """

    finished: bool
    failure: str = ""
    error: OSError | None = None


def attempt(training: Callable[[], bool]) -> Ending:
    """Train a group; what goes wrong is its ending.

    Args:
        training: `train_group` of it.

    Raises:
        Exception: what goes wrong, where several processes train the group together.

    Example:
        >>> def training():
        ...     raise MemoryError("out of memory: mlp_0 t1, one lane of n = 1010 points")
        >>> attempt(training).failure
        'out of memory: mlp_0 t1, one lane of n = 1010 points'
    """
    try:
        return Ending(training())
    except Exception as error:
        if several():
            raise  # the other processes are in the middle of this group
        if isinstance(error, OSError) and error.errno in _OF_ALL:
            # Without the arrays that its traceback would keep alive.
            return Ending(False, error=error.with_traceback(None))
        return Ending(False, _in_one_line(error))


def _in_one_line(error: Exception) -> str:
    """What a person's input or machine is at fault for; of all else the traceback is printed."""
    words = " ".join(str(error).split())[:1000]
    of_input = isinstance(error, ValueError | OSError | ImportError) or ran_out(error)
    if of_input and words:
        return words
    if not of_input:
        traceback.print_exception(error, file=sys.stderr)
    return f"{type(error).__name__}: {words}"
