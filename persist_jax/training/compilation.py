"""Programs that are compiled once, by whichever thread asks first, several of them side by side."""

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future

import jax

# Lowering may run the compiler of a kernel, which takes one thread at a time; XLA takes many.
LOWERING = threading.RLock()
_WAITED = threading.local()


class Compilations:
    """Compiled programs by key. A thread that asks for one in the making waits for that one only.

    Example:
        >>> programs = Compilations()
        >>> double = programs.get(3, lambda: jax.jit(lambda x: 2 * x).lower(jax.numpy.ones(3)))
        >>> double(jax.numpy.ones(3)).tolist()
        [2.0, 2.0, 2.0]
    """

    def __init__(self):
        self._found: dict[Hashable, Future] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, lower: Callable[[], jax.stages.Lowered]) -> Callable:
        """The program of a key, compiled if this is the first call for it.

        Args:
            key: what tells it from the others.
            lower: gives what is to compile.

        Raises:
            Exception: of the compiler; the next call for this key tries again.
        """
        began = time.perf_counter()
        with self._lock:
            known = self._found.get(key)
            mine = known or self._found.setdefault(key, Future())
        if known is None:
            try:
                with LOWERING:
                    lowered = lower()
                mine.set_result(lowered.compile())
            except BaseException as error:
                del self._found[key]
                mine.set_exception(error)
        try:
            return mine.result()
        finally:
            _WAITED.seconds = seconds_waited() + time.perf_counter() - began

    def keys(self) -> set[Hashable]:
        """Of the programs that are compiled or in the making."""
        with self._lock:
            return set(self._found)


def seconds_waited() -> float:
    """For how long this thread has compiled programs, or waited for those of other threads."""
    return getattr(_WAITED, "seconds", 0.0)
