"""The shape of the code: rooms that know only the rooms below."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = [
    path
    for room in ("persist_jax", "configs", "launch", "benchmarks", "tests")
    for path in sorted((ROOT / room).rglob("*.py"))
]
# What each room may import of the package, beside itself.
BELOW = {
    "kernels": set(),
    # Independent of what it checks.
    "check": set(),
    "parameters": set(),
    "_plumbing": {"parameters"},
    "terms": {"_plumbing", "kernels", "parameters"},
    "redundancy": {"_plumbing", "kernels", "terms"},
    "models": {"_plumbing", "parameters", "terms"},
    "data": {"_plumbing", "parameters"},
    "pgdl": {"_plumbing", "data", "models", "parameters"},
    "store": {"_plumbing", "parameters"},
    "training": {"_plumbing", "data", "kernels", "models", "parameters", "redundancy", "terms"},
    "sweep": {
        "_plumbing", "data", "kernels", "models", "parameters", "pgdl", "redundancy", "store",
        "terms", "training",
    },
    "loading": {"_plumbing", "store", "sweep"},
    "results": {"_plumbing", "parameters", "store"},
}  # fmt: skip
# What only some rooms may know of the libraries around us.
OUTSIDE = {
    "tensorflow": {"data", "pgdl"},
    "tensorflow_datasets": {"data"},
    "ml_collections": {"sweep"},
    "absl": set(),
    "orbax": {"store"},
    "tensorboardX": {"store"},
    "matplotlib": {"redundancy", "results"},
}


def _imported(path: Path) -> set[str]:
    """Every module that a file imports, at its top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # `from persist_jax import models` imports a room as well.
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _room(path: Path) -> str:
    return path.relative_to(ROOT / "persist_jax").with_suffix("").parts[0]


PACKAGE = [path for path in CODE if path.is_relative_to(ROOT / "persist_jax")]
ROOMS = [path for path in PACKAGE if _room(path) != "__init__"]


def test_every_file_is_in_a_known_room():
    assert {_room(path) for path in ROOMS} == set(BELOW)


@pytest.mark.parametrize("room", BELOW)
def test_nothing_imports_upwards(room):
    for path in (path for path in ROOMS if _room(path) == room):
        names = [name.split(".") for name in _imported(path)]
        ours = {parts[1] for parts in names if parts[0] == "persist_jax"}
        assert ours <= BELOW[room] | {room}, path
        assert not {parts[0] for parts in names} & {"launch", "configs", "benchmarks"}, path


@pytest.mark.parametrize("library", OUTSIDE)
def test_libraries_stay_in_their_rooms(library):
    users = {_room(p) for p in ROOMS if any(n.split(".")[0] == library for n in _imported(p))}
    assert users <= OUTSIDE[library]


def test_rooms_are_in_an_order():
    placed: set[str] = set()
    while left := [room for room in BELOW if room not in placed]:
        ready = {room for room in left if BELOW[room] <= placed}
        assert ready, f"a circle among {left}"
        placed |= ready


def test_training_names_no_file():
    for path in ROOMS:
        if _room(path) != "training":
            continue
        assert not _imported(path) & {"os", "pathlib.Path", "io", "shutil", "tempfile"}, path
        strings = [
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        endings = (".npz", ".json", ".csv", ".html", ".png")
        assert not [text for text in strings if text.endswith(endings)], path
