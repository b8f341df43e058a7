"""A real sweep on a SLURM cluster of this machine alone, which is started for it and ended after.

    sudo apt-get install -y slurm-wlm munge      # Debian's and Ubuntu's; pip install submitit
    sudo python -m tests.faults.slurm_here

The sweep by this process, by tasks of the cluster, by tasks of which one has to make room in the
middle, by tasks that are cancelled and submitted again, and by tasks of which one is killed: the
results have to be the same to the bit. Then by two tasks that train each run together.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from persist_jax.store import read_results
from persist_jax.store.configuration import read_config
from tests.faults import small_sweep

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
# No control groups, no accounting: what a container or a laptop has.
CONFIGURATION = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={next_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
KillWait=2
SchedulerParameters=bf_interval=2,sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName={host} NodeAddr=127.0.0.1 {hardware} State=UNKNOWN
PartitionName=here Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
TASKS = ("--executor=slurm", "--slurm_partition=here", "--slurm_timeout_min=30")


@contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """A controller and one node, until the end; commands find them by SLURM_CONF."""
    described = subprocess.run(["slurmd", "-C"], capture_output=True, text=True, check=True)
    hardware = " ".join(described.stdout.splitlines()[0].split()[1:])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = {"host": socket.gethostname().split(".")[0], "folder": folder, "hardware": hardware}
    words |= {"port": port, "next_port": port + 1}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**words))
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    # Before 23.11 there is no such choice, and the older plugin takes hold of nothing unasked.
    version = tuple(map(int, re.findall(r"\d+", _said("sinfo", "--version"))[:2]))
    plugin = "disabled" if version >= (23, 11) else "cgroup/v1"
    (folder / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\n")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    munged = ["munged", "--foreground", "--force", f"--key-file={key}"]
    for name in ("socket", "pid-file", "log-file", "seed-file"):
        munged.append(f"--{name}={folder}/munge.{name.removesuffix('-file')}")
    daemons = []
    try:
        for daemon in (munged, ["slurmctld", "-D"], ["slurmd", "-D"]):
            with (folder / f"{daemon[0]}.out").open("w") as out:
                daemons.append(subprocess.Popen(daemon, stdout=out, stderr=subprocess.STDOUT))
            time.sleep(2)
        _wait(lambda: "idle" in _said("sinfo", "--noheader", "--format=%T"), 60, "no idle node")
        yield
    finally:
        _said("scancel", "--user=root")
        for process in reversed(daemons):
            process.terminate()
            process.wait(30)


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def _wait(until, seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(0.1)


def _start(workdir: Path, *flags: str) -> subprocess.Popen:
    print(f"\n== launch.sweep --workdir={workdir.name} {' '.join(flags)}", flush=True)
    command = small_sweep.command(workdir, *flags, changed=small_sweep.GROUPS)
    return small_sweep.start(command, stdout=None, stderr=None)


def _until_all_train(workdir: Path, runs: int) -> None:
    def training() -> int:
        found = workdir.glob("runs/*/*/*/*/epochs.jsonl")
        return len([path for path in found if path.stat().st_size])

    _wait(lambda: training() >= runs, 200, f"{workdir}: fewer than {runs} runs in training")


def _until_all_ended(workdir: Path) -> None:
    _wait(lambda: not _said("squeue", "--noheader"), 300, "tasks are left")
    report = workdir / "report" / "index.html"
    _wait(report.exists, 60, f"{report} is missing")


def _show(command: str) -> str:
    said = _said(*command.split())
    print(f"$ {command}\n{said.rstrip()}", flush=True)
    return said


def _end(process: subprocess.Popen, status: int) -> None:
    if process.wait(600) != status:
        raise ChildProcessError(f"exit status {process.returncode}, not {status}")


def submitted(workdir: Path) -> None:
    """The command leaves at once; the last task writes the report."""
    _end(_start(workdir, *TASKS), 0)
    _until_all_ended(workdir)


def preempted(workdir: Path) -> None:
    """One of two tasks makes room in the middle."""
    _end(_start(workdir, *TASKS), 0)
    _until_all_train(workdir, 4)
    first = _said("squeue", "--noheader", "--format=%i", "--states=RUNNING").split()[0]
    _show(f"scancel --signal=USR2 {first}")
    _wait(lambda: "Restarts=1" in _said("scontrol", "show", "job", first), 60, "not queued again")
    _show("squeue --format=%i|%T|%r|%S")
    (log,) = (workdir / "jobs" / first).glob("*.err")
    print("\n".join(line for line in log.read_text().splitlines() if line.startswith("INFO")))
    _until_all_ended(workdir)


def lost(workdir: Path) -> None:
    """One of two tasks is killed; the other one takes over its group."""
    _end(_start(workdir, *TASKS), 0)
    _until_all_train(workdir, 4)
    _show(f"pkill -KILL --newest --full submitit.core._submit.{workdir}")  # as for its memory
    _until_all_ended(workdir)


def interrupted(workdir: Path) -> None:
    """All tasks are cancelled; the same command goes on."""
    _end(_start(workdir, *TASKS), 0)
    _until_all_train(workdir, 4)
    _show("scancel --user=root")
    _wait(lambda: not _said("squeue", "--noheader"), 60, "a task is left")
    submitted(workdir)


def together(workdir: Path) -> None:
    """Two tasks of one job train each run together, as JAX finds them in their environment."""
    changed = {"devices": None, "parallel": "batch"}
    command = small_sweep.command(workdir, "--distributed", changed=changed)
    print(f"\n== srun --ntasks=2 launch.sweep --workdir={workdir.name} --distributed", flush=True)
    srun = ["srun", "--ntasks=2", "--cpus-per-task=1"]
    _end(small_sweep.start([*srun, *command], stdout=None, stderr=None), 0)


def compare(workdir: Path, alone: Path) -> str:
    """Whether two sweeps left the same, and how many cores their runs had."""
    ours, theirs = (small_sweep.left_by(read_config(path), path) for path in (workdir, alone))
    wrong = small_sweep.differences(ours, theirs)
    cores = [
        sorted({origin.cores for record in read_results(path) for origin in record.origins})
        for path in (workdir, alone)
    ]
    words = f"differs: {', '.join(wrong)}" if wrong else f"identical in {len(ours)} names"
    return f"{words}; cores {cores[0]} and {cores[1]}"


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    if missing := [name for name in NEEDED if not shutil.which(name)] or os.geteuid():
        print(f"needs root, and slurm-wlm and munge; missing: {missing or 'root'}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the cluster ends too
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "cluster").mkdir(mode=0o755)
        _end(_start(folder / "local", "--executor=local"), 0)
        outcomes = []
        with cluster(folder / "cluster"):
            _show("sinfo --version")
            _show("sinfo --Node --long")
            submitted(folder / "slurm 100%j")
            preempted(folder / "preempted")
            interrupted(folder / "interrupted")
            lost(folder / "lost")
            together(folder / "together")
        print()
        for sweep in ("slurm 100%j", "preempted", "interrupted", "lost"):
            outcomes.append(compare(folder / sweep, folder / "local"))
            print(f"{sweep}: {outcomes[-1]}", flush=True)
        origin = read_results(folder / "together")[0].origins[0]
        print(f"together: {origin.devices} devices of {origin.processes} processes", flush=True)
    return int(any(outcome.startswith("differs") for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
