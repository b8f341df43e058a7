"""A module's code exchanged for that of a mutant: in its functions, or as it is imported."""

import gc
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType


class Imported:
    """Which code of a module runs, from now to the end, while it is imported."""

    def __init__(self, path: Path):
        self.path, self.codes = str(path), set()
        sys.setprofile(self._note)

    def _note(self, frame, event, argument):
        if event == "call" and frame.f_code.co_filename == self.path:
            self.codes.add(frame.f_code)

    def end(self) -> set[CodeType]:
        sys.setprofile(None)
        return self.codes


class Swap:
    """The functions of an imported module whose code can be exchanged: none has run."""

    def __init__(self, path: Path, ran: set[CodeType]):
        (module,) = (m for m in sys.modules.values() if getattr(m, "__file__", None) == str(path))
        self.path, self.loader = path, module.__spec__.loader
        self.code = self._compiled(path.read_text())
        codes = dict(_pairs(self.code, self.code))
        self.functions = [
            function
            for function in gc.get_objects()
            if isinstance(function, FunctionType) and function.__code__ in codes
        ]
        self.exchangeable = {function.__code__ for function in self.functions} - ran

    def _compiled(self, source: str) -> CodeType:
        return self.loader.source_to_code(source.encode(), str(self.path))

    def possible(self, source: str) -> bool:
        """Whether the mutant differs inside of functions alone, and closes over the same names."""
        try:
            new = self._compiled(source)
        except SyntaxError:
            return False
        return all(
            old in self.exchangeable and old.co_freevars == other.co_freevars
            for old, other in _changed(self.code, new)
        )

    def apply(self, source: str) -> None:
        """Exchange it, for every function that was made of the code, wrapped or not."""
        codes = dict(_pairs(self.code, self._compiled(source)))
        for function in self.functions:
            function.__code__ = codes[function.__code__]


def _pairs(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """Every code of a module beside that of the other which is at the same place."""
    yield old, new
    yield from (
        pair for a, b in zip(_inner(old), _inner(new), strict=False) for pair in _pairs(a, b)
    )


def _inner(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _changed(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """The outermost codes that differ by more than by what is inside of them."""
    if old == new:
        return
    inner = list(zip(_inner(old), _inner(new), strict=False))
    if len(_inner(old)) != len(_inner(new)) or _own(old) != _own(new):
        yield old, new
        return
    for a, b in inner:
        # A function inside of a function is made anew with the code of the outer one.
        changed = list(_changed(a, b))
        yield from [(old, new)] if changed and _is_function(old) else changed


def _own(code: CodeType) -> tuple:
    constants = [None if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return code.co_code, code.co_names, code.co_varnames, code.co_freevars, constants


def _is_function(code: CodeType) -> bool:
    return bool(code.co_flags & 0x2)  # CO_NEWLOCALS: neither a module nor, from 3.11, a class


def serve(path: Path, source: str) -> None:
    """Let the import system find this source at that path, and no bytecode of another."""
    read, stats = SourceFileLoader.get_data, SourceFileLoader.path_stats

    def get_data(self, name):
        return source.encode() if Path(name) == path else read(self, name)

    def path_stats(self, name):
        if Path(name) == path:
            raise OSError
        return stats(self, name)

    SourceFileLoader.get_data, SourceFileLoader.path_stats = get_data, path_stats
