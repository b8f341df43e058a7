"""What is written to be looked at while a run trains: lines, and event files."""

import json
import resource
import struct
from contextlib import contextmanager

import pytest

from persist_jax.store.epoch_lines import EpochLines


def _row(epoch):
    return {"epoch": epoch, "train_loss": 1 / epoch, "validation_loss": None}


def _read(folder):
    return [json.loads(line)["epoch"] for line in (folder / "epochs.jsonl").open()]


@contextmanager
def _no_file_may_exceed(size):
    """A disk that is full: the operating system writes what fits and refuses the rest."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_every_epoch_is_a_line_at_once(tmp_path):
    lines = EpochLines(tmp_path / "run", 0)
    for epoch in (1, 2):
        lines.append(_row(epoch))
        assert _read(tmp_path / "run") == list(range(1, epoch + 1))
    first, _ = (tmp_path / "run" / "epochs.jsonl").read_text().splitlines()
    assert json.loads(first) == _row(1)


@pytest.mark.parametrize("tail", ["", '{"epoch": 4, "tr', '{"epoch": 4}', "{}\n", "4\n", "\0\0\n"])
@pytest.mark.parametrize("epoch", [0, 2, 3])
def test_lines_of_epochs_that_are_trained_again_go(tmp_path, epoch, tail):
    lines = EpochLines(tmp_path, 0)
    for done in (1, 2, 3):
        lines.append(_row(done))
    with (tmp_path / "epochs.jsonl").open("a") as file:
        file.write(tail)
    lines = EpochLines(tmp_path, epoch)
    assert _read(tmp_path) == list(range(1, epoch + 1))
    lines.append(_row(epoch + 1))
    assert _read(tmp_path) == list(range(1, epoch + 2))


def test_what_did_not_fit_is_written_later(tmp_path):
    lines = EpochLines(tmp_path, 0)
    lines.append(_row(1))
    size = (tmp_path / "epochs.jsonl").stat().st_size
    with _no_file_may_exceed(size + 10):
        for epoch in (2, 3):
            with pytest.raises(OSError):
                lines.append(_row(epoch))
    assert (tmp_path / "epochs.jsonl").stat().st_size == size + 10
    lines.append(_row(4))
    assert _read(tmp_path) == [1, 2, 3, 4]


def _scalars(folder):
    """What TensorBoard shows of a folder: per tag, steps and values."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    shown = {}
    for path in sorted(folder.glob("*.tfevents.*")):
        content, start = path.read_bytes(), 0
        while start < len(content):
            (size,) = struct.unpack_from("<Q", content, start)
            event = Event.FromString(content[start + 12 : start + 12 + size])
            start += 12 + size + 4
            if event.session_log.status == SessionLog.START:
                shown = {key: value for key, value in shown.items() if key[1] < event.step}
            shown |= {(v.tag, event.step): v.simple_value for v in event.summary.value}
    return shown


def test_event_files_of_a_resumed_run_say_every_epoch_once(tmp_path):
    pytest.importorskip("tensorboardX")
    from persist_jax.store.event_files import EventFile

    run = tmp_path / "runs/mlp/t1/0.1/seed0"
    for start, value in ((0, 0.25), (2, 0.5)):
        file = EventFile(tmp_path, run, start)
        for epoch in range(start + 1, start + 4):
            file.append(_row(epoch) | {"train_loss": value})
        own = tmp_path / "tensorboard/mlp/t1/0.1/seed0"
        assert ("train_loss", start + 3) in _scalars(own)  # before it is closed
        file.close()
    expected = {("train_loss", epoch): 0.25 if epoch <= 2 else 0.5 for epoch in range(1, 6)}
    assert _scalars(own) == expected
    assert len(list(own.iterdir())) == 2
