"""The readers of files, each with a real file of its own and the ways to damage it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from persist_jax import pgdl
from persist_jax._plumbing.plain_files import stamp
from persist_jax.data import Dataset, Split
from persist_jax.data.cache import Conversion, read_arrays
from persist_jax.data.convert import PARTS
from persist_jax.pgdl.keras_config import read_config as read_network_config
from persist_jax.pgdl.keras_weights import read_weights
from persist_jax.store import read_history, read_report_options, read_result
from persist_jax.store.configuration import read_config
from persist_jax.store.groups import read_groups
from persist_jax.store.history import write_history
from tests.faults.mutate import mutate_bytes, mutate_json

DATA = Path(__file__).parents[1] / "data"
TASK = DATA / "pgdl_sample" / "input_data" / "task1_v4"
MODEL = TASK / "model_148"


@dataclass(frozen=True)
class Subject:
    """A reader.

    Attributes:
        prepare: writes into an empty folder what the reader needs.
        damage: `damage(folder, seed)` damages a file there, and returns the path that an error has
            to name.
        read: reads it; whether there was something to read.
    """

    prepare: Callable[[Path], object]
    damage: Callable[[Path, int], Path]
    read: Callable[[Path], bool]


def _of_json(name: str, fields: object, read: Callable[[Path], object]) -> Subject:
    """A reader of a JSON file: of other values, and sometimes of other bytes."""

    def damage(folder: Path, seed: int) -> Path:
        if seed % 4:
            content = mutate_json(fields, seed)
        else:
            content = mutate_bytes(json.dumps(fields).encode(), seed)
        return _write(folder / name, content)

    return Subject(lambda folder: None, damage, lambda path: read(path) is not None)


def _of_bytes(name: str, source: Callable[[], bytes], read: Callable[[Path], object]) -> Subject:
    def prepare(folder: Path) -> None:
        (folder / "source").write_bytes(source())

    def damage(folder: Path, seed: int) -> Path:
        content = mutate_bytes((folder / "source").read_bytes(), seed)
        return _write(folder / name, content)

    return Subject(prepare, damage, lambda path: read(path) is not None)


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


NETWORK = json.loads((MODEL / "config.json").read_text())


def _read_weights(path: Path) -> object:
    network = pgdl.network_from_config(NETWORK)
    return read_weights(network, path)


def _prepare_shards(folder: Path) -> None:
    import tensorflow as tf

    shard = TASK / "dataset_1" / "test" / "shard_0.tfrecord"
    records = list(tf.data.TFRecordDataset(str(shard)).take(4).as_numpy_iterator())
    _write_records(folder / "shard_0.tfrecord", records)
    shutil.copy(folder / "shard_0.tfrecord", folder / "source")


def _write_records(path: Path, records: list[bytes]) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def _damage_shard(folder: Path, seed: int) -> Path:
    """Damage that the checksums of the format catch, or damage of what they are taken of."""
    import tensorflow as tf

    path = folder / "shard_0.tfrecord"
    if seed % 4 == 0:
        return _write(path, mutate_bytes((folder / "source").read_bytes(), seed))
    records = list(tf.data.TFRecordDataset(str(folder / "source")).as_numpy_iterator())
    records[seed % len(records)] = mutate_bytes(records[seed % len(records)], seed)
    _write_records(path, records)
    return path


def _read_shard(path: Path) -> bool:
    from persist_jax.pgdl.convert import write_pgdl_task

    arrays = path.parent / "arrays"
    arrays.mkdir(exist_ok=True)
    write_pgdl_task(arrays, {part: [str(path)] for part in PARTS})
    x, y = read_arrays(arrays, ("train_x", "train_y"))
    part = Split(x, y)
    Dataset("task", part, part, part, classes=10, origin=lambda part, position: str(path))
    return True


ENTRY = Conversion("entry", "no.module", "job", {"of": "a test"}, {})
_STAMPED = ("x.npy", "y.npy")


def _prepare_entry(folder: Path) -> None:
    entry = ENTRY.folder(folder)
    entry.mkdir()
    np.save(entry / "x.npy", np.linspace(0, 1, 60, dtype=np.float32).reshape(5, 3, 4))
    np.save(entry / "y.npy", np.arange(5, dtype=np.int32))
    shutil.copytree(entry, folder / "source")


def _damage_entry(folder: Path, seed: int) -> Path:
    """Another record, or another array that the record's checksums agree with."""
    entry = ENTRY.folder(folder)
    for name in _STAMPED:
        content = (folder / "source" / name).read_bytes()
        _write(entry / name, mutate_bytes(content, seed) if seed % 2 else content)
    files = {name: stamp(entry / name) for name in _STAMPED}
    record = {"key": ENTRY.full_key, "files": files}
    content = json.dumps(record).encode() if seed % 2 else mutate_json(record, seed)
    _write(entry / "entry.json", content)
    return entry


