"""Conversions of PGDL tasks, in a process of their own: `python -m persist_jax.pgdl.convert`.

TensorFlow is imported in this process only; see `persist_jax.data.convert`.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from persist_jax.data.convert import PARTS, main, save_part
from persist_jax.extras import needed_by
from persist_jax.pgdl.sample import write_pgdl_sample


def write_pgdl_task(folder: Path, shards: dict[str, list[str]]) -> None:
    """Write the examples of TFRecord shards, in the order given."""
    with needed_by("read_task", "prepare"):
        import tensorflow as tf

    text = tf.io.FixedLenFeature([], tf.string)

    def example(record: Any) -> tuple[Any, Any]:
        features = tf.io.parse_single_example(record, {"inputs": text, "output": text})
        x = tf.io.parse_tensor(features["inputs"], tf.float32)
        return x, tf.ensure_shape(tf.io.parse_tensor(features["output"], tf.int32), [])

    for part in PARTS:
        batches: list[tuple[np.ndarray, np.ndarray]] = []
        for shard in shards[part]:
            examples = tf.data.TFRecordDataset(shard).map(example).batch(1024)
            try:
                batches += examples.as_numpy_iterator()
            except tf.errors.OpError as error:
                reason = " ".join((error.message or "").split())[:200]
                raise ValueError(f"{shard}: not PGDL examples ({reason})") from None
        shapes = {batch.shape[1:] for batch, _ in batches}
        if len(shapes) != 1:
            raise ValueError(f"{Path(shards[part][0]).parent}: examples of shapes {sorted(shapes)}")
        x, y = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        save_part(folder, part, x, y)


if __name__ == "__main__":
    main({"pgdl_task": write_pgdl_task, "pgdl_sample": write_pgdl_sample}, *sys.argv[1:])
