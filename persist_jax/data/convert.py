"""Conversions into plain arrays, in a process of their own: `python -m persist_jax.data.convert`.

Reads the arguments as JSON from standard input, writes into the folder on the command line, and
says in one line on standard error why it could not. TensorFlow is imported in this process only.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from persist_jax.data.pgdl_sample import write_pgdl_sample

PARTS = ("train", "test")


def _save(folder: Path, part: str, x: np.ndarray, y: np.ndarray) -> None:
    np.save(folder / f"{part}_x.npy", x)
    np.save(folder / f"{part}_y.npy", y.astype(np.int32))


def write_images(
    folder: Path, name: str, data_dir: str | None = None, manual_dir: str | None = None
) -> None:
    """Write the train and test images of a tfds data set, pixels as they are stored."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import downloader

    downloader.MAX_RETRIES = 1  # ten keep a machine without network waiting for minutes
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, ValueError):
        raise ValueError("tfds has no data set of this name") from None
    wrong = {"image", "label"} - set(builder.info.features or {})
    if wrong:
        raise ValueError(f"its examples have no {' and no '.join(sorted(wrong))}")
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    try:
        builder.download_and_prepare(download_config=config)
    except Exception as error:
        raise ValueError(_both_ways(builder, name, manual_dir, error)) from None
    missing = [part for part in PARTS if part not in builder.info.splits]
    if missing:
        raise ValueError(f"it has no split {missing[0]!r}")
    # One file after the other, so that "by position" means the stored order.
    one_by_one = tfds.ReadConfig(interleave_cycle_length=1)
    for part in PARTS:
        stored = builder.as_dataset(split=part, batch_size=-1, read_config=one_by_one)
        arrays = tfds.as_numpy(stored)
        _save(folder, part, arrays["image"], arrays["label"])


def _both_ways(builder: Any, name: str, manual_dir: str | None, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    files = sorted({info.filename for info in builder.url_infos.values()})
    which = ", ".join(files[:4]) + (", ..." if len(files) > 4 else "")
    tried = f" (tried manual_dir {manual_dir})" if manual_dir else ""
    return (
        f"download or preparation failed{tried}: {type(error).__name__}: {reason}; either run "
        f"`python -m launch.prepare --dataset={name}` with a network, or put the original files "
        f"({which}) into a folder and add --manual_dir=FOLDER"
    )


def write_pgdl_task(folder: Path, shards: dict[str, list[str]]) -> None:
    """Write the examples of TFRecord shards, in the order given."""
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
        _save(folder, part, x, y)


JOBS: dict[str, Callable[..., None]] = {
    "images": write_images,
    "pgdl_task": write_pgdl_task,
    "pgdl_sample": write_pgdl_sample,
}


def main(job: str, folder: str) -> None:
    """Run one conversion; exit status 2 with one line when the input is at fault."""
    try:
        JOBS[job](Path(folder), **json.load(sys.stdin))
    except (ValueError, OSError) as error:
        line = " ".join(str(error).split())
        print(f"error: {line}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main(*sys.argv[1:])
