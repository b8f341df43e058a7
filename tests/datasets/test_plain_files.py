"""Files that somebody else wrote: none outside is read, none that is too large is unpacked."""

import os
import zipfile

import numpy as np
import pytest

from persist_jax._plumbing import plain_files
from persist_jax._plumbing.plain_files import read_arrays


def test_files_as_written_are_undamaged(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "below" / "b").write_bytes(b"")
    written = plain_files.stamps(tmp_path)
    assert written == {"a": [1, 2212294583], "below/b": [0, 0]}
    assert plain_files.first_damaged(tmp_path, written) is None
    (tmp_path / "a").write_bytes(b"2")
    assert plain_files.first_damaged(tmp_path, written) == "a"


@pytest.mark.parametrize(
    "name",
    ["/dev/zero", "../secret", "{here}/secret", "below/../../secret", "pipe", "", "\0", "nowhere"],
)
def test_only_regular_files_below_the_folder_are_read(tmp_path, monkeypatch, name):
    secret = tmp_path / "secret"
    secret.write_bytes(b"1")
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    os.mkfifo(folder / "pipe")
    right = plain_files.stamp(secret)
    name = name.format(here=tmp_path)
    monkeypatch.setattr(plain_files, "stamp", lambda path: pytest.fail(f"{path} is read"))
    assert plain_files.first_damaged(folder, {name: right}) == name


def test_a_file_of_another_size_is_not_read(tmp_path, monkeypatch):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    monkeypatch.setattr(plain_files, "stamp", lambda path: pytest.fail(f"{path} is read"))
    assert plain_files.first_damaged(tmp_path, {"large": [1, 0]}) == "large"


def test_what_would_unpack_to_more_than_the_file_is_not_unpacked(tmp_path, monkeypatch):
    arrays = {"x": np.zeros(10**6), "y": np.arange(3)}
    path = tmp_path / "history.npz"
    np.savez_compressed(path, **arrays)
    read = read_arrays(path, largest=9 * 10**6)
    np.testing.assert_equal(read, arrays)
    size = path.stat().st_size
    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "open", lambda *_, **__: pytest.fail("it is unpacked"))
        for largest, most in ((None, size), (8 * 10**6, 8 * 10**6)):
            wanted = rf"^{path}: damaged \(.*it unpacks to 8000280 bytes, at most {most} are"
            with pytest.raises(ValueError, match=wanted):
                read_arrays(path, largest)
    np.savez(path, **arrays)
    np.testing.assert_equal(read_arrays(path), arrays)


def test_a_member_that_is_no_array_is_named(tmp_path):
    path = tmp_path / "history.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("validation_loss.npy", "0.5")
    with pytest.raises(ValueError, match=rf"^{path}: damaged .*'validation_loss' is not an arr"):
        read_arrays(path)
