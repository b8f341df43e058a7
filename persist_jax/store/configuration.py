"""The configuration of a sweep: its fields, its file, and what a folder's runs keep to."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from persist_jax._plumbing.validation import Given, shortened
from persist_jax.parameters import Count, Positive, Share, Size
from persist_jax.store.files import read_json, replace_json
from persist_jax.store.run import is_folder_name, runs_folder

CONFIG_FILE = "config.json"
# Fields that decide what is run, where, and how it is shown, but not what a run's result is.
_FREE = (
    "name", "notice", "networks", "regularisers", "weights", "weights_of", "seeds", "parallel",
    "devices", "lane_strategy", "max_lanes", "continued", "report", "train.checkpoint_every",
)  # fmt: skip

# Sections with an entry per network or regulariser: only those that have been trained count.
_BY_NAME = ("models", "terms", "checksums")

Section = dict[str, Any]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def _differ(values: tuple) -> tuple:
    # As a folder's name, which is what two runs would share.
    names = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"{shortened(name)} is there more than once")
    return values


Names = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_differ)]
Weights = Annotated[tuple[Positive, ...], Field(min_length=1), AfterValidator(_differ)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_differ)]


class ReportOptions(Given):
    """How the report compares regularisers.

    Attributes:
        significance: the level of the tests.
        test: of the pairs, after Friedman's.
        correction: for the number of pairs, of Wilcoxon's test.
        equivalence: accuracies that differ by less are as good as each other, in fractions of 1.
    """

    significance: Annotated[float, Field(gt=0, lt=1)] = 0.05
    test: Literal["nemenyi", "wilcoxon"] = "nemenyi"
    correction: Literal["holm", "bonferroni"] = "holm"
    equivalence: Share = 0.005


class Configuration(Given):
    """Every field of a sweep, as `configs/*.py` gives them and `config.json` keeps them.

    Attributes:
        name: of the sweep and, by default, of its folder.
        notice: what a reader of the results must know, shown on top of the report; may be empty.
        dataset: `kind`, a registered name, and that kind's own fields.
        models: by network name, `kind` and that kind's own fields; see `persist_jax.models`.
        networks: which of the models are trained.
        regularisers: registered names.
        terms: parameters of regularisers, by their names.
        weights: of the regularisers; `none` is trained once.
        weights_of: by regulariser, the weights of those that have their own.
        seeds: one run each.
        train: hyperparameters; see `persist_jax.training.Options`.
        continued: whether finished runs are continued without their regulariser afterwards.
        parallel: "lanes": each device trains its share of the runs; "batch": of every batch.
        lane_strategy: "vmap": runs of one device advance together; "map": one after another.
        devices: how many to use; null: all.
        max_lanes: runs that train in one program at most; 0: all of a regulariser.
        report: how the report compares regularisers.
        checksums: of the networks as built, by their names, once they are known.
        dataset_checksum: of the examples, once they are known.
    """

    name: str
    notice: str = ""
    dataset: Section
    models: dict[str, Section]
    networks: Names
    regularisers: Names
    terms: dict[str, Section] = {}
    weights: Weights
    weights_of: dict[str, Weights] = {}
    seeds: Seeds
    train: Section
    continued: bool
    parallel: Literal["lanes", "batch"]
    lane_strategy: Literal["auto", "vmap", "map"]
    devices: Size | None
    max_lanes: Count
    report: ReportOptions
    checksums: dict[str, str] = {}
    dataset_checksum: str | None = None

    @field_validator("name")
    @classmethod
    def _is_a_folder(cls, name: str) -> str:
        if not is_folder_name(name):
            raise ValueError(f"{shortened(repr(name))} cannot name a folder")
        return name

    @field_validator("models")
    @classmethod
    def _are_names(cls, models: dict[str, Section]) -> dict[str, Section]:
        for name in models:
            if not re.fullmatch(r"[\w-]{1,100}", name) or not is_folder_name(name):
                name = shortened(repr(name))
                raise ValueError(f"{name} is not a name of letters, digits, _ and -")
        return models

    def weights_for(self, regulariser: str) -> tuple[float, ...]:
        """The weights that a regulariser is trained with; 0 for `none`."""
        if regulariser == "none":
            return (0.0,)
        return self.weights_of.get(regulariser, self.weights)


def settle(
    config: Configuration,
    workdir: str | os.PathLike[str],
    places: Collection[str],
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Write `config.json`, unless the folder holds runs of another configuration.

    The grid may grow or shrink, networks and regularisers may come and go, data and machine may
    move; what the runs of the folder are made of may not change.

    Args:
        config: the configuration, with its checksums.
        workdir: the sweep's folder.
        places: dotted names of fields that only say where something lies.
        defaults: by dotted name, what a parameter is where the folder's file does not name it: the
            file is then older than the parameter, whose default is what was before.

    Raises:
        ValueError: naming the first field that differs and both values.
    """
    fields = check_settled(config, workdir, places, defaults)
    replace_json(Path(workdir) / CONFIG_FILE, fields, checksum=False)


