"""Groups as the tasks of one array job of a cluster, through submitit."""

import math
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal

from persist_jax.extras import needed_by
from persist_jax.store.sweep_folder import jobs_folder
from persist_jax.sweep.executors.elsewhere import (
    forget_stop,
    train_elsewhere,
    train_until_asked,
)
from persist_jax.sweep.executors.ending import Ending
from persist_jax.sweep.executors.work import Outcome, Work
from persist_jax.sweep.grid import Group
from persist_jax.validation import Positive, Size

_WARNED = 120  # seconds between a job's warning and its end, of which its epoch may take
_EPOCH = 90  # so many
# How often a job may run out of time and be queued again: as often as it takes.
_TIMEOUTS = 1000


def submitit() -> Any:
    """The package.

    Raises:
        ImportError: one line on how to install it.
    """
    with needed_by("--executor=slurm", "slurm"):
        import submitit

    return submitit


def slurm(
    work: Work,
    groups: Sequence[Group],
    must_stop: Callable[[], bool],
    *,
    workers: Size | None = None,
    partition: str | None = None,
    account: str | None = None,
    qos: str | None = None,
    timeout_min: Size = 240,
    cpus_per_task: Size | None = None,
    gpus_per_node: Size | None = None,
    mem_gb: Positive | None = None,
    cluster: Literal["slurm", "local"] = "slurm",
) -> Outcome:
    """Train groups as tasks of an array job, and wait for them.

    A task that runs out of time, or makes room for another one, saves after its epoch and is
    queued again; where an epoch takes longer than the cluster waits, its last checkpoint counts.

    Args:
        work: the sweep's; its folder lies where every machine sees it.
        groups: what to train.
        must_stop: asked whether to stop; then tasks end after their epoch.
        workers: how many tasks run at once at most; by default as many as the cluster lets.
        partition: of the cluster.
        account: whom the time is counted to.
        qos: the quality of service.
        timeout_min: minutes that a task has before it is queued again.
        cpus_per_task: cores of a task.
        gpus_per_node: GPUs of a task.
        mem_gb: memory of a task, in GB.
        cluster: "local" starts all tasks on this machine, without SLURM, to try things out.
    """
    package = submitit()
    if cluster == "slurm" and not shutil.which("sbatch"):
        raise ValueError("executor: slurm, but there is no sbatch here; start where jobs are sent")
    limits = {f"{cluster}_max_num_timeout": _TIMEOUTS}
    queue = package.AutoExecutor(jobs_folder(work.workdir) / "%j", cluster=cluster, **limits)
    asked = {
        "timeout_min": timeout_min, "cpus_per_task": cpus_per_task, "mem_gb": mem_gb,
        "gpus_per_node": gpus_per_node, "slurm_partition": partition, "slurm_account": account,
        "slurm_qos": qos, "slurm_array_parallelism": workers or len(groups),
        "slurm_signal_delay_s": _WARNED, "name": "persist_jax",
    }  # fmt: skip
    queue.update_parameters(**{name: value for name, value in asked.items() if value is not None})
    forget_stop(work)
    jobs = queue.map_array(_GroupJob(work), groups)
    outcome = train_elsewhere(work, groups, must_stop, lambda n: _Task(jobs[n]), len(groups))
    for folder in (queue.folder, jobs_folder(work.workdir)):
        with suppress(OSError):  # what tasks that failed have printed is in it
            folder.rmdir()
    return outcome


class _Task:
    """A task of the array job."""

    def __init__(self, job: Any):
        self._job = job
        self._withdrawn = False

    def done(self) -> bool:
        return self._withdrawn or self._job.done()

    def withdraw(self) -> None:
        if not shutil.which("scancel") or self._job.done():
            return
        quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "check": False}
        subprocess.run(["scancel", "--state=PENDING", self._job.job_id], **quiet)
        left = subprocess.run(["squeue", "--noheader", f"--jobs={self._job.job_id}"], **quiet)
        self._withdrawn = not left.stdout.strip() and not self._job.paths.stdout.exists()

    def ending(self, stopping: bool) -> Ending:
        """What it returned; of a task that returned nothing, what the cluster says."""
        if self._withdrawn:
            return self._cleared(Ending(False))
        error, state = self._job.exception(), self._job.state
        if error is None:
            return self._cleared(self._job.result())
        if stopping and state.startswith("CANCELLED"):
            return self._cleared(Ending(False))
        words = f"its job {self._job.job_id} has no result, its state is {state}"
        return Ending(False, f"{words}; see {self._job.paths.stderr}")

    def _cleared(self, ending: Ending) -> Ending:
        """What a task was started from and has printed is of interest only where it failed."""
        if not ending.failure:
            shutil.rmtree(self._job.paths.folder, ignore_errors=True)
        return ending


class _GroupJob:
    """What a task of the cluster calls; submitit has it saved by `checkpoint`."""

    _thread: threading.Thread | None = None
    _warned = False

    def __init__(self, work: Work):
        self._work = work

    def __call__(self, group: Group) -> Ending:
        endings: list[Ending] = []

        def run() -> None:
            endings.append(train_until_asked(self._work, group, lambda: self._warned))

        # The main thread waits, to hear that its time ends while the other one trains.
        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        self._wait()
        return endings[0]

    def checkpoint(self, group: Group) -> Any:
        """Save, as far as the cluster waits for it; what to call when it is run again."""
        self._warned = True
        self._wait(_EPOCH)
        return submitit().helpers.DelayedSubmission(_GroupJob(self._work), group)

    def _wait(self, seconds: float = math.inf) -> None:
        """For the training; by no lock, which a signal's handler could wait for once more."""
        deadline = time.monotonic() + seconds
        while self._thread and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.1)
