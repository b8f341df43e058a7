"""A checkpoint holds any arrays, empty ones too, and says why one cannot be saved."""

import numpy as np
import pytest

from persist_jax.store import checkpoints


def test_empty_arrays_come_back(tmp_path):
    tree = {"deaths": np.zeros((2, 0, 19), np.float32), "more": [np.arange(3), np.zeros(0, int)]}
    checkpoints.save(tmp_path / "1", tree)
    loaded = checkpoints.load(tmp_path / "1", tree)
    for ours, theirs in zip(
        [loaded["deaths"], *loaded["more"]], [tree["deaths"], *tree["more"]], strict=True
    ):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_a_refusal_that_is_not_of_the_disk_gives_its_reason(tmp_path):
    with pytest.raises(OSError, match="(?i)object|type") as found:
        checkpoints.save(tmp_path / "1", {"a": np.array([{}, None])})
    assert "\n" not in str(found.value) and str(tmp_path / "1") in str(found.value)
    assert checkpoints.numbered(tmp_path) == []
