import json

import pytest

from persist_jax.store.files import replace_json
from persist_jax.store.group_file import read_group, write_group
from persist_jax.store.record import Accuracy
from persist_jax.store.run import Run

RUNS = (Run("mlp", "t1", 1e-6, 0), Run("mlp", "t1", 1.0, 3))
ACCURACY = Accuracy(train=0.5, validation=0.25, test=0.75)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "group-t1.json"
    write_group(path, 4, RUNS, [1, None], [ACCURACY, ACCURACY])
    return path


def test_a_group_survives_the_disk(path):
    group = read_group(path)
    assert tuple(member.run for member in group.runs) == RUNS
    assert (group.epoch, group.slots) == (4, (1, None))
    assert group.initial == (ACCURACY, ACCURACY)
    assert json.loads(path.read_text())["runs"][1] == {
        "network": "mlp", "regulariser": "t1", "weight": 1.0, "seed": 3,
    }  # fmt: skip


def _without_checksum(path):
    fields = json.loads(path.read_text())
    del fields["crc32"]
    return fields


@pytest.mark.parametrize(
    "change, words",
    [
        ({"epoch": -1}, "epoch: -1 must be at least 0"),
        ({"epoch": "4"}, "epoch: '4' is not a whole number"),
        ({"slots": []}, r"slots: \[\] are not lanes of 2 runs"),
        ({"slots": [0, 0]}, r"slots: \[0, 0\] are not lanes"),
        ({"slots": [2]}, r"slots: \[2\] are not lanes"),
        ({"slots": [None]}, r"slots: \[None\] are not lanes"),
        ({"initial": []}, "initial: 0 accuracies of 2 runs"),
        ({"runs": [["mlp", "t1", 1.0, 0]]}, r"runs\[0\]: "),
        ({"runs": []}, "slots: "),
        ({"more": 1}, "more: unknown field"),
        ({"crc32": "00000000"}, "damaged, or changed by hand; if that was meant, delete its"),
    ],
)
def test_a_file_that_does_not_hold_is_named(path, change, words):
    replace_json(path, _without_checksum(path) | change, checksum=False)
    with pytest.raises(ValueError, match=f"^{path}: {words}[^\n]*$"):
        read_group(path)