def check_settled(
    config: Configuration,
    workdir: str | os.PathLike[str],
    places: Collection[str],
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What `settle` would write; refuses what it refuses."""
    now, trained = config.plain(), _trained(workdir)
    if not trained:
        return now
    file = Path(workdir) / CONFIG_FILE
    if not file.exists():
        raise ValueError(f"{file}: missing, but {workdir} holds runs; choose another --workdir")
    before = _plain_config(file)
    if "models" not in before:
        raise ValueError(
            f"{file}: written by a version before 0.2, which this one reports but cannot go on "
            "with; choose another --workdir"
        )
    # As it is on disk, not as it is read: what it leaves out may have had other defaults.
    read_config(workdir)
    # What the runs were made of stays on record, whether or not it is named or known now.
    for section in _BY_NAME:
        now[section] = _of(before.get(section), trained) | now[section]
    if config.dataset_checksum is None:
        now["dataset_checksum"] = before.get("dataset_checksum")
    ours, theirs = (_fixed(fields, places, trained) for fields in (now, before))
    known = {name: value for name, value in (defaults or {}).items() if name in ours}
    theirs = known | theirs
    # Of what differs, a field says more than the checksum that differs with it.
    for name in sorted(ours.keys() | theirs.keys(), key=lambda name: ("checksum" in name, name)):
        if ours.get(name) != theirs.get(name):
            mine, other = (shortened(repr(fields.get(name))) for fields in (ours, theirs))
            raise ValueError(
                f"{name}: {mine}, but {workdir} holds runs with {other}; choose another --workdir"
            )
    return now


def fixed_checksum(config: Configuration, places: Collection[str], network: str, term: str) -> str:
    """Of every field that the result of a network's runs under a regulariser depends on."""
    fields = _fixed(config.plain(), places, {network, term})
    text = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_config(workdir: str | os.PathLike[str]) -> Configuration:
    """The configuration that a folder's runs have.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    path = Path(workdir) / CONFIG_FILE
    fields = _plain_config(path)
    try:
        return Configuration.read(fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _plain_config(path: Path) -> dict[str, Any]:
    fields = read_json(path)
    if not isinstance(fields, dict):
        raise ValueError(f"{path}: not an object of named fields")
    return fields


def flatten(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields by dotted name.

    Example:
        >>> flatten({"train": {"epochs": 3}, "seeds": [0]})
        {'train.epochs': 3, 'seeds': [0]}
    """
    result = {}
    for name, value in fields.items():
        nested = isinstance(value, Mapping) and value
        result |= flatten(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return result


def _trained(workdir: str | os.PathLike[str]) -> set[str]:
    """Networks and regularisers that have a folder of runs."""
    grid = [path for path in runs_folder(workdir).glob("*/*") if path.is_dir()]
    return {path.name for path in grid} | {path.parent.name for path in grid}


def _of(section: Any, names: Collection[str]) -> dict[str, Any]:
    """The entries of a section that have one of the names."""
    return {n: section[n] for n in names if n in section} if isinstance(section, dict) else {}


def _fixed(fields: dict, places: Collection[str], trained: Collection[str]) -> dict[str, Any]:
    """Fields that the runs of a folder depend on, by dotted name."""
    fields = fields | {section: _of(fields.get(section), trained) for section in _BY_NAME}
    free = {*_FREE, *places}
    return {
        name: value
        for name, value in flatten(fields).items()
        if value != {} and not any(name == field or name.startswith(f"{field}.") for field in free)
    }
