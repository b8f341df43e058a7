"""Convert data sets into plain arrays in a subprocess: `python -m persist_jax.data.convert`.

It reads its arguments as a line of JSON from standard input, writes into the folder named on the
command line, and reports a failure in one line on standard error. It exits when standard input
closes: the process that started it is then gone. Only this process imports TensorFlow.
"""

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from persist_jax._plumbing.extras import needed_by
from persist_jax._plumbing.plain_files import check_regular

PARTS = ("train", "test")


def save_part(folder: Path, part: str, x: np.ndarray, y: np.ndarray) -> None:
    """Write the examples and labels of a part, for `read_arrays` of the cache to read."""
    kept = np.iinfo(np.int32)
    if y.size and not kept.min <= y.min() <= y.max() <= kept.max:
        raise ValueError(f"{part}: labels from {y.min()} to {y.max()} do not fit int32")
    np.save(folder / f"{part}_x.npy", x)
    np.save(folder / f"{part}_y.npy", y.astype(np.int32))


def write_images(
    folder: Path, name: str, data_dir: str | None = None, manual_dir: str | None = None
) -> None:
    """Write the train and test images of a tfds data set, with pixel values as stored."""
    with needed_by("an image set of tfds", "prepare"):
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core.download import downloader

    downloader.MAX_RETRIES = 1  # without a network, the default of ten takes minutes
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
    # Read the files one after another, so that positions follow the stored order.
    one_by_one = tfds.ReadConfig(interleave_cycle_length=1)
    for part in PARTS:
        for shard in builder.info.splits[part].file_instructions:
            check_regular(Path(shard.filename), may_be_empty=False)
        stored = builder.as_dataset(split=part, batch_size=-1, read_config=one_by_one)
        arrays = tfds.as_numpy(stored)
        if arrays["image"].dtype != np.uint8:
            raise ValueError(f"its images are {arrays['image'].dtype}, not of 8 bits")
        save_part(folder, part, arrays["image"], arrays["label"])


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


def main(jobs: Mapping[str, Callable[..., None]], job: str, folder: str) -> None:
    """Run one conversion; exit with status 2 and one line for wrong input or a missing package.

    Args:
        jobs: conversions by name, called with the folder and the arguments.
        job: name of the conversion.
        folder: an existing empty folder to write into.
    """
    arguments = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        jobs[job](Path(folder), **arguments)
    except (ValueError, OSError, ImportError) as error:
        line = " ".join(str(error).split())
        print(f"error: {line}", file=sys.stderr)
        raise SystemExit(2) from None


def _end_with_parent() -> None:
    """Exit when standard input closes: nobody would use the result any more."""
    # Not through `sys.stdin`: a daemon thread must not hold its lock when Python exits.
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    main({"images": write_images}, *sys.argv[1:])
