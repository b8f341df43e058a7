"""The command as one of several processes that train each run together."""

import random
import signal
import socket
import time

import numpy as np
import pytest

from persist_jax.store import read_history, read_results
from tests.commands import run_command
from tests.faults import small_sweep

CHANGED = {
    "devices": None,
    "regularisers": "none,t1",
    "weights": "0.001",
    "parallel": "batch",
    "train.epochs": "20",
    "train.patience": "1000",
    "train.checkpoint_every": "2",
}


def _start(workdir, *flags, devices=2, **environment):
    environment = small_sweep.environment(**environment)
    environment["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={devices}"
    command = small_sweep.command(workdir, *flags, changed=CHANGED)
    return small_sweep.start(command, env=environment)


def _start_two(workdir, *flags):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    together = ("--distributed", f"--coordinator_address={address}", "--num_processes=2")
    return [_start(workdir, *together, f"--process_id={i}", *flags) for i in range(2)]


def _end(process, status=0):
    out, error = process.communicate(timeout=300)
    assert process.returncode == status, error
    return out, error


def _until_it_trains(workdir, processes, since=0):
    """Until they have trained three epochs, with a checkpoint among them."""
    started = time.monotonic()
    while _trained(workdir) < since + 3:
        assert all(process.poll() is None for process in processes)
        assert time.monotonic() - started < 200
        time.sleep(0.02)


def _trained(workdir):
    """Epochs under T1 so far."""
    paths = (workdir / "runs/mlp_0/t1").glob("*/seed0/epochs.jsonl")
    return max((len(path.read_bytes().splitlines()) for path in paths), default=0)


def _close(ours, theirs, **tolerances):
    """To the bit, or to rounding; all but the clock and the origins."""
    pairs = list(zip(read_results(ours), read_results(theirs), strict=True))
    assert len(pairs) == 2
    for one, other in pairs:
        assert one.run == other.run and one.epochs == other.epochs
        one, other = (dict(read_history(record.folder)) for record in (one, other))
        assert one.keys() == other.keys()
        for name in one.keys() - {"seconds"}:
            np.testing.assert_allclose(one[name], other[name], **tolerances, err_msg=name)


@pytest.mark.parametrize(
    "flags, line",
    [
        (("--num_processes=2",), "--num_processes: belongs to --distributed"),
        (("--distributed", "--executor=processes"), "--executor: 'processes' trains groups in"),
        (("--distributed", "--config.parallel=lanes"), "parallel: 'lanes' must be 'batch' with"),
        (("--distributed",), "--distributed: coordinator_address should be defined."),
        (("--distributed", "--num_processes=0"), "--num_processes=0: "),
    ],
)
@pytest.mark.slow
def test_what_processes_cannot_do_is_one_line(tmp_path, flags, line):
    module, *arguments = small_sweep.command(tmp_path, *flags, changed=CHANGED)[2:]
    done = run_command(module, *arguments, environment=small_sweep.environment())
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and line in done.stderr


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """As tasks of a SLURM job are started, which JAX finds in the environment."""
    folder = tmp_path_factory.mktemp("two")
    job = {"SLURM_JOB_ID": str(random.randrange(4000)), "SLURM_STEP_NODELIST": "localhost"}
    job |= {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_NODES": "1"}
    tasks = [job | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(2)]
    outs = [_end(process) for process in [_start(folder, "--distributed", **t) for t in tasks]]
    assert "sharing each batch" in outs[0][0] and "on 4 devices" in outs[0][0]
    # The second one says nothing of its own.
    assert not any(word in outs[1][0] for word in ("digits", "mlp_0", "Report", "Seconds"))
    return folder


@pytest.mark.slow
def test_two_processes_equal_one_with_one_device(two, tmp_path):
    """To rounding: between processes sums are taken in another order, as the origins say.

    That one process with four devices equals it too is shown where no command is needed.
    """
    _end(_start(tmp_path, devices=1))
    _close(two, tmp_path, rtol=1e-4, atol=1e-5)
    assert [r.origins[0].processes for r in read_results(tmp_path)] == [1, 1]
    origins = [record.origins[0] for record in read_results(two)]
    assert [(origin.processes, origin.devices) for origin in origins] == [(2, 4), (2, 4)]


@pytest.mark.slow
def test_after_a_signal_and_after_a_kill_the_same_commands_go_on(two, tmp_path):
    processes = _start_two(tmp_path)
    _until_it_trains(tmp_path, processes)
    processes[1].send_signal(signal.SIGINT)
    outs = [_end(process, status=130) for process in processes]
    assert "Saved. Run the same command again" in outs[0][0]
    words = "Stopping after this epoch, which is saved; interrupt again to stop at once.\n"
    assert words in outs[1][1]
    saved = _trained(tmp_path)
    processes = _start_two(tmp_path)
    _until_it_trains(tmp_path, processes, saved)
    started = time.monotonic()
    processes[0].kill()  # the one that writes
    processes[1].communicate(timeout=300)
    assert processes[1].returncode != 0 and time.monotonic() - started < 120
    for process in _start_two(tmp_path):
        _end(process)
    _close(tmp_path, two, rtol=0)


@pytest.mark.slow
def test_what_is_wrong_with_the_folder_ends_all(two):
    other = "--config.train.optimiser.learning_rate=0.5"
    first, second = _start_two(two, other)
    assert "train.optimiser.learning_rate: 0.5, but " in _end(first, status=2)[1]
    second.communicate(timeout=300)
    assert second.returncode != 0
