"""Mutation testing: small faults put into a module, one at a time, and the tests run on each.

    pip install cosmic-ray
    python -m tests.mutants                          # the table of what is known so far
    python -m tests.mutants all --sample 60          # 60 faults in each module that is listed
    python -m tests.mutants kernels/prim.py          # every fault in one module
    python -m tests.mutants kernels/prim.py --again  # those that were not caught, once more

Which tests a module's faults run, and in which order, stands in pyproject.toml. No file is
changed: a mutant is served to the import system of a process of its own. What was found is kept in
`build/mutants/`, so a stopped command goes on where it was.
"""

import argparse
import ast
import json
import random
import tomllib
from pathlib import Path

from tests.mutants.mutation import Mutant, mutants
from tests.mutants.trial import Trial, run_all

ROOT = Path(__file__).parents[2]
FOUND = ROOT / "build" / "mutants"


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("modules", nargs="*", help="as kernels/prim.py, or all")
    parser.add_argument("--sample", type=int, help="at most so many of each module, drawn by seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="run those that were not caught")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=120, help="seconds of computing for one")
    flags = parser.parse_args()
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mutants"]
    names = list(listed) if flags.modules == ["all"] else flags.modules
    for name in names:
        drawn = draw(name, flags.sample, flags.seed)
        record = Record(name)
        left = [m for m in drawn if record.wants(m, flags.again)]
        tests = [ROOT / test for test in listed[name]]
        path = ROOT / "persist_jax" / name.partition("::")[0]
        trial = Trial(path, tests, flags.processes, flags.timeout)
        for mutant, outcome in run_all(trial, left):
            record.add(mutant, outcome)
            print(f"{name}:{mutant.line} {outcome}: {mutant.change}", flush=True)
    show([Record(name) for name in listed])


def draw(name: str, sample: int | None, seed: int) -> list[Mutant]:
    """The mutants of a module in an order that the seed decides, the first `sample` of them."""
    path, _, function = name.partition("::")
    text = (ROOT / "persist_jax" / path).read_text()
    found = mutants(text, seed)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            found = [mutant for mutant in found if node.lineno <= mutant.line <= node.end_lineno]
    random.Random(f"{seed} {name}").shuffle(found)
    return found[:sample]


class Record:
    """What is known of the mutants of a module, a line of JSON for each trial."""

    def __init__(self, name: str):
        self.name = name
        self.path = FOUND / f"{name.replace('/', '.')}.jsonl"
        self.rows: dict[str, dict] = {}
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                row = json.loads(line)
                self.rows[row["id"]] = row

    def wants(self, mutant: Mutant, again: bool) -> bool:
        row = self.rows.get(mutant.id)
        return row is None or (again and row["outcome"] == "survived")

    def add(self, mutant: Mutant, outcome: str) -> None:
        row = {"id": mutant.id, "line": mutant.line, "change": mutant.change, "outcome": outcome}
        self.rows[mutant.id] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            print(json.dumps(row, ensure_ascii=False), file=file)


def show(records: list[Record]) -> None:
    """The table, and what was not caught and is not known to change nothing."""
    print("\n| module | mutants | caught | equivalent | not caught |\n|---|---|---|---|---|")
    equivalent, left = judged(), []
    for record in records:
        survived = [row for row in record.rows.values() if row["outcome"] == "survived"]
        open_ = [row for row in survived if f"{record.name}: {row['change']}" not in equivalent]
        total, alike = len(record.rows), len(survived) - len(open_)
        print(f"| {record.name} | {total} | {total - len(survived)} | {alike} | {len(open_)} |")
        left += [f"{record.name}:{row['line']}: {row['change']}" for row in open_]
    print(*left, sep="\n")


def judged() -> set[str]:
    """The mutants that were looked at and behave as the module does, with the reason below each."""
    lines = (Path(__file__).parent / "equivalent.txt").read_text().splitlines()
    return {line for line in lines if line and not line.startswith((" ", "#"))}


if __name__ == "__main__":
    main()
