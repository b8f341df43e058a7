"""The cache: damaged entries are not used, conversion runs once, reading needs no TensorFlow."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from persist_jax import data
from persist_jax.data import cache as module

KEY = {"of": "a test"}


def _converted(monkeypatch, folder, calls):
    """An entry whose conversion is this function in place of a child process."""

    def run(name, job, target, arguments):
        calls.append(name)
        np.save(target / "x.npy", np.arange(1000))

    monkeypatch.setattr(module, "_run", run)
    return module.entry("plain", "test", KEY, {}, folder)


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
    damage(folder / "x.npy")
    assert _converted(monkeypatch, tmp_path, calls) == folder and len(calls) == 2
    np.testing.assert_array_equal(module.read_arrays(folder, ("x",))[0], np.arange(1000))


def test_failed_conversion_leaves_nothing(tmp_path, monkeypatch):
    def fail(name, job, target, arguments):
        np.save(target / "x.npy", np.arange(3))
        raise ValueError("half way")

    monkeypatch.setattr(module, "_run", fail)
    with pytest.raises(ValueError, match="half way"):
        module.entry("plain", "test", KEY, {}, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    assert _converted(monkeypatch, tmp_path, []).is_dir()


def test_simultaneous_readers_convert_once(tmp_path, monkeypatch):
    calls = []
    with ThreadPoolExecutor(4) as pool:
        one = [pool.submit(_converted, monkeypatch, tmp_path, calls) for _ in range(4)]
    assert len({future.result() for future in one}) == 1 and len(calls) == 1


def test_crashed_conversion_says_so_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"plain: KeyError: 'no such job'$"):
        module.entry("plain", "no such job", {}, {}, tmp_path)
    occupied = tmp_path / "file"
    occupied.write_text("not a folder")
    with pytest.raises(ValueError, match=f"cache folder {occupied}: "):
        module.entry("plain", "test", {}, {}, occupied)


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("PERSIST_JAX_CACHE", str(tmp_path))
    assert data.cache_folder() == tmp_path
    assert data.cache_folder("/elsewhere") == Path("/elsewhere")
    monkeypatch.delenv("PERSIST_JAX_CACHE")
    assert data.cache_folder() == Path.home() / ".cache" / "persist_jax"


def test_reading_imports_no_tensorflow(sample_root, cache):
    data.read_task(data.task_folder(sample_root, data.SAMPLE_TASK), cache=cache)
    script = """
import sys
import persist_jax.data, persist_jax.networks, persist_jax.pgdl
early = {name.split(".")[0] for name in sys.modules}
from persist_jax import data, pgdl
root, cache = sys.argv[1:]
task = pgdl.read_task(data.task_folder(root, data.SAMPLE_TASK), cache=cache)
task.initial("20")
data.load_images("digits")
late = {name.split(".")[0] for name in sys.modules}
print(early & {"tensorflow", "tensorflow_datasets", "h5py", "sklearn"}, end=" ")
print(late & {"tensorflow", "tensorflow_datasets"})
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(sample_root), str(cache)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set() set()\n"
