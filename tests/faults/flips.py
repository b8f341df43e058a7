"""Flip one bit of a sweep's folder, go on, and compare with a sweep that was let alone.

    python -m tests.faults.flips --flips=300

Each flip is in one file of a folder of an interrupted sweep, in which one run has ended and the
other has two checkpoints. What is allowed: the same results to the bit, or one line, and the same
results once the bit is back.
"""

import argparse
import contextlib
import io
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from persist_jax.store.configuration import Configuration
from tests.faults import small_sweep


def interrupted(config: Configuration, workdir: Path) -> None:
    """A folder where there is everything that can be damaged: a finished run too."""
    asked = iter(range(100))
    first = config.replace(weights=[config.weights[0]])
    assert small_sweep.train(first, workdir)
    assert not small_sweep.train(config, workdir, must_stop=lambda: next(asked) >= 2)


def flip(path: Path, bit: int) -> None:
    """Turn a bit of a file around."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def outcome(config: Configuration, workdir: Path, expected: dict[str, object]) -> str:
    """How the sweep ends: "identical", the line that it says, or what is wrong."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            small_sweep.train(config, workdir)
            left = small_sweep.left_by(config, workdir)
    except ValueError as error:
        return f"error: {error}" if "\n" not in str(error) else f"wrong: lines: {error}"
    except Exception as error:
        return f"wrong: {type(error).__name__}: {error}"
    wrong = small_sweep.differences(left, expected)
    if wrong:
        return f"wrong: differs: {', '.join(wrong)}"
    return "identical, said" if "resuming from epoch" in said.getvalue() else "identical"


def trial(config: Configuration, source: Path, expected: dict, dice: random.Random) -> tuple:
    """Flip a bit of a copy: the file's kind, and how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "sweep"
        shutil.copytree(source, workdir)
        files = sorted(p for p in workdir.rglob("*") if p.is_file() and p.stat().st_size)
        path = dice.choice(files)
        bit = dice.randrange(8 * path.stat().st_size)
        flip(path, bit)
        ended = outcome(config, workdir, expected)
        if ended.startswith("error"):
            flip(path, bit)
            again = outcome(config, workdir, expected)
            ended = "one line, nothing lost" if again == "identical" else f"{ended}, then {again}"
        return path.relative_to(workdir).as_posix(), bit, ended


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    config, dice, counts = small_sweep.configuration(), random.Random(options.seed), Counter()
    allowed = {"identical", "identical, said", "one line, nothing lost"}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        small_sweep.train(config, Path(folder) / "whole")
        expected = small_sweep.left_by(config, Path(folder) / "whole")
        interrupted(config, Path(folder) / "source")
        for _ in range(options.flips):
            name, bit, ended = trial(config, Path(folder) / "source", expected, dice)
            counts[ended if ended in allowed else "wrong"] += 1
            if ended not in allowed:
                print(f"{name}, bit {bit}: {ended}", flush=True)
    for ended, count in sorted(counts.items()):
        print(f"{ended}: {count}")
    return int("wrong" in counts)


if __name__ == "__main__":
    sys.exit(main())
