"""The mutants of a module: its source with one small fault each."""

import ast
import hashlib
import random
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from tests.mutants.faults import Fault, Source, faults

# Cosmic Ray exchanges a `+` for eleven other operators, of which most fail at once in the same
# way: of one kind this many are taken at one place.
_AT_ONE_PLACE = 2


class Mutant(NamedTuple):
    """A module with one fault."""

    line: int
    change: str
    source: str

    @property
    def id(self) -> str:
        return hashlib.sha256(self.source.encode()).hexdigest()[:16]


def mutants(text: str, seed: int) -> list[Mutant]:
    """The mutants of a source text, in the order of its lines.

    They are those of Cosmic Ray's operators and of `faults`, but for types, docstrings and the
    words of errors. The seed draws among exchanges of one operator for another.
    """
    source = Source(text)
    silent, same = source.silent(), ast.dump(source.tree)
    found, seen = [], {same}
    for fault in [*faults(source), *_of_cosmic_ray(source, random.Random(seed))]:
        if any(start <= fault.start and fault.stop <= stop for start, stop in silent):
            continue
        code = (source.bytes[: fault.start] + fault.text.encode() + source.bytes[fault.stop :])
        mutated = code.decode()
        try:
            dump = ast.dump(ast.parse(mutated))
        except SyntaxError:
            continue
        if dump not in seen:
            seen.add(dump)
            found.append(_described(source, fault, mutated))
    return sorted(found, key=lambda mutant: mutant.line)


def _described(source: Source, fault: Fault, mutated: str) -> Mutant:
    first = source.bytes.rfind(b"\n", 0, fault.start) + 1
    last = source.bytes.find(b"\n", fault.stop)
    before = " ".join(source.bytes[first:last].decode().split())
    after = source.bytes[first : fault.start].decode() + fault.text
    after = " ".join((after + source.bytes[fault.stop : last].decode()).split())
    return Mutant(source.bytes[: fault.start].count(b"\n") + 1, f"{before}  ->  {after}", mutated)


def _of_cosmic_ray(source: Source, generator: random.Random) -> Iterator[Fault]:
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.operators.provider import OperatorProvider

    text, provider = source.bytes.decode(), OperatorProvider()
    nodes = list(ast_nodes(get_ast(text)))
    choices = defaultdict(list)
    for name in provider:
        # Identity is only asked of None, and there both words of AddNot are the same.
        if provider[name].arguments() or name.endswith(("_Is", "_IsNot")):
            continue
        operator = provider[name]()
        places = [place for node in nodes for place in operator.mutation_positions(node)]
        for occurrence, place in enumerate(places):
            choices[name.split("_")[0], place].append((operator, occurrence))
    for operators in choices.values():
        for choice in generator.sample(operators, min(_AT_ONE_PLACE, len(operators))):
            yield _difference(source.bytes, mutate_code(text, *choice).encode())


def _difference(before: bytes, after: bytes) -> Fault:
    start = next(k for k, (a, b) in enumerate(zip(before, after, strict=False)) if a != b)
    most = min(len(before), len(after)) - start
    same = next((k for k in range(most) if before[-1 - k] != after[-1 - k]), most)
    return Fault(start, len(before) - same, after[start : len(after) - same].decode())
