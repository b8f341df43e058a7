"""Run a real sweep on disks that are too small, then on one that is not.

    sudo python -m tests.faults.full_disk --sizes=20

Every disk is a `tmpfs` of its own; to mount one takes root. On a full disk a sweep has to end with
one line and exit status 2, and once there is space go on to the same results.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.faults import small_sweep


def _mount(folder: Path, kilobytes: int, *options: str) -> None:
    size = ",".join([*options, f"size={kilobytes}k"])
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], check=True)


def trial(folder: Path, kilobytes: int, expected: dict[str, object]) -> str:
    """A sweep on a disk of that size, then on a large one: how both ended."""
    folder.mkdir()
    _mount(folder, kilobytes)
    try:
        full = small_sweep.run(folder / "sweep")
        lines = full.stderr.strip().splitlines()
        # Two, where the epochs cannot be watched either.
        if full.returncode not in (0, 2) or len(lines) > 2:
            return f"wrong: exit status {full.returncode}, {len(lines)} lines: {lines[-1:]}"
        if full.returncode:
            print(f"{kilobytes} KB: {lines[-1]}", flush=True)
        _mount(folder, 1 << 20, "remount")
        again = small_sweep.run(folder / "sweep")
        if again.returncode:
            return f"wrong: then {again.stderr.strip()}"
        left = small_sweep.left_by(small_sweep.configuration(), folder / "sweep")
        if wrong := small_sweep.differences(left, expected):
            return f"wrong: differs: {', '.join(wrong)}"
        return "one line, then identical" if full.returncode else "large enough, identical"
    finally:
        subprocess.run(["umount", folder], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, default=20)
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        assert small_sweep.run(whole).returncode == 0
        expected = small_sweep.left_by(small_sweep.configuration(), whole)
        # A page is the least that a file takes.
        needed = sum(4 * -(-path.stat().st_size // 4096) for path in whole.rglob("*"))
        for number in range(options.sizes):
            kilobytes = 8 + needed * number // options.sizes
            outcome = trial(Path(folder) / f"disk{number}", kilobytes, expected)
            counts[outcome] += 1
            if outcome.startswith("wrong"):
                print(f"{kilobytes} KB: {outcome}", flush=True)
    for outcome, count in sorted(counts.items()):
        print(f"{outcome}: {count}")
    return int(any(outcome.startswith("wrong") for outcome in counts))


if __name__ == "__main__":
    sys.exit(main())
