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

fields = mnist.get_config("digits")
fields.networks, fields.regularisers, fields.devices = ("mlp_0",), ("t1",), 1
fields.weights, fields.lane_strategy = tuple(i / 1000 for i in range(1, 9)), "vmap"
fields.models.mlp_0.hidden = (1500, 1500)
fields.train.update(batch_size=600, epochs=1, snapshot_every=0)
config, _ = read_configuration(fields)
experiment = load_experiment(config)
programs = experiment.programs("mlp_0", "t1")
for lanes in (8, 4):
    programs.compile(lanes)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[2]) * 2**20,) * 2)
print(run_sweep(experiment, Path(sys.argv[1])))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="no limit of the address space")
def test_a_machine_without_the_memory(tmp_path):
    """Eight lanes of n = 3010 take 8 x 36 MB for correlations alone."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path, "700"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "True", done.stderr
    assert "mlp_0 t1: out of memory; retrying with 4 lanes" in done.stderr.splitlines()
    assert len(read_results(tmp_path)) == 8
