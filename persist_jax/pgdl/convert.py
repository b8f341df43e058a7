"""Convert PGDL tasks in a subprocess: `python -m persist_jax.pgdl.convert`.

Only this process imports TensorFlow; see `persist_jax.data.convert`.
"""

import sys
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from persist_jax._plumbing.extras import needed_by
from persist_jax.data.convert import PARTS, main, save_part
from persist_jax.pgdl.sample import write_pgdl_sample


def write_pgdl_task(folder: Path, shards: dict[str, list[str]]) -> None:
    """Write the examples of TFRecord shards, in the order of the shards."""
    for part in PARTS:
        x, y = [], []
        for shard in shards[part]:
            for record, (image, label) in enumerate(_examples(shard)):
                if x and image.shape != x[0].shape:
                    shapes = f"{image.shape}, but the first one has {x[0].shape}"
                    raise ValueError(f"{shard}: record {record}: an example of shape {shapes}")
                x.append(image)
                y.append(label)
        if not x:
            raise ValueError(f"{Path(shards[part][0]).parent}: no examples")
        save_part(folder, part, np.stack(x), np.array(y))


def _examples(shard: str) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the input and the label of every record of a shard."""
    with needed_by("read_task", "prepare"):
        import tensorflow as tf
        from google.protobuf.message import DecodeError

    record = 0
    try:
        for content in tf.data.TFRecordDataset(shard).as_numpy_iterator():
            features = tf.train.Example.FromString(content).features.feature
            x = _tensor(features, "inputs", tf.float32)
            y = _tensor(features, "output", tf.int32)
            if y.ndim:
                raise ValueError(f"output: shape {y.shape}, not one label")
            yield x, int(y)
            record += 1
    except (tf.errors.OpError, DecodeError, ValueError) as error:
        reason = " ".join(str(getattr(error, "message", error)).split())[:200]
        raise ValueError(f"{shard}: not PGDL examples (record {record}: {reason})") from None


def _tensor(features: Mapping[str, Any], name: str, dtype: Any) -> np.ndarray:
    """Parse a tensor of an example; the number of its values must match its shape."""
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    content = features[name].bytes_list.value if name in features else ()
    if len(content) != 1:
        raise ValueError(f"{name}: {len(content)} tensors, not one")
    tensor = TensorProto.FromString(content[0])
    if tensor.dtype != dtype.as_datatype_enum:
        raise ValueError(f"{name}: not of type {dtype.name}")
    if tensor.tensor_content:
        values = np.frombuffer(tensor.tensor_content, dtype.as_numpy_dtype)
    else:
        values = np.array(tensor.int_val or tensor.float_val, dtype.as_numpy_dtype)
    shape = tuple(dimension.size for dimension in tensor.tensor_shape.dim)
    if min(shape, default=1) < 1 or prod(shape) != values.size:
        raise ValueError(f"{name}: {values.size} values for the shape {shape[:8]}")
    return values.reshape(shape)


if __name__ == "__main__":
    main({"pgdl_task": write_pgdl_task, "pgdl_sample": write_pgdl_sample}, *sys.argv[1:])
