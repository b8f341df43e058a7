"""How many runs of a sweep's grid have no result yet."""

from persist_jax.store import Configuration, SweepFolder, grid


def missing_runs(sweep: SweepFolder) -> int:
    """How many runs `config.json` describes that have no result; 0 where it describes no grid."""
    if not {"weights", "seeds"} <= sweep.config.keys():  # their defaults need not be its own
        return 0
    try:
        wanted = set(grid(Configuration.read(sweep.config)))
    except ValueError:
        return 0  # a file of another version, of which only the name has to hold
    return len(wanted - {record.run for record in sweep.grid_records})
