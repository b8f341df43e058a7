"""Networks and tasks of the PGDL competition: `read_network`, `read_task`."""

from persist_jax.data.pgdl_task import read_task
from persist_jax.networks.keras_weights import read_network

__all__ = ["read_network", "read_task"]
