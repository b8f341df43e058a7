"""The cache: damaged entries are not used, and conversion runs once."""

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from persist_jax import data
from persist_jax.data import cache as module

PLAIN = module.Conversion("plain", "persist_jax.data.convert", "test", {"of": "a test"}, {})


def _converted(monkeypatch, folder, calls):
    """An entry whose conversion is this function in place of a child process."""

    def run(conversion, target):
        calls.append(conversion.name)
        np.save(target / "x.npy", np.arange(1000))

    monkeypatch.setattr(module, "_run", run)
    return module.entry(PLAIN, folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\1"),
        lambda path: path.unlink(),
        lambda path: (path.parent / "entry.json").unlink(),
        lambda path: (path.parent / "entry.json").write_text("{"),
        lambda path: (path.parent / "entry.json").write_text("[]"),
    ],
)
def test_damaged_entry_is_converted_again(tmp_path, monkeypatch, damage):
    calls = []
    folder = _converted(monkeypatch, tmp_path, calls)
    assert _converted(monkeypatch, tmp_path, calls) == folder and len(calls) == 1
    assert PLAIN.is_done(tmp_path)
    damage(folder / "x.npy")
    assert not PLAIN.is_done(tmp_path)
    assert _converted(monkeypatch, tmp_path, calls) == folder and len(calls) == 2
    np.testing.assert_array_equal(module.read_arrays(folder, ("x",))[0], np.arange(1000))


def test_failed_conversion_leaves_nothing(tmp_path, monkeypatch):
    def fail(conversion, target):
        np.save(target / "x.npy", np.arange(3))
        raise ValueError("half way")

    monkeypatch.setattr(module, "_run", fail)
    with pytest.raises(ValueError, match="half way"):
        module.entry(PLAIN, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    assert _converted(monkeypatch, tmp_path, []).is_dir()


def test_simultaneous_readers_convert_once(tmp_path, monkeypatch):
    calls = []
    with ThreadPoolExecutor(4) as pool:
        one = [pool.submit(_converted, monkeypatch, tmp_path, calls) for _ in range(4)]
    assert len({future.result() for future in one}) == 1 and len(calls) == 1


def test_crashed_conversion_says_so_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"plain: KeyError: 'no such job'$"):
        module.entry(dataclasses.replace(PLAIN, job="no such job"), tmp_path)
    occupied = tmp_path / "file"
    occupied.write_text("not a folder")
    with pytest.raises(ValueError, match=f"cache folder {occupied}: "):
        module.entry(PLAIN, occupied)


def test_folders_keep_their_names():
    """Caches of other versions stay valid."""
    conversion = module.Conversion("a", "any.module", "images", {"name": "mnist", "b": (1,)}, {})
    assert conversion.folder("/cache") == Path("/cache/a-92c217aa7bc8")


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("PERSIST_JAX_CACHE", str(tmp_path))
    assert data.cache_folder() == tmp_path
    assert data.cache_folder("/elsewhere") == Path("/elsewhere")
    monkeypatch.delenv("PERSIST_JAX_CACHE")
    assert data.cache_folder() == Path.home() / ".cache" / "persist_jax"


@pytest.mark.parametrize(
    "record",
    [b"[" * 10**5, b'{"key": 1, "files": []}', b"9" * 5000, b"\xff", b'{"files": {"\\u0000": 1}}'],
)
def test_another_record_is_no_record(tmp_path, monkeypatch, record):
    folder = _converted(monkeypatch, tmp_path, [])
    (folder / "entry.json").write_bytes(record)
    assert not PLAIN.is_done(tmp_path)


def test_an_array_that_the_record_lacks_is_named(tmp_path, monkeypatch):
    folder = _converted(monkeypatch, tmp_path, [])
    with pytest.raises(ValueError, match=f"^{folder}/y.npy: no such file$"):
        module.read_arrays(folder, ("x", "y"))
    (folder / "y.npy").write_bytes((folder / "x.npy").read_bytes()[:200])
    with pytest.raises(ValueError, match=f"^{folder}/y.npy: damaged"):
        module.read_arrays(folder, ("x", "y"))
    (folder / "x.npy").unlink()
    os.mkfifo(folder / "x.npy")
    assert not PLAIN.is_done(tmp_path)
