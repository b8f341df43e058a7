"""What a person sees of a group where there is no terminal."""

import time

import pytest

from persist_jax.sweep import progress as progress_module
from persist_jax.sweep.group import Progress
from persist_jax.sweep.progress import show_progress


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(progress_module, "LONGEST_SILENCE", 0.05)


def _lines_until(capsys, words):
    text, start = "", time.monotonic()
    while words not in text:
        assert time.monotonic() - start < 20, text
        time.sleep(0.02)
        text += capsys.readouterr().out
    return text


def test_a_long_epoch_is_not_silent(impatient, capsys):
    with show_progress("[1/2] mlp t1") as report:
        _lines_until(capsys, "[1/2] mlp t1: compiling and training the first epoch for 0 s")
        report(Progress(1, 40, 10, 0.5))
        report(Progress(2, 40, 9, 0.75))
        line = _lines_until(capsys, "epoch 2 of at most 40")
        assert "9 lanes in training, best validation loss 0.5000, at most" in line
        assert " left\n" in line
    assert "[1/2] mlp t1: 2 epochs, interrupted" in capsys.readouterr().out


def test_a_short_group_is_one_line(capsys):
    with show_progress("[1/2] mlp t1") as report:
        report(Progress(1, 1, 0, 0.5))
    assert capsys.readouterr().out == "[1/2] mlp t1: 1 epochs\n"


def test_a_fault_is_not_an_end(capsys):
    with pytest.raises(KeyError), show_progress("[1/2] mlp t1") as report:
        report(Progress(1, 2, 1, 0.5))
        raise KeyError
    assert capsys.readouterr().out == ""
