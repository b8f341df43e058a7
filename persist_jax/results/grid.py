"""Count the runs of a sweep's grid that have no result yet."""

from persist_jax.store import Configuration, SweepFolder, grid


def missing_runs(sweep: SweepFolder) -> int:
    """Count the runs of `config.json` without a result; 0 if it has no grid."""
    if not {"weights", "seeds"} <= sweep.config.keys():  # a version with other defaults wrote it
        return 0
    try:
        wanted = set(grid(Configuration.read(sweep.config)))
    except ValueError:
        return 0  # another version wrote the file: only its name must be valid
    return len(wanted - {record.run for record in sweep.grid_records})
