"""Programs of several threads: one at a time is lowered, several are compiled side by side."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from persist_jax.training.compilation import LOWERING, Compilations, seconds_waited

PATIENCE = 20  # seconds


class Lowered:
    """Compiles once everybody is at the barrier."""

    def __init__(self, meeting):
        self._meeting = meeting

    def compile(self):
        self._meeting.wait(PATIENCE)
        return threading.get_ident


def test_two_programs_compile_side_by_side_and_lower_one_after_the_other():
    programs, meeting = Compilations(), threading.Barrier(2)
    inside, most = [], []

    def lower():
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.05)
        inside.pop()
        return Lowered(meeting)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda key: programs.get(key, lower), (1, 2)))
    assert most == [1, 1] and programs.keys() == {1, 2}


def test_one_program_is_lowered_once_for_all_threads():
    programs, meeting, lowered = Compilations(), threading.Barrier(2), []

    def lower():
        lowered.append(1)
        return Lowered(meeting)

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(programs.get, "key", lower) for _ in range(3)]
        meeting.wait(PATIENCE)
        assert len({future.result() for future in asked}) == 1
    assert len(lowered) == 1


def test_a_failed_compilation_is_tried_again():
    programs, done = Compilations(), threading.Barrier(1)

    def fail():
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="^no room$"):
        programs.get(1, fail)
    assert programs.keys() == set()
    assert programs.get(1, lambda: Lowered(done)) is threading.get_ident


def test_who_waits_counts_its_own_seconds():
    programs, done, before = Compilations(), threading.Barrier(1), seconds_waited()

    def slowly():
        threading.Event().wait(0.1)
        return Lowered(done)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(programs.get, 1, slowly).result()
        assert seconds_waited() == before
        assert pool.submit(seconds_waited).result() >= 0.1
    programs.get(2, slowly)
    assert seconds_waited() - before >= 0.1


def test_a_program_may_be_lowered_inside_of_another_lowering():
    with LOWERING:
        Compilations().get(1, lambda: Lowered(threading.Barrier(1)))
