"""One mutant and the tests of its module, in a process that is forked for it."""

import contextlib
import importlib
import math
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

from tests.mutants.mutation import Mutant

ROOT = Path(__file__).parents[2]
# A mutant has its timeout in seconds of computing, and so many times that in all: others compute.
_IDLE = 4


class Trial(NamedTuple):
    """A module's path and the test files that its mutants run, in their order."""

    path: Path
    tests: list[Path]


class Order:
    """A plugin of pytest: first the tests that caught something, of a file the quick ones first."""

    def __init__(self):
        self.seconds = Counter()
        self.catches = Counter()
        self.failed = None

    def pytest_collection_modifyitems(self, items):
        files = list(dict.fromkeys(item.path for item in items))

        def key(item):
            catches, seconds = self.catches[item.nodeid], self.seconds[item.nodeid]
            return (-catches, 0, 0) if catches else (0, files.index(item.path), seconds)

        items.sort(key=key)

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed = report.nodeid


def run_all(
    trial: Trial, mutants: list[Mutant], processes: int, timeout: float
) -> Iterator[tuple[Mutant, str]]:
    """Every mutant with what caught it, or "survived", as they end."""
    if not mutants:
        return
    order, running, waiting = Order(), {}, list(reversed(mutants))
    # The module as it is: its tests pass, and fill the cache of compiled programs.
    original = trial.path.read_text()
    outcome, order.seconds, libraries = _start(trial, original, order, None).outcome(None)
    if outcome != "survived":
        sys.exit(f"{trial.path}: without a fault the tests end with {outcome}")
    # Read once, before any process is forked: importing starts no thread of JAX's.
    for library in libraries:
        with contextlib.suppress(Exception):
            importlib.import_module(library)
    while waiting or running:
        while waiting and len(running) < processes:
            mutant = waiting.pop()
            process = _start(trial, mutant.source, order, timeout)
            running[process.pipe] = mutant, process, time.monotonic() + _IDLE * timeout
        soonest = min(end for _, _, end in running.values())
        wait(list(running), max(0, soonest - time.monotonic()))
        for pipe, (mutant, process, end) in list(running.items()):
            if pipe.poll() or time.monotonic() > end:
                del running[pipe]
                outcome, *_ = process.outcome(0)
                order.catches[outcome] += 1
                yield mutant, outcome


class _Process(NamedTuple):
    process: multiprocessing.Process
    pipe: multiprocessing.connection.Connection

    def outcome(self, seconds: float | None) -> tuple[str, Counter, list[str]]:
        """What caught the fault, how long tests took, which libraries they need."""
        try:
            return self.pipe.recv() if self.pipe.poll(seconds) else ("timeout", Counter(), [])
        except EOFError:
            # Out of its seconds of computing, unless it broke.
            self.process.join()
            cause = "timeout" if -self.process.exitcode == signal.SIGXCPU else "crash"
            return cause, Counter(), []
        finally:
            self.process.kill()
            self.process.join()


def _start(trial: Trial, source: str, order: Order, timeout: float | None) -> _Process:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=_test, args=(trial, source, order, timeout, theirs)
    )
    process.start()
    theirs.close()
    return _Process(process, ours)


def _test(trial: Trial, source: str, order: Order, timeout: float | None, pipe) -> None:
    """Run in the process of one mutant, or, without a timeout, of the module as it is."""
    import jax
    import pytest

    if timeout is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(timeout), resource.RLIM_INFINITY))
    jax.config.update("jax_compilation_cache_dir", str(ROOT / "build" / "mutants" / "programs"))
    # A mutant reads compiled programs and leaves none, so that no two write the same one.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0 if timeout is None else 1e9)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    _serve(trial.path, source)
    addopts = "-x -m 'not slow' --import-mode=importlib --doctest-modules"
    addopts += " --jaxtyping-packages=persist_jax,beartype.beartype"
    # Plugins that the parent has imported cannot be rewritten, which is no matter.
    addopts += " -W ignore::pytest.PytestAssertRewriteWarning"
    without = [f"-pno:{plugin}" for plugin in ("cacheprovider", "nbmake", "xdist")]
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        code = pytest.main(
            [*without, "-o", f"addopts={addopts}", *map(str, trial.tests)], plugins=[order]
        )
    ours = ("persist_jax", "tests", "conftest", "test_", "oracles", "__main__")
    libraries = [name for name in sys.modules if not name.startswith(ours)]
    outcome = order.failed or f"exit {code}" if code else "survived"
    pipe.send((outcome, order.seconds, libraries))


def _serve(path: Path, source: str) -> None:
    """Let the import system find this source at that path, and no bytecode of another."""
    read, stats = SourceFileLoader.get_data, SourceFileLoader.path_stats

    def get_data(self, name):
        return source.encode() if Path(name) == path else read(self, name)

    def path_stats(self, name):
        if Path(name) == path:
            raise OSError
        return stats(self, name)

    SourceFileLoader.get_data, SourceFileLoader.path_stats = get_data, path_stats
