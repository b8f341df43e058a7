"""The grid of runs that a configuration describes, and what of it is still to train."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persist_jax.regularisers import regulariser
from persist_jax.results.records import RESULT_FILE, Run, read_result, replace_file

CONFIG_FILE = "config.json"
# Fields that decide what is run, where, and how it is shown, but not what a run's result is.
_FREE = (
    "networks", "regularisers", "weights", "seeds", "parallel", "devices", "lane_strategy",
    "max_lanes", "continued", "report", "dataset.cache", "dataset.data_dir", "dataset.manual_dir",
    "dataset.note", "train.checkpoint_every",
)


@dataclass(frozen=True)
class Plan:
    """Runs that train as lanes of one program.

    Attributes:
      runs: the runs of the group, including those that have ended since it was formed.
      file: where the group keeps its state; it exists once the group was interrupted.
    """

    runs: tuple[Run, ...]
    file: Path


def grid(config: Mapping[str, Any]) -> list[Run]:
    """Every run of a configuration: each regulariser with each weight, ``none`` once.

    Raises:
      ValueError: for an unknown regulariser, or weights that are not positive or share a folder.
    """
    weights = [float(weight) for weight in config["weights"]]
    for weight in weights:
        if not 0 < weight < float("inf"):
            raise ValueError(f"weights: {weight:g} must be above 0 and finite")
    for field in ("networks", "regularisers", "weights", "seeds"):
        names = [f"{v:g}" if field == "weights" else str(v) for v in config[field]]
        if not names:
            raise ValueError(f"{field}: at least one is needed")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{field}: {name} is there more than once")
    runs = []
    for network in config["networks"]:
        for name in config["regularisers"]:
            regulariser(name)
            for weight in [0.0] if name == "none" else weights:
                runs += [Run(network, name, weight, seed) for seed in config["seeds"]]
    return runs


def plan(config: Mapping[str, Any], workdir: Path) -> list[Plan]:
    """The groups that have runs without a result.

    A group that was interrupted goes on as it was, whatever the grid is by now, if the grid still
    wants one of its unfinished runs; all other runs form new groups.
    """
    together: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in grid(config):
        together[run.network, run.regulariser].append(run)
    plans = []
    for (network, name), runs in together.items():
        open_runs = [run for run in runs if not has_result(run.folder(workdir))]
        folder = workdir / "runs" / network / name
        plans += form_groups(open_runs, folder, "group", config["max_lanes"])
    return plans


def form_groups(open_runs: list[Run], folder: Path, prefix: str, max_lanes: int) -> list[Plan]:
    """Groups for runs without a result; files of interrupted groups lie in the folder."""
    plans = []
    for file in sorted(folder.glob(f"{prefix}-*.json")):
        members = tuple(Run(*fields) for fields in json.loads(file.read_text())["runs"])
        if set(members) & set(open_runs):
            plans.append(Plan(members, file))
            open_runs = [run for run in open_runs if run not in members]
    size = max_lanes or len(open_runs) or 1
    for start in range(0, len(open_runs), size):
        members = tuple(open_runs[start : start + size])
        # Named after its first run, which is in no other group: no two groups share a file.
        name = f"{prefix}-{members[0].regulariser}-{members[0].weight:g}-seed{members[0].seed}"
        plans.append(Plan(members, folder / f"{name}.json"))
    return plans


def has_result(folder: Path) -> bool:
    """Whether a run has ended; a broken result is an error, not a reason to train again."""
    return (folder / RESULT_FILE).exists() and read_result(folder) is not None


def settle_config(config: Mapping[str, Any], workdir: Path) -> None:
    """Write ``config.json``, unless the folder holds runs of another configuration.

    The grid may grow or shrink and the machine may change; nothing else may.

    Raises:
      ValueError: naming the first field that differs and both values.
    """
    file = workdir / CONFIG_FILE
    if file.exists() and any((workdir / "runs").glob("*")):
        before, now = (_fixed(fields) for fields in (json.loads(file.read_text()), config))
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                raise ValueError(
                    f"{name}: {now.get(name)!r}, but {workdir} holds runs with "
                    f"{before.get(name)!r}; choose another --workdir"
                )
    replace_file(file, (json.dumps(config, indent=1) + "\n").encode())


def _fixed(config: Mapping[str, Any]) -> dict[str, Any]:
    flat = flatten(json.loads(json.dumps(config)))
    return {
        name: value
        for name, value in flat.items()
        if not any(name == free or name.startswith(f"{free}.") for free in _FREE)
    }


def flatten(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields by dotted name."""
    result = {}
    for name, value in fields.items():
        nested = isinstance(value, Mapping)
        result |= flatten(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return result
