"""Workers on this machine, each with its share of the cores or GPUs."""

import signal
import sys
import time
from collections.abc import Callable

from persist_jax.parameters import Size
from persist_jax.sweep.executors.shares import most_workers, shares
from persist_jax.sweep.executors.workers import Command

_POLL = 0.2  # seconds between two looks at the workers
_PATIENCE = 600.0  # seconds that a worker has to end its epoch when it is asked to stop


def processes(
    command: Command,
    groups: int,
    must_stop: Callable[[], bool],
    *,
    workers: Size | None = None,
) -> None:
    """Run the command in processes here, one per GPU or core by default, and wait for them."""
    running = []
    for share in shares(min(workers or most_workers(), groups)):
        with share.inherited():
            running.append(command.start(share.environment))
    asked: float | None = None
    try:
        while running:
            time.sleep(_POLL)
            if asked is None and must_stop():
                asked = time.monotonic()
                for worker in running:
                    worker.terminate()
                    worker.send_signal(signal.SIGCONT)  # one that is stopped would not hear
            if asked is not None and time.monotonic() - asked > _PATIENCE:
                for worker in running:
                    _say(f"worker {worker.pid} did not stop within {_PATIENCE:.0f} s: killed")
                break
            for worker in running:
                if worker.poll() is not None and worker.returncode < 0:
                    how = f"killed (signal {-worker.returncode})"
                    _say(f"worker {worker.pid} was {how}; others train its group")
            running = [worker for worker in running if worker.returncode is None]
    finally:
        for worker in running:
            worker.kill()
            worker.wait()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
