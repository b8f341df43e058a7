"""Download or convert a data set into the cache, once.

python -m launch.prepare --dataset=mnist                      # or fashion_mnist, cifar10, ...
python -m launch.prepare --dataset=mnist --manual_dir=FOLDER  # from the original files, offline
python -m launch.prepare --dataset=pgdl --root=ROOT --task=task1_v4
python -m launch.prepare --dataset=pgdl_sample
python -m launch.prepare --config=configs/mnist.py            # the data of that configuration
"""

from typing import Any

from .command_line import flags, run
from .configuration_file import define_config

_CONFIG = define_config("A file of configs/, or use --dataset.")
_DATASET = flags.DEFINE_string(
    "dataset", None, "A registered kind, an image set of tfds, digits or pgdl_sample."
)
_PARAMETERS = {
    name: flags.DEFINE_string(name, None, words)
    for name, words in {
        "manual_dir": "Images: folder with the original files.",
        "data_dir": "Images: folder in which tfds keeps its files.",
        "root": "pgdl: the folder that holds input_data.",
        "task": "pgdl: the task below input_data.",
        "cache": "Cache folder; else PERSIST_JAX_CACHE or ~/.cache.",
    }.items()
}


def _section() -> dict[str, Any]:
    """Return the section `dataset` of the configuration, or build it from the flags."""
    given = {name: flag.value for name, flag in _PARAMETERS.items() if flag.value is not None}
    name = _DATASET.value
    if (name is None) == (_CONFIG.value is None):
        raise ValueError("give either --dataset=NAME or --config=FILE")
    if name is None:
        for flag in given:
            raise ValueError(f"--{flag}: needs --dataset; or use --config.dataset.{flag}=VALUE")
        return _CONFIG.value.to_dict().get("dataset", {})
    # Slow imports only after the flags are parsed.
    from persist_jax import pgdl
    from persist_jax.data import DATASETS

    if name == "pgdl_sample":
        for flag in given.keys() - {"cache"}:
            raise ValueError(f"--{flag}: the embedded sample takes --cache only")
        sample = pgdl.pgdl_sample(given.get("cache"))
        return given | {"kind": "pgdl", "root": str(sample), "task": pgdl.SAMPLE_TASK}
    if name == "images":
        raise ValueError("--dataset: 'images' is the kind; name an image set, as mnist or digits")
    if name not in DATASETS:
        return {"kind": "images", "name": name} | given
    entry = DATASETS[name]
    if name == "pgdl" and entry.properties.embedded(**entry.parameters(given, "dataset")):
        raise ValueError("--root: missing, the folder that holds input_data; or set PGDL_ROOT")
    return {"kind": name} | given


def main() -> None:
    """Convert the data set that the flags name; print its sizes and the cache folder."""
    section = _section()
    from persist_jax.data import cache_folder, load_dataset

    dataset = load_dataset(section)
    sizes = ", ".join(f"{len(part.y)} {name}" for name, part in dataset.parts.items())
    print(f"{dataset.name}: {sizes}, examples of shape {dataset.input_shape}")
    print(f"cache: {cache_folder(section.get('cache'))}")


if __name__ == "__main__":
    run(main)
