"""What a run records, and what is read out of it afterwards: statistics, pictures, the report."""

from persist_jax.results.records import (
    Record,
    Run,
    read_history,
    read_results,
    write_history,
    write_result,
)

__all__ = ["Record", "Run", "read_history", "read_results", "write_history", "write_result"]