def _read_entry(path: Path) -> bool:
    if not ENTRY.is_done(path.parent):
        return False
    return read_arrays(path, ("x", "y")) is not None


ACCURACY = {"train": 0.5, "validation": 0.25, "test": 0.75}
RUN = {"network": "mlp", "regulariser": "t1", "weight": 0.001, "seed": 3}
COUNTS = {"neurons": 9, "constant": 1, "clusters": 2, "clustered": 5}
RESULT = RUN | {
    "status": "completed", "reason": None, "epochs": 12, "best_epoch": 8, "best_iteration": 80,
    "validation_loss": 0.5, "accuracy": {"initial": ACCURACY, "trained": ACCURACY},
    "seconds": 3.25, "redundancy": {
        "threshold": 0.9, "examples": 43, "initial": None,
        "trained": COUNTS | {"deaths": [0.0, 0.1, 0.2, 0.3, 1.0]},
    },
}  # fmt: skip
GROUP = {"runs": [RUN, RUN | {"seed": 4}], "continued_at": None}
SWEEP = {
    "name": "grid", "dataset": {"kind": "images", "name": "digits", "cache": None},
    "models": {"a": {"kind": "mlp", "hidden": [4]}, "b": {"kind": "mlp", "hidden": [5]}},
    "networks": ["a", "b"], "regularisers": ["none", "t2"], "terms": {"t2": {"alpha": 0.5}},
    "weights": [1e-6, 1.0], "seeds": [0, 1], "train": {"learning_rate": 0.1},
    "continued": False, "parallel": "lanes", "lane_strategy": "auto", "devices": None,
    "max_lanes": 0, "report": {"significance": 0.05, "test": "nemenyi", "correction": "holm"},
    "checksums": {"a": "aa", "b": "bb"}, "dataset_checksum": "dd",
}  # fmt: skip
HISTORY = {
    "train_loss": np.linspace(1, 0, 20), "train_term": np.zeros(20), "seconds": np.ones(2),
    "validation_loss": np.ones(2), "validation_accuracy": np.ones(2),
    "deaths": np.ones((3, 4), np.float32), "deaths_iteration": np.arange(3),
}  # fmt: skip


def _history() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return write_history(folder, HISTORY).read_bytes()


SUBJECTS = {
    "network": _of_json("config.json", NETWORK, read_network_config),
    "weights": _of_bytes("w.hdf5", (MODEL / "weights.hdf5").read_bytes, _read_weights),
    "shard": Subject(_prepare_shards, _damage_shard, _read_shard),
    "model_configs": _of_json(
        "model_configs.json",
        json.loads((DATA / "pgdl_sample/reference_data/task1_v4/model_configs.json").read_text()),
        lambda path: pgdl.task.read_model_configs(path.parent),
    ),
    "cache": Subject(_prepare_entry, _damage_entry, _read_entry),
    "result": _of_json("result.json", RESULT, lambda path: read_result(path.parent)),
    "sweep": _of_json("config.json", SWEEP, lambda path: read_config(path.parent)),
    "report": _of_json("config.json", SWEEP, lambda path: read_report_options(path.parent)),
    "group": _of_json("groups/g/group.json", GROUP, lambda path: read_groups(path.parents[2])),
    "history": _of_bytes("history.npz", _history, lambda path: read_history(path.parent)),
}
