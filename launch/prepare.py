"""Download or convert a data set into the cache, once.

python -m launch.prepare --dataset=mnist                      # or fashion_mnist, cifar10, ...
python -m launch.prepare --dataset=mnist --manual_dir=FOLDER  # from the original files, offline
python -m launch.prepare --dataset=pgdl --root=ROOT --task=task1_v4
python -m launch.prepare --dataset=pgdl_sample
"""

from absl import flags

from launch import command_line
from persist_jax import data

_DATASET = flags.DEFINE_string(
    "dataset", None, "digits, an image set of tfds, pgdl or pgdl_sample.", required=True
)
_MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder with the original image files.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where tfds keeps its files.")
_ROOT = flags.DEFINE_string("root", None, "pgdl: the folder that holds input_data.")
_TASK = flags.DEFINE_string("task", "task1_v4", "pgdl: the task below input_data.")
_CACHE = flags.DEFINE_string("cache", None, "Cache folder; else PERSIST_JAX_CACHE or ~/.cache.")


def _load() -> data.Dataset:
    name, cache = _DATASET.value, _CACHE.value
    if name == "pgdl" and not _ROOT.value:
        raise ValueError("--root: missing, the folder that holds input_data")
    if name == "pgdl":
        return data.read_task(data.task_folder(_ROOT.value, _TASK.value), cache=cache).dataset
    if name == "pgdl_sample":
        sample = data.task_folder(data.pgdl_sample(cache), data.SAMPLE_TASK)
        return data.read_task(sample, cache=cache).dataset
    return data.load_images(
        name, data_dir=_DATA_DIR.value, manual_dir=_MANUAL_DIR.value, cache=cache
    )


def main() -> None:
    """Convert what the flags name, and say what it is and where."""
    dataset = _load()
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    sizes = ", ".join(f"{len(part.y)} {name}" for name, part in parts.items())
    print(f"{dataset.name}: {sizes}, examples of shape {dataset.input_shape}")
    print(f"cache: {data.cache_folder(_CACHE.value)}")


if __name__ == "__main__":
    command_line.run(main)
