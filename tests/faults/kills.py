"""Kill a real sweep, start it again, and compare what it leaves with a sweep that was let alone.

    python -m tests.faults.kills --moments=50 --every=1

First at random moments, then at every change that it makes to the disk (`--every=10`: at every
tenth). A sweep is killed up to three times before it is let end.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults import small_sweep


def kill_after(seconds: float, workdir: Path) -> bool:
    """Start the sweep and kill it after some time; whether it was still running."""
    process = subprocess.Popen(
        small_sweep.command(workdir), cwd=small_sweep.ROOT, env=os.environ | {"XLA_FLAGS": ""},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True


def kill_at(change: int, workdir: Path) -> bool:
    """Start the sweep and let it die at a change of the disk; whether it came to it."""
    done = small_sweep.run(workdir, "tests.faults.dying", env={"DIES_AT": str(change)})
    return done.returncode == -signal.SIGKILL


def end(workdir: Path, expected: dict[str, object]) -> str:
    """Start the sweep again and say how it ended."""
    done = small_sweep.run(workdir)
    if done.returncode:
        return f"exit status {done.returncode}: {done.stderr.strip()}"
    left = small_sweep.left_by(small_sweep.configuration(), workdir)
    wrong = small_sweep.differences(left, expected)
    leftover = [p.name for p in workdir.rglob("*") if p.name.startswith(".") or "tmp" in p.name]
    if leftover:
        return f"left over: {leftover[0]}"
    return f"differs: {', '.join(wrong)}" if wrong else "identical"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dice, counts = random.Random(options.seed), Counter()
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        began = time.monotonic()
        alone = small_sweep.run(whole)
        assert alone.returncode == 0, alone.stderr
        seconds = time.monotonic() - began
        counted = small_sweep.run(Path(folder) / "n", "tests.faults.dying", env={"DIES_AT": "0"})
        changes = int(counted.stdout.strip().splitlines()[-1].removeprefix("changes: "))
        expected = small_sweep.left_by(small_sweep.configuration(), whole)
        print(f"a sweep takes {seconds:.0f} s and changes the disk {changes} times", flush=True)
        trials = [("moment", None)] * options.moments
        trials += [("change", n) for n in range(1, changes + 1, options.every)]
        for number, (kind, change) in enumerate(trials):
            workdir = Path(folder) / f"trial{number}"
            kills = 0
            for _ in range(dice.randint(1, 3) if change is None else 1):
                if change is None:
                    kills += kill_after(dice.uniform(0.2, 1.0) * seconds, workdir)
                else:
                    kills += kill_at(change, workdir)
            outcome = end(workdir, expected)
            counts[kind, outcome] += 1
            counts[kind, "kills"] += kills
            if outcome != "identical":
                print(f"{kind} {change}: {outcome}", flush=True)
    for (kind, outcome), count in sorted(counts.items()):
        print(f"{kind}: {outcome}: {count}")
    return int(any(outcome not in ("identical", "kills") for _, outcome in counts))


if __name__ == "__main__":
    sys.exit(main())
