"""Compile each program once, in the first thread that needs it; several compile in parallel."""

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future

import jax

# Lowering may run Triton's compiler, which allows one thread at a time; XLA's allows many.
LOWERING = threading.RLock()
_WAITED = threading.local()


class Compilations:
    """Compiled programs by key. A thread waits only for the program that it asks for.

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
        """Return the program of a key, compiled on the first call for the key.

        Args:
            key: the program's unique key.
            lower: returns the lowered program to compile.

        Raises:
            Exception: any error of the compiler; the next call for this key tries again.
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
        """The keys of all programs that are compiled or being compiled."""
        with self._lock:
            return set(self._found)


def seconds_waited() -> float:
    """The seconds that this thread has spent compiling, or waiting for other threads to compile."""
    return getattr(_WAITED, "seconds", 0.0)
