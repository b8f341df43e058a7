"""Data sets as arrays: kinds by name, images through tfds, the embedded digits, the cache."""

from persist_jax.data.cache import cache_folder
from persist_jax.data.dataset import Dataset, Drawn, Split
from persist_jax.data.images import load_images
from persist_jax.data.registry import DATASETS, load_dataset

register = DATASETS.register

__all__ = [
    "DATASETS",
    "Dataset",
    "Drawn",
    "Split",
    "cache_folder",
    "load_dataset",
    "load_images",
    "register",
]
