"""Read and write a sweep's folder; no other package knows its file names."""

from persist_jax.store.configuration import Configuration, ReportOptions, grid
from persist_jax.store.history import read_history, write_history
from persist_jax.store.record import Record, has_result, read_result, read_results, write_result
from persist_jax.store.run import Run
from persist_jax.store.sweep_folder import (
    SweepFolder,
    read_report_options,
    read_sweep,
    read_sweeps,
    report_folder,
)

__all__ = [
    "Configuration",
    "Record",
    "ReportOptions",
    "Run",
    "SweepFolder",
    "grid",
    "has_result",
    "read_history",
    "read_report_options",
    "read_result",
    "read_results",
    "read_sweep",
    "read_sweeps",
    "report_folder",
    "write_history",
    "write_result",
]
