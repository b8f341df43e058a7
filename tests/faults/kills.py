"""Kill a real sweep, start it again, and compare what it leaves with a sweep that was let alone.

    python -m tests.faults.kills --moments=50 --every=1

First the command at random moments, up to three times before it is let end; then its training at
every change that it makes to the disk (`--every=10`: at every tenth; `--every=0`: at none).
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.commands import run_command
from tests.faults import small_sweep


def kill_after(seconds: float, workdir: Path) -> bool:
    """Start the command and kill it after some time; whether it was still running."""
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = small_sweep.start(small_sweep.command(workdir), **silent)
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True


def die_at(change: int, workdir: Path) -> subprocess.CompletedProcess:
    """Let the training die at a change of the disk."""
    environment = small_sweep.environment()
    return run_command("tests.faults.dying", workdir, change, environment=environment)


def compare(workdir: Path, expected: dict[str, object]) -> str:
    """Whether a sweep that has ended left what it should, and nothing else."""
    left = small_sweep.left_by(small_sweep.configuration(), workdir)
    if wrong := small_sweep.differences(left, expected):
        return f"differs: {', '.join(wrong)}"
    leftover = [p.name for p in workdir.rglob("*") if p.name.startswith(".") or "tmp" in p.name]
    leftover += [p.name for p in workdir.glob("groups/*")]
    return f"left over: {leftover[0]}" if leftover else "identical"


def at_moments(count: int, folder: Path, expected: dict, dice: random.Random) -> Iterator[str]:
    """Kill the command `count` times; how each sweep ended."""
    began = time.monotonic()
    assert small_sweep.run(folder / "alone").returncode == 0
    shortest, kills = time.monotonic() - began, 0
    while kills < count:
        workdir = folder / f"moment{kills}"
        for _ in range(dice.randint(1, 3)):
            began = time.monotonic()
            killed = kill_after(dice.uniform(0.2, 1.0) * shortest, workdir)
            kills += killed
            shortest = shortest if killed else min(shortest, time.monotonic() - began)
        done = small_sweep.run(workdir)
        yield done.stderr.strip() if done.returncode else compare(workdir, expected)
    print(f"{kills} kills at random moments", flush=True)


def at_changes(every: int, folder: Path, expected: dict) -> Iterator[str]:
    """Let the training die at changes of the disk; how each went on."""
    changes = int(die_at(0, folder / "counted").stdout.splitlines()[-1])
    print(f"the training changes the disk {changes} times", flush=True)
    for change in range(1, changes + 1, every):
        workdir = folder / f"change{change}"
        died = die_at(change, workdir)
        assert died.returncode == -signal.SIGKILL, died.stderr
        again = die_at(0, workdir)
        assert again.returncode == 0, again.stderr
        outcome = compare(workdir, expected)
        yield outcome if outcome == "identical" else f"change {change}: {outcome}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    config, bad = small_sweep.configuration(), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assert small_sweep.run(folder / "whole").returncode == 0
        expected = small_sweep.left_by(config, folder / "whole")
        trials = {"moments": at_moments(options.moments, folder, expected,
                                        random.Random(options.seed))}  # fmt: skip
        if options.every:
            trials["changes"] = at_changes(options.every, folder, expected)
        for kind, outcomes in trials.items():
            counts = Counter(outcomes)
            for outcome, count in sorted(counts.items()):
                print(f"{kind}: {outcome}: {count}", flush=True)
            bad += counts.total() - counts["identical"]
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
