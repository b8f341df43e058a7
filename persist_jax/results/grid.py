"""How many runs of a sweep's grid have no result yet."""

import itertools
from typing import Any

from persist_jax.results.seeds import BASELINE
from persist_jax.store import SweepFolder


def missing_runs(sweep: SweepFolder) -> int:
    """How many runs `config.json` describes that have no result; 0 where it describes no grid."""
    try:
        described = set(_described(sweep.config))
    except (KeyError, TypeError, ValueError):
        return 0  # a file of another version, of which only the name has to hold
    ended = {(r.network, r.regulariser, f"{r.weight:g}", r.seed) for r in sweep.grid_records}
    return len(described - ended)


def _described(config: dict[str, Any]) -> list[tuple[str, str, str, int]]:
    own = config.get("weights_of") or {}
    return [
        (network, name, f"{weight:g}", seed)
        for network, name in itertools.product(config["networks"], config["regularisers"])
        for weight in ((0.0,) if name == BASELINE else own.get(name, config["weights"]))
        for seed in config["seeds"]
    ]
