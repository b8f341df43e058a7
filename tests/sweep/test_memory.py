"""Runs that do not fit into memory together train in halves; one that does not fit is one line."""

import re
import resource
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from persist_jax.store.groups import read_groups, read_state
from persist_jax.store.record import read_results
from persist_jax.sweep import load_experiment, run_sweep
from persist_jax.training.programs import Programs

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def _losses(folder):
    return {record.run.weight: record.validation_loss for record in read_results(folder)}


@pytest.fixture
def fits(monkeypatch):
    """`fits(lanes, first)`: a machine without memory for more lanes from that epoch on."""

    def limit(most, first=0):
        def train_epoch(self, lanes, wanted, epoch):
            if len(wanted) > most and epoch >= first:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9.")
            return complete(self, lanes, wanted, epoch)

        monkeypatch.setattr(Programs, "train_epoch", train_epoch)

    complete = Programs.train_epoch
    return limit


@pytest.fixture(scope="module")
def experiment(small):
    return load_experiment(small(weights=[1e-4, 1e-3, 1e-2, 0.1, 0.2], lane_strategy="vmap"))


@pytest.fixture(scope="module")
def whole(experiment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert run_sweep(experiment, folder)
    return _losses(folder)


@pytest.mark.parametrize("first", [3, pytest.param(0, marks=pytest.mark.slow)])
def test_lanes_are_halved_until_they_fit(experiment, whole, fits, tmp_path, capsys, first):
    fits(2, first)
    assert run_sweep(experiment, tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert said == [f"mlp l2: out of memory; retrying with {lanes} lanes" for lanes in (3, 2)]
    losses = _losses(tmp_path)
    assert losses.keys() == whole.keys()
    np.testing.assert_allclose([*losses.values()], [*whole.values()], rtol=2e-4)
    assert read_groups(tmp_path) == []


def test_halves_go_on_from_where_the_whole_was(experiment, fits, tmp_path):
    fits(3, 3)

    def stop():
        return len(read_groups(tmp_path)) == 2

    assert not run_sweep(experiment, tmp_path, stop)
    first, second = read_groups(tmp_path)
    assert [len(group.runs) for group in (first, second)] == [3, 2]
    assert [read_state(group, tmp_path)[0].epoch for group in (first, second)] == [3, 2]
    assert run_sweep(experiment, tmp_path)
    assert len(_losses(tmp_path)) == 5


def test_one_run_that_does_not_fit_is_one_line(experiment, fits, tmp_path, capsys):
    fits(0)
    words = "out of memory: mlp l2, one lane of n = 20 points, train.batch_size 70, lanes: lower"
    with pytest.raises(ChildProcessError, match="^4 of 4 groups failed: mlp l2; run the same"):
        run_sweep(experiment, tmp_path)
    said = capsys.readouterr().err
    assert re.search(rf"^\[1/4\] mlp l2: {re.escape(words)}.*\n\Z", said, re.M)
    assert said.count(words) == 1


LIMITED = """
import resource, sys
from pathlib import Path
from configs import mnist
from persist_jax.sweep import load_experiment, run_sweep
from persist_jax.sweep.reading import read_configuration
from persist_jax.training.programs import Programs

fields = mnist.get_config("digits")
fields.networks, fields.regularisers, fields.devices = ("mlp_0",), ("t1",), 1
fields.weights, fields.lane_strategy = (1e-3, 1e-2, 0.1, 0.2), "vmap"
fields.models.mlp_0.hidden = (3000,)
fields.train.update(batch_size=600, epochs=1, snapshot_every=0)
config, _ = read_configuration(fields)
complete = Programs.train_epoch


def train_epoch(self, lanes, wanted, epoch):
    run = complete(self, lanes, wanted, epoch)

    def limited():
        pages = int(open("/proc/self/statm").read().split()[0])
        room = pages * resource.getpagesize() + 2**26 if len(wanted) > 2 else -1
        resource.setrlimit(resource.RLIMIT_AS, (room, -1))
        return run()

    return limited


Programs.train_epoch = train_epoch
print(run_sweep(load_experiment(config), Path(sys.argv[1])))
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="no limit of the address space")
def test_a_machine_without_the_memory(tmp_path):
    """Four lanes of n = 3010 take 4 x 36 MB for correlations alone: 64 MB are left for them.

    Only the program of four lanes runs under the limit: LLVM ends a process that compiles under it.
    """
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "True", done.stderr
    assert "mlp_0 t1: out of memory; retrying with 2 lanes" in done.stderr.splitlines()
    assert len(read_results(tmp_path)) == 4
