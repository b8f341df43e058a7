"""Every reader of files against thousands of damaged ones.

    python -m tests.faults.readers [--inputs 10000] [--reader NAME ...] [--first SEED]

A real file of each reader is damaged by a seed and read again. Whatever comes of it but a value or
a `ValueError` of one line that names the file is printed with its seed, and so are what takes over
10 s or 1 GB. Each reader runs in a worker process of its own, so that a crash is one more finding:
the next worker goes on with the seed after it. `--first SEED --inputs 1` repeats a finding.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from tests.faults.subjects import SUBJECTS, Subject

WORKER = "tests.faults.readers"
LONGEST, LARGEST = 10.0, 1 << 30
_LINE = 1000


@dataclass
class Tally:
    """What became of the damaged files of a reader."""

    refused: int = 0
    accepted: int = 0
    slowest: float = 0.0
    megabytes: float = 0.0
    findings: list[str] = field(default_factory=list)

    def add(self, row: dict[str, Any]) -> None:
        """Count one input."""
        self.slowest = max(self.slowest, row["seconds"])
        self.megabytes = max(self.megabytes, row["megabytes"])
        if row["seconds"] > LONGEST:
            self.findings.append(f"seed {row['seed']}: {row['seconds']:.1f} s")
        if row["outcome"] == "refused":
            self.refused += 1
        elif row["outcome"] == "accepted":
            self.accepted += 1
        else:
            self.findings.append(f"seed {row['seed']}: {row['outcome']}")


def outcome(subject: Subject, path: Path) -> str:
    """Read a damaged file: "refused", "accepted", or what should not be."""
    try:
        return "accepted" if subject.read(path) else "refused"
    except ValueError as error:
        line = str(error)
        if type(error) is not ValueError:
            return f"{type(error).__name__}: {line[:200]!r}"
        if "\n" in line or len(line) > _LINE:
            return f"not one line: {line[:200]!r}"
        return "refused" if str(path) in line else f"does not name the file: {line[:200]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]!r}"


def inputs(subject: Subject, first: int, count: int) -> Iterator[dict[str, Any]]:
    """One row per seed, in this process, which must not need 1 GB more than it has."""
    with tempfile.TemporaryDirectory() as folder:
        subject.prepare(Path(folder))
        # The threads of JAX take address space once, whatever is read.
        jax.block_until_ready(jax.jit(jnp.dot)(jnp.ones((64, 64)), jnp.ones((64, 64))))
        before = _peak()
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + LARGEST
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
        for seed in range(first, first + count):
            signal.alarm(3 * int(LONGEST))  # ends this process, wherever it hangs
            path = subject.damage(Path(folder), seed)
            start = time.perf_counter()
            found = outcome(subject, path)
            seconds = time.perf_counter() - start
            grown = _peak() - before
            yield {"seed": seed, "outcome": found, "seconds": seconds, "megabytes": grown}


def attack(name: str, first: int, count: int) -> Tally:
    """Damaged files of one reader, in workers that may crash."""
    tally, seed, end = Tally(), first, first + count
    while seed < end:
        seed, why = _worker(name, seed, end - seed, tally)
        if why is not None:
            tally.findings.append(f"seed {seed}: {why}")
            seed += 1
    return tally


def _worker(name: str, first: int, count: int, tally: Tally) -> tuple[int, str | None]:
    """Rows of one process: the seed after the last one, and why it ended before its time."""
    command = [sys.executable, "-m", WORKER, "--worker", name]
    command += ["--first", str(first), "--inputs", str(count)]
    quiet = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    quiet |= {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "MALLOC_ARENA_MAX": "2"}
    with tempfile.TemporaryFile() as errors:
        pipes = {"stdout": subprocess.PIPE, "stderr": errors}
        with subprocess.Popen(command, env=quiet, **pipes) as child:
            rows = 0
            for line in child.stdout:
                tally.add(json.loads(line))
                rows += 1
        if not child.returncode:
            return first + rows, None
        errors.seek(0)
        last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
        why = "hangs" if child.returncode == -signal.SIGALRM else f"exit {child.returncode} {last}"
        return first + rows, why


def _peak() -> float:
    """Most resident memory so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--reader", action="append", choices=sorted(SUBJECTS))
    parser.add_argument("--worker", choices=sorted(SUBJECTS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        for row in inputs(SUBJECTS[given.worker], given.first, given.inputs):
            print(json.dumps(row), flush=True)
        return 0
    print("| reader | inputs | refused | accepted | slowest, s | memory, MB | findings |")
    print("|---|---:|---:|---:|---:|---:|---:|", flush=True)
    found = {}
    for name in given.reader or SUBJECTS:
        tally = attack(name, given.first, given.inputs)
        print(
            f"| {name} | {given.inputs} | {tally.refused} | {tally.accepted} | "
            f"{tally.slowest:.2f} | {tally.megabytes:.0f} | {len(tally.findings)} |",
            flush=True,
        )
        found[name] = tally.findings
    for name, findings in found.items():
        for finding in findings:
            print(f"{name}: {finding}")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
