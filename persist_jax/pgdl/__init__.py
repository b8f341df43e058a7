"""Networks and tasks of the PGDL competition: `read_network`, `read_task`."""

from persist_jax.pgdl import kind  # registers "pgdl" and "keras"
from persist_jax.pgdl.keras_config import network_from_config
from persist_jax.pgdl.keras_weights import (
    check_weights,
    read_network,
    variables_from_weights,
    write_weights,
)
from persist_jax.pgdl.sample import SAMPLE_TASK, pgdl_sample
from persist_jax.pgdl.task import read_task, stratified_split, task_folder

__all__ = [
    "SAMPLE_TASK",
    "check_weights",
    "kind",
    "network_from_config",
    "pgdl_sample",
    "read_network",
    "read_task",
    "stratified_split",
    "task_folder",
    "variables_from_weights",
    "write_weights",
]
