"""Data sets as arrays: images through tfds, embedded digits, PGDL tasks."""

from persist_jax.data.cache import cache_folder
from persist_jax.data.dataset import Dataset, Split
from persist_jax.data.images import load_images
from persist_jax.data.pgdl_sample import SAMPLE_TASK, pgdl_sample
from persist_jax.data.pgdl_task import Task, read_task, task_folder

__all__ = [
    "SAMPLE_TASK",
    "Dataset",
    "Split",
    "Task",
    "cache_folder",
    "load_images",
    "pgdl_sample",
    "read_task",
    "task_folder",
]
