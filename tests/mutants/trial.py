"""Mutants and the tests of their module, each in a process that is forked for it.

Most mutants differ inside of one function. These are forked from a session of pytest which has
imported and collected everything and run nothing; there the function's code is exchanged. Where
the import itself has run it, or it is not inside of one, a session of its own imports the mutant.
"""

import contextlib
import importlib
import math
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from tests.mutants.code import Imported, Swap, serve
from tests.mutants.mutation import Mutant

ROOT = Path(__file__).parents[2]
# A mutant has its timeout in seconds of computing, and so many times that in all: others compute.
_IDLE = 4


class Trial(NamedTuple):
    """A module's path, the tests that its mutants run, in their order, and how they are run."""

    path: Path
    tests: list[Path]
    processes: int
    timeout: float


class Process(NamedTuple):
    process: multiprocessing.Process
    pipe: Connection
    end: float

    def outcome(self, seconds: float | None) -> Any:
        """What the process says first; "timeout" if nothing in that time, "crash" if it cannot."""
        try:
            return self.pipe.recv() if self.pipe.poll(seconds) else "timeout"
        except EOFError:
            self.process.join()
            return "timeout" if -self.process.exitcode == signal.SIGXCPU else "crash"
        finally:
            self.process.kill()
            self.process.join()


def fork(target: Callable[..., None], *arguments: Any, timeout: float = math.inf) -> Process:
    """A process that runs `target(*arguments, pipe)`."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=target, args=(*arguments, theirs))
    process.start()
    theirs.close()
    return Process(process, ours, time.monotonic() + _IDLE * timeout)


def in_turn(
    start: Callable[[Mutant], Process], mutants: list[Mutant], processes: int
) -> Iterator[tuple[Mutant, str]]:
    """Every mutant with its outcome, as they end, so many of them at a time."""
    waiting, running = list(reversed(mutants)), {}
    while waiting or running:
        while waiting and len(running) < processes:
            mutant = waiting.pop()
            process = start(mutant)
            running[process.pipe] = mutant, process
        soonest = min(process.end for _, process in running.values())
        wait(list(running), max(0, soonest - time.monotonic()))
        for pipe, (mutant, process) in list(running.items()):
            if pipe.poll() or time.monotonic() > process.end:
                del running[pipe]
                yield mutant, process.outcome(0)


def run_all(trial: Trial, mutants: list[Mutant]) -> Iterator[tuple[Mutant, str]]:
    """Every mutant with what caught it, or "survived", as they end."""
    if not mutants:
        return
    # The module as it is: its tests pass, and fill the cache of compiled programs.
    first = fork(_alone, trial, None).outcome(None)
    if not isinstance(first, Order):
        sys.exit(f"{trial.path}: without a fault the tests end with {first}")
    # A loop without an end is one long before the limit, where the tests are quick.
    trial = trial._replace(timeout=min(trial.timeout, 10 + 3 * sum(first.seconds.values())))
    # Read once, before any process is forked: importing starts no thread of JAX's.
    for library in first.libraries:
        with contextlib.suppress(Exception):
            importlib.import_module(library)
    session, left = fork(_session, trial, mutants, first), {mutant.id: mutant for mutant in mutants}
    with contextlib.suppress(EOFError):
        while True:
            name, outcome = session.pipe.recv()
            first.catches[outcome] = first.catches.get(outcome, 0) + 1
            yield left.pop(name), outcome
    session.process.join()
    yield from in_turn(
        lambda mutant: fork(_alone, trial, mutant, first, timeout=trial.timeout),
        list(left.values()),
        trial.processes,
    )


class Order:
    """A plugin of pytest: first the tests that caught something, of a file the quick ones first."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.catches: dict[str, int] = {}
        self.libraries: list[str] = []
        self.failed: str | None = None

    def sort(self, items):
        files = list(dict.fromkeys(item.path for item in items))

        def key(item):
            catches, seconds = self.catches.get(item.nodeid, 0), self.seconds.get(item.nodeid, 0)
            return (-catches, 0, 0) if catches else (0, files.index(item.path), seconds)

        return sorted(items, key=key)

    def pytest_collection_modifyitems(self, items):
        items[:] = self.sort(items)

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration
        if report.failed:
            self.failed = report.nodeid


class Session(Order):
    """A session of pytest that runs no test itself, but forks a process for every mutant."""

    def __init__(self, trial: Trial, mutants: list[Mutant], first: Order, pipe: Connection):
        super().__init__()
        self.trial, self.mutants, self.pipe = trial, mutants, pipe
        self.seconds, self.catches = first.seconds, first.catches

    def pytest_sessionstart(self):
        self.imported, self.threads = Imported(self.trial.path), _threads()

    def pytest_runtestloop(self, session):
        self.swap, self.items = Swap(self.trial.path, self.imported.end()), session.items
        inside = [mutant for mutant in self.mutants if self.swap.possible(mutant.source)]
        if _threads() > self.threads:
            # A test file that computes as it is imported has started JAX, which forks badly.
            inside = []
        start = self.start
        for mutant, outcome in in_turn(start, inside, self.trial.processes):
            self.catches[outcome] = self.catches.get(outcome, 0) + 1
            self.pipe.send((mutant.id, outcome))
        return True

    def start(self, mutant: Mutant) -> Process:
        return fork(self.run, mutant, timeout=self.trial.timeout)

    def run(self, mutant: Mutant, pipe: Connection) -> None:
        _limit(self.trial.timeout)
        self.swap.apply(mutant.source)
        items = self.sort(self.items)
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                break
        pipe.send(self.failed or "survived")


def _session(trial: Trial, mutants: list[Mutant], first: Order, pipe: Connection) -> None:
    _pytest(trial, Session(trial, mutants, first, pipe), writes=False)


def _alone(trial: Trial, mutant: Mutant | None, *rest: Any) -> None:
    """Run in the process of one mutant, or of the module as it is."""
    *first, pipe = rest
    order = Order()
    if mutant is not None:
        _limit(trial.timeout)
        serve(trial.path, mutant.source)
        order.seconds, order.catches = first[0].seconds, first[0].catches
    code = _pytest(trial, order, writes=mutant is None)
    ours = ("persist_jax", "tests", "conftest", "test_", "oracles", "__main__")
    order.libraries = [name for name in sys.modules if not name.startswith(ours)]
    outcome = order.failed or f"exit {code}" if code else "survived"
    pipe.send(order if mutant is None and not code else outcome)


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _limit(seconds: float) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), resource.RLIM_INFINITY))


def _pytest(trial: Trial, plugin: Order, writes: bool) -> int:
    """Run the tests, with a cache of compiled programs that it may add to, or only read."""
    import jax
    import pytest

    jax.config.update("jax_compilation_cache_dir", str(ROOT / "build" / "mutants" / "programs"))
    # A mutant reads compiled programs and leaves none, so that no two write the same one.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0 if writes else 1e9)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    addopts = "-x -m 'not slow' --import-mode=importlib --doctest-modules"
    addopts += " --jaxtyping-packages=persist_jax,beartype.beartype"
    # Plugins that the parent has imported cannot be rewritten, which is no matter.
    addopts += " -W ignore::pytest.PytestAssertRewriteWarning"
    without = [f"-pno:{plugin}" for plugin in ("cacheprovider", "nbmake", "xdist", "terminal")]
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        return pytest.main([*without, "-o", f"addopts={addopts}", *map(str, trial.tests)], [plugin])
