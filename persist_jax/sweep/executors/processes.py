"""Groups in worker processes of this machine, each with its share of the cores."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait

from persist_jax.parameters import Size
from persist_jax.sweep.executors.ending import Ending
from persist_jax.sweep.executors.shares import Share, most_workers, shares
from persist_jax.sweep.executors.view import View
from persist_jax.sweep.executors.work import Outcome, Work
from persist_jax.sweep.executors.worker import train
from persist_jax.sweep.grid import Group
from persist_jax.sweep.group import Progress

# A forked process would have the locks of JAX's threads without the threads.
_CONTEXT = multiprocessing.get_context("spawn")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STOP = "stop"
_POLL = 0.2  # seconds between two looks at whether to stop


def processes(
    work: Work,
    groups: Sequence[Group],
    must_stop: Callable[[], bool],
    *,
    workers: Size | None = None,
) -> Outcome:
    """Train groups in processes that are started for it.

    A script that calls this does so under `if __name__ == "__main__"`, as
    [multiprocessing](https://docs.python.org/3/library/multiprocessing.html) asks for.

    Args:
        work: the sweep's.
        groups: what to train.
        must_stop: asked from the first epoch on whether to stop.
        workers: how many groups train at once; by default one per GPU, else one per core.
    """
    crew = _Crew(work, groups, shares(min(workers or most_workers(), len(groups))))
    try:
        return crew.train(must_stop)
    finally:
        crew.dismiss()


class _Worker:
    """A process of ours, and the number of the group that it trains."""

    def __init__(self, work: Work, share: Share):
        self.share = share
        self.number = -1
        self.pipe, theirs = _CONTEXT.Pipe()
        arguments = theirs, work, share.environment
        self.process = _CONTEXT.Process(target=_serve, args=arguments, daemon=True)
        with _blocked(), share.inherited():
            self.process.start()
        theirs.close()  # so that the pipe ends when the worker does

    def hear(self) -> Progress | Ending:
        """What it has to say; of a dead one, how it died."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            status = self.process.exitcode
            how = f"was killed (signal {-status})" if status < 0 else f"ended with status {status}"
            return Ending(False, f"its worker {how}")

    def end(self, patience: float = 0.0) -> None:
        """What is on disk is whole at any moment; the rest of a worker is worth nothing."""
        self.pipe.close()
        self.process.join(patience)
        self.process.kill()
        self.process.join()


class _Crew:
    """The workers of a sweep, which train its groups in their order."""

    def __init__(self, work: Work, groups: Sequence[Group], parts: Sequence[Share]):
        self._work = work
        self._groups = groups
        self._waiting = deque(range(len(groups)))
        self._free = list(parts)  # shares without a worker
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._view = View(groups)
        self._asks = False  # whether to ask: before the first epoch there is nothing to save

    def train(self, must_stop: Callable[[], bool]) -> Outcome:
        stopping = False
        while self._busy or self._waiting and not stopping:
            while self._waiting and (self._idle or self._free) and not stopping:
                self._begin()
            heard = wait([worker.pipe for worker in self._busy], _POLL)
            for worker in [worker for worker in self._busy if worker.pipe in heard]:
                self._hear(worker)
            self._view.breaks_silence()
            if self._asks and not stopping and must_stop():
                stopping = True
                for worker in self._busy:
                    with suppress(OSError):  # it has died, which is heard in a moment
                        worker.pipe.send(_STOP)
        finished = not self._waiting and not self._view.stopped
        return Outcome(finished, tuple(self._view.failures))

    def dismiss(self) -> None:
        for worker in self._busy:
            worker.end()
        for worker in self._idle:
            worker.end(5.0)

    def _begin(self) -> None:
        worker = self._idle.pop() if self._idle else _Worker(self._work, self._free.pop(0))
        number = self._waiting[0]
        try:
            worker.pipe.send((self._groups[number], self._work.profile and number == 0))
        except OSError:  # it died between two groups, which is the fault of neither
            self._free.append(worker.share)
            worker.end()
            return
        worker.number = self._waiting.popleft()
        self._busy.append(worker)
        self._view.begins(worker.number)

    def _hear(self, worker: _Worker) -> None:
        message = worker.hear()
        if isinstance(message, Progress):
            self._asks = True
            self._view.trained(worker.number, message)
            return
        self._busy.remove(worker)
        self._view.ends(worker.number, message)
        if worker.process.exitcode is None:
            self._idle.append(worker)
        else:
            self._free.append(worker.share)
            worker.end()


@contextmanager
def _blocked() -> Iterator[None]:
    """A process that is started inside hears of no signal until it says what it does about it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, work: Work, environment: dict[str, str]) -> None:
    """Train what comes through the pipe, until it ends or says to stop."""
    for number in _SIGNALS:
        # Ctrl-C goes to every process of a terminal: what is done about it is the sweep's to say.
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(environment)

    def must_stop() -> bool:
        nonlocal stopping
        stopping = stopping or pipe.poll()  # while a group trains, nothing else comes
        return stopping

    stopping = False
    with suppress(EOFError, OSError):
        while not stopping and (asked := pipe.recv()) != _STOP:
            group, profile = asked
            how = {"report": pipe.send, "must_stop": must_stop, "profile": profile}
            pipe.send(train(work, group, **how))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # not waiting for threads, which have nothing to save


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
