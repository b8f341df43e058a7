"""A sweep of two groups that train for some seconds, as a person starts, watches and ends it."""

import json
import time
from pathlib import Path

from persist_jax.store import read_results
from persist_jax.store.configuration import read_config
from tests.faults import small_sweep

PROCESSES = ("--executor=processes", "--workers=2")
STOPPING = "Stopping after this epoch, which is saved; interrupt again to stop at once.\n"


def start(workdir, *flags, **changed):
    changed = small_sweep.GROUPS | changed
    return small_sweep.start(small_sweep.command(workdir, *flags, changed=changed))


def end(process, status=0):
    out, error = process.communicate(timeout=300)
    assert process.returncode == status, error
    return out, error


def same(ours, theirs):
    """To the bit, all but the clock and the origins."""
    assert len(read_results(ours)) == 4
    ours, theirs = (small_sweep.left_by(read_config(folder), folder) for folder in (ours, theirs))
    assert not small_sweep.differences(ours, theirs)


def trained(workdir):
    """Epochs of every run so far."""
    # Not `**`: a search of all folders fails where one is deleted meanwhile.
    found = workdir.glob("runs/*/*/*/*/epochs.jsonl")
    return {file: file.read_text().count("\n") for file in found}


def until_both_train(process, workdir):
    """Until every run has trained some epochs since the process was started, or has ended."""
    started, before = time.monotonic(), trained(workdir)

    def goes_on(path, epochs):
        return epochs > before.get(path, 0) + 1 or (path.parent / "result.json").exists()

    while sum(goes_on(*run) for run in trained(workdir).items()) < 4:
        assert process.poll() is None and time.monotonic() - started < 200
        time.sleep(0.02)


def running(*words):
    """Processes whose command line has these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if all(word in line for word in words):
            found.append(int(path.parent.name))
    return found


def workers(workdir):
    """Processes that train in a folder, started by the command there."""
    return running("launch.sweep", f"--workdir={workdir} ", "--worker ")


def trained_once(workdir):
    """Every group has one cost line: it was trained to its end by one process."""
    labels = [json.loads(line)["group"] for line in (workdir / "costs.jsonl").open()]
    return sorted(filter(None, labels)) == ["mlp_0 l2", "mlp_1 l2"]
