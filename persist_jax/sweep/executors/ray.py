"""Workers as tasks of a Ray cluster, which restarts a task when its node dies."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from persist_jax._plumbing.extras import needed_by
from persist_jax.parameters import Count, NotNegative, Positive, Size
from persist_jax.sweep.executors.workers import Command

_POLL = 0.5  # seconds between two checks of the tasks
_ANSWER = 10.0  # seconds to wait for a cluster's answer


def package() -> Any:
    """Import Ray, or say in one line how to install it."""
    with needed_by("--executor=ray", "ray"):
        import ray as found

    return found


def ray(
    command: Command,
    groups: int,
    must_stop: Callable[[], bool],
    *,
    workers: Size | None = None,
    address: str | None = None,
    num_cpus: Positive = 1.0,
    num_gpus: NotNegative = 0.0,
    memory_gb: Positive | None = None,
    max_retries: Count = 3,
) -> None:
    """Run the command in tasks of a Ray cluster, by default one per group, and wait for them.

    Every node must see the command's folder. The parameters are those of the flags `--ray_...`. Ray
    restarts a task whose process or node dies.
    """
    cluster = package()
    here = not cluster.is_initialized()
    if here:
        check_address(address)
        with _signals_kept(), warnings.catch_warnings():
            # Ray forks only to execute another program, which does not need JAX's threads.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            # Do not forward the tasks' output: failures are printed below.
            cluster.init(address=address, log_to_driver=False, logging_level="ERROR")
    try:
        asked = {"num_cpus": num_cpus, "num_gpus": num_gpus, "max_retries": max_retries}
        asked |= {"memory": int(memory_gb * 1e9)} if memory_gb else {}
        task = cluster.remote(**asked)(_run)
        count = min(workers or groups, groups)
        running, stopped = [task.remote(command, num_cpus) for _ in range(count)], False
        while running:
            ended, running = cluster.wait(running, timeout=_POLL)
            for reference in ended:
                _say_failure(cluster, reference)
            if must_stop() and not stopped:
                stopped = True
                for reference in running:
                    cluster.cancel(reference)
    finally:
        if here:
            cluster.shutdown()


def _say_failure(cluster: Any, reference: Any) -> None:
    try:
        words = cluster.get(reference)
    except cluster.exceptions.TaskCancelledError:
        return
    except cluster.exceptions.RayError as error:
        words = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"
    if words:
        print(words, file=sys.stderr, flush=True)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Restore our signal handlers after Ray has set its own, which print the stack on SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        if handler is not None:
            signal.signal(number, handler)


def check_address(address: str | None) -> None:
    """Refuse a cluster that does not answer; Ray itself would wait for minutes.

    The error names the flag, variable or file that the address comes from.
    """
    source = "ray_address"
    if address in (None, "auto"):
        source, address = "RAY_ADDRESS", os.environ.get("RAY_ADDRESS")
    if not address:
        folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
        # `ray start` writes this file and `ray stop` deletes it; after a kill it stays.
        left = Path(folder) / "ray" / "ray_current_cluster"
        source, address = str(left), left.read_text().strip() if left.exists() else "local"
    if address == "local":
        return
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{source}: {address[:200]!r} is not host:port, local or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER).close()
    except OSError as error:
        raise ValueError(
            f"{source}: no Ray cluster answers at {address} ({error.strerror or error}); start it, "
            "or clean up with 'ray stop', or give --ray_address=local"
        ) from None


def _run(command: Command, cores: float) -> str:
    """Run the command on a node of the cluster; return its last error lines if it failed."""
    # Ray counts cores but does not limit them.
    cores = {"LOKY_MAX_CPU_COUNT": str(max(1, int(cores)))}
    worker = command.start(cores, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(worker.stderr), daemon=True)
    reader.start()
    try:
        while worker.poll() is None:
            time.sleep(0.1)  # a cancellation would not interrupt one long wait
    except BaseException:  # the task is cancelled
        worker.terminate()
        worker.wait()
        raise
    reader.join()
    return "".join(lines[-20:]).rstrip() if worker.returncode else ""
