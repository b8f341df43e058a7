"""Small faults that array code is prone to, beside those of operators and numbers."""

import ast
from collections.abc import Iterator
from typing import NamedTuple

_PAIRS = [
    ("minimum", "maximum"),
    ("min", "max"),
    ("any", "all"),
    ("floor", "ceil"),
    ("zeros", "ones"),
    ("zeros_like", "ones_like"),
    ("argmin", "argmax"),
    ("sum", "mean"),
    ("pmean", "psum"),
]
# Names of ours, exchanged where both are there.
_OURS = [("lower", "higher"), ("row", "column"), ("rows", "columns"), ("train", "validation")]
OURS = {ordered for pair in _OURS for ordered in (pair, pair[::-1])}
_SYMMETRIC = ("minimum", "maximum", "min", "max", "array_equal", "promote_types")
SWAPPED = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])} | dict(OURS)


class Fault(NamedTuple):
    """Bytes `start` to `stop` of a source, and what stands there instead."""

    start: int
    stop: int
    text: str


class Source:
    """A module's text with its syntax tree."""

    def __init__(self, text: str):
        self.bytes = text.encode()
        self.tree = ast.parse(text)
        ends = [0]
        for line in self.bytes.splitlines(keepends=True):
            ends.append(ends[-1] + len(line))
        self._lines = ends
        nodes = list(ast.walk(self.tree))
        self.names = {node.id for node in nodes if isinstance(node, ast.Name)}
        self.names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}

    def span(self, node) -> tuple[int, int]:
        """Where a node begins and ends, in bytes."""
        start = self._lines[node.lineno - 1] + node.col_offset
        return start, self._lines[node.end_lineno - 1] + node.end_col_offset

    def text(self, node) -> str:
        start, stop = self.span(node)
        return self.bytes[start:stop].decode()

    def silent(self) -> list[tuple[int, int]]:
        """Spans in which a fault is none of behaviour: types, texts, the words of an error."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
                found.append(self.span(node.annotation))
            elif isinstance(node, ast.FunctionDef) and node.returns:
                found.append(self.span(node.returns))
            elif isinstance(node, ast.Raise | ast.Import | ast.ImportFrom):
                found.append(self.span(node))
        return found


def faults(source: Source) -> Iterator[Fault]:
    """A name for its opposite, a call left out, two arguments exchanged, a statement left out."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Name | ast.Attribute):
            yield from _name(source, node)
        elif isinstance(node, ast.Call):
            yield from _call(source, node)
        elif isinstance(node, ast.IfExp):
            yield Fault(*source.span(node), f"({source.text(node.body)})")
            yield Fault(*source.span(node), f"({source.text(node.orelse)})")
        elif isinstance(node, ast.stmt):
            yield from _statement(source, node)


def _name(source: Source, node: ast.Name | ast.Attribute) -> Iterator[Fault]:
    name = node.id if isinstance(node, ast.Name) else node.attr
    other = SWAPPED.get(name)
    there = other in source.names or (name, other) not in OURS
    if other and there and isinstance(node.ctx, ast.Load):
        _, stop = source.span(node)
        yield Fault(stop - len(name.encode()), stop, other)


def _call(source: Source, node: ast.Call) -> Iterator[Fault]:
    start, stop = source.span(node)
    plain = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
    if plain:
        yield Fault(start, stop, f"({source.text(plain[0])})")
    elif isinstance(node.func, ast.Attribute):
        yield Fault(start, stop, source.text(node.func.value))
    name = node.func.attr if isinstance(node.func, ast.Attribute) else source.text(node.func)
    if len(plain) >= 2 and len(plain) == len(node.args) and name not in _SYMMETRIC:
        first, second = plain[-2:]
        texts = source.text(second), source.text(first)
        between = source.bytes[source.span(first)[1] : source.span(second)[0]].decode()
        yield Fault(source.span(first)[0], source.span(second)[1], between.join(texts))
    for keyword in node.keywords if len(node.args) + len(node.keywords) > 1 else []:
        first, last = source.span(keyword)
        comma = source.bytes[last : last + 1] == b","
        yield Fault(first, last + comma, "")


def _statement(source: Source, node: ast.stmt) -> Iterator[Fault]:
    if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
        yield Fault(*source.span(node), "pass")
    elif isinstance(node, ast.AugAssign):
        yield Fault(*source.span(node), "pass")
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        read = {name.id for name in ast.walk(node.value) if isinstance(name, ast.Name)}
        name, call = node.targets[0].id, isinstance(node.value, ast.Call)
        # Of `x = f(x)` the call is left out already.
        same = call and node.value.args and source.text(node.value.args[0]) == name
        if name in read and not same:
            yield Fault(*source.span(node), "pass")
