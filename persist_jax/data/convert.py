"""Conversions into plain arrays, in a process of their own: `python -m persist_jax.data.convert`.

Reads the arguments as a line of JSON from standard input, writes into the folder on the command
line, and says in one line on standard error why it could not. It ends with the process that started
it, which holds standard input open. TensorFlow is imported in this process only.
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
    """Write the examples and labels of a part as `read_arrays` finds them."""
    kept = np.iinfo(np.int32)
    if y.size and not kept.min <= y.min() <= y.max() <= kept.max:
        raise ValueError(f"{part}: labels from {y.min()} to {y.max()} do not fit int32")
    np.save(folder / f"{part}_x.npy", x)
    np.save(folder / f"{part}_y.npy", y.astype(np.int32))


def write_images(
    folder: Path, name: str, data_dir: str | None = None, manual_dir: str | None = None
) -> None:
    """Write the train and test images of a tfds data set, pixels as they are stored."""
    with needed_by("an image set of tfds", "prepare"):
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
    """Run one conversion; exit status 2 with one line when the input or a package is at fault.

    Args:
        jobs: conversions by name, called with the folder and the arguments.
        job: name of the conversion.
        folder: the folder to write into, which is there and empty.
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
    """Wait for the end of standard input; nobody would take up what is converted after it."""
    # Not through `sys.stdin`, whose lock a daemon thread must not hold when Python ends.
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    main({"images": write_images}, *sys.argv[1:])
