"""The configuration of a sweep: its fields, its file, and the fields that may not change."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from persist_jax._plumbing.validation import (
    Given,
    MayChange,
    Mistakes,
    flatten,
    shortened,
)
from persist_jax.parameters import Count, NotZero, Share, Size
from persist_jax.store.files import discard_unfinished, read_json, replace_json
from persist_jax.store.run import Run, is_folder_name, runs_folder

CONFIG_FILE = "config.json"


def _listed(value: Any) -> Any:
    """A single value as a list of one, as a command line gives it."""
    return [value] if isinstance(value, str | int | float) else value


def as_names(value: Any) -> Any:
    """Names out of `a,b`; a name may look like a number, as `20` for `model_20`."""
    value = _listed(value)
    if not isinstance(value, list | tuple) or not all(isinstance(v, str | int) for v in value):
        return value
    return [name.strip() for entry in value for name in str(entry).split(",")]


def _differ(values: tuple) -> tuple:
    # Compared as folder names, which two runs must not share.
    names = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"{shortened(name)} is there more than once")
    return values


def _is_a_folder(name: str) -> str:
    if not is_folder_name(name):
        raise ValueError(f"{shortened(repr(name))} cannot name a folder")
    return name


def _are_networks(models: dict[str, Any]) -> dict[str, Any]:
    for name in models:
        if not re.fullmatch(r"[\w-]+", name) or not is_folder_name(name):
            name = shortened(repr(name))
            raise ValueError(f"{name} is not a name of letters, digits, _ and -, at most 100")
    return models


Section = dict[str, Any]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
_Several = (Field(min_length=1), AfterValidator(_differ))
Names = Annotated[tuple[str, ...], *_Several, BeforeValidator(as_names)]
Weights = Annotated[tuple[NotZero, ...], *_Several, BeforeValidator(_listed)]
Seeds = Annotated[tuple[Seed, ...], *_Several, BeforeValidator(_listed)]


class ReportOptions(Given):
    """How the report compares regularisers.

    Attributes:
        significance: level of the tests.
        test: compares the pairs after Friedman's test.
        correction: of Wilcoxon's test, for the number of pairs.
        equivalence: accuracies that differ by less count as equal; a fraction of 1.
    """

    significance: Annotated[float, Field(gt=0, lt=1)] = 0.05
    test: Literal["nemenyi", "wilcoxon"] = "nemenyi"
    correction: Literal["holm", "bonferroni"] = "holm"
    equivalence: Share = 0.005


class Configuration(Given):
    """Every field of a sweep, as `configs/*.py` gives them and `config.json` keeps them.

    The defaults are those of the paper. A field that decides the result of a run may not change
    between two commands on one folder; the others are marked `MayChange`.

    Attributes:
        name: the sweep's name and, by default, its folder's.
        notice: a warning to readers of the results, shown on top of the report; may be empty.
        dataset: `kind`, a registered name, and that kind's own fields.
        models: by network name, `kind` and that kind's own fields; see `persist_jax.models`.
        networks: names of the models to train.
        regularisers: registered names, or several joined by `+`, as "t2+l2": the weight of a run is
            then that of the first term.
        terms: parameters of regularisers, by their names; of a sum, by those of its parts, the
            later ones with a `weight` of their own.
        weights: one run with each; `none` is trained once. Below 0, a term of neurons is maximised.
        weights_of: by regulariser, weights of its own.
        seeds: one run with each.
        train: hyperparameters; see `persist_jax.training.Options`.
        evaluate: what is measured of every run that ends; see `persist_jax.training.Evaluate`.
        continued: whether to continue finished runs without their regulariser afterwards.
        parallel: "lanes": each device trains its share of the runs; "batch": of every batch.
        lane_strategy: "vmap": runs of one device advance together; "map": one after another.
        devices: how many to use; null: all.
        max_lanes: runs that train in one program at most; 0: all of a regulariser.
        report: how the report compares regularisers.
        checksums: by network name, a checksum of the network as it was built.
        dataset_checksum: a checksum of the examples.
    """

    name: Annotated[str, AfterValidator(_is_a_folder), MayChange] = "sweep"
    notice: Annotated[str, MayChange] = ""
    dataset: Section
    models: Annotated[dict[str, Section], AfterValidator(_are_networks)] = {}
    networks: Annotated[Names, MayChange]
    regularisers: Annotated[Names, MayChange]
    terms: dict[str, Section] = {}
    weights: Annotated[Weights, MayChange] = (
        1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 5.0, 10.0, 100.0,
    )  # fmt: skip
    weights_of: Annotated[dict[str, Weights], MayChange] = {}
    seeds: Annotated[Seeds, MayChange] = (0,)
    train: Section = {}
    evaluate: Annotated[Section, MayChange] = {}
    continued: Annotated[bool, MayChange] = False
    parallel: Annotated[Literal["lanes", "batch"], MayChange] = "lanes"
    lane_strategy: Annotated[Literal["auto", "vmap", "map"], MayChange] = "auto"
    devices: Annotated[Size | None, MayChange] = None
    max_lanes: Annotated[Count, MayChange] = 0
    report: Annotated[ReportOptions, MayChange] = ReportOptions()
    checksums: dict[str, str] = {}
    dataset_checksum: str | None = None

    def weights_for(self, regulariser: str) -> tuple[float, ...]:
        """The weights that a regulariser is trained with; 0 for `none`."""
        if regulariser == "none":
            return (0.0,)
        return self.weights_of.get(regulariser, self.weights)

    def lanes_of(self, regulariser: str) -> int:
        """The runs of the largest group of a regulariser that the grid can form."""
        runs = len(self.weights_for(regulariser)) * len(self.seeds)
        return min(runs, self.max_lanes or runs)


def grid(config: Configuration) -> list[Run]:
    """Every run of a configuration: each regulariser with each weight, `none` once."""
    return [
        Run(network, regulariser, weight, seed)
        for network in config.networks
        for regulariser in config.regularisers
        for weight in config.weights_for(regulariser)
        for seed in config.seeds
    ]



def settle(
    config: Configuration,
    workdir: str | os.PathLike[str],
    free: Collection[str],
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Write `config.json`, unless the folder holds runs of another configuration.

    The grid may grow or shrink, networks and regularisers may come and go, data and machine may
    move. A field that decides the result of a run that the folder holds may not change: the error
    names every one that differs, and both values.

    Args:
        config: the configuration, with its checksums.
        workdir: the sweep's folder.
        free: dotted names of fields of its sections that do not decide the result of a run.
        defaults: by dotted name, the value of a parameter that the folder's file does not name: the
            file is older than the parameter, and its runs had the default.
    """
    fields = check_settled(config, workdir, free, defaults)
    discard_unfinished(Path(workdir), re.escape(CONFIG_FILE))
    replace_json(Path(workdir) / CONFIG_FILE, fields, checksum=False)


def check_settled(
    config: Configuration,
    workdir: str | os.PathLike[str],
    free: Collection[str],
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The fields that `settle` would write; refuses what it refuses."""
    trained = [path for path in runs_folder(workdir).glob("*/*") if path.is_dir()]
    if not trained:
        return config.plain()
    path = Path(workdir) / CONFIG_FILE
    if not path.exists():
        raise ValueError(f"{path}: missing, but {workdir} holds runs; choose another --workdir")
    # Compared as on disk: a field that the file leaves out may have had another default.
    before = _read_fields(path)
    if "models" not in before:
        raise ValueError(
            f"{path}: written by a version before 0.2, which this one reports but cannot go on "
            "with; choose another --workdir"
        )
    read_config(workdir)
    names = {path.parent.name for path in trained}, {path.name for path in trained}
    # A network or regulariser that was trained stays on record when it is no longer named.
    now = config.plain()
    now |= {section: old | now[section] for section, old in _of_runs(before, *names).items()}
    now["dataset_checksum"] = config.dataset_checksum or before.get("dataset_checksum")
    ours, theirs = (_fixed(fields, free, *names) for fields in (now, before))
    theirs = {name: value for name, value in (defaults or {}).items() if name in ours} | theirs
    differ = [n for n in sorted(ours.keys() | theirs.keys()) if ours.get(n) != theirs.get(n)]
    # A field says more than the checksum that differs with it.
    Mistakes(
        f"{name}: {shortened(repr(ours.get(name)))}, but {workdir} holds runs with "
        f"{shortened(repr(theirs.get(name)))}; choose another --workdir"
        for name in [name for name in differ if "checksum" not in name] or differ
    ).check()
    return now


def fixed_checksum(config: Configuration, free: Collection[str], network: str, term: str) -> str:
    """A checksum of the fields that decide the result of a network's runs under a regulariser."""
    text = json.dumps(_fixed(config.plain(), free, {network}, {term}), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_config(workdir: str | os.PathLike[str]) -> Configuration:
    """The configuration that a folder's runs have; errors name the file."""
    path = Path(workdir) / CONFIG_FILE
    fields = _read_fields(path)
    try:
        return Configuration.read(fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_fields(path: Path) -> dict[str, Any]:
    fields = read_json(path)
    if not isinstance(fields, dict):
        raise ValueError(f"{path}: not an object of named fields")
    return fields


def _of_runs(
    fields: Mapping[str, Any], networks: Collection[str], regularisers: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Of the sections with an entry per network or regulariser, the entries of these."""
    names = {"models": networks, "checksums": networks, "terms": regularisers}
    return {
        section: {name: value for name, value in fields.get(section, {}).items() if name in wanted}
        for section, wanted in names.items()
    }


def _fixed(
    fields: Mapping[str, Any],
    free: Collection[str],
    networks: Collection[str],
    regularisers: Collection[str],
) -> dict[str, Any]:
    """The fields that decide the results of these runs, by dotted name."""
    fields = flatten({**fields, **_of_runs(fields, networks, regularisers)})
    free = set(free)
    free |= {n for n, field in Configuration.model_fields.items() if MayChange in field.metadata}
    return {
        name: value
        for name, value in fields.items()
        if value != {} and not any(name == field or name.startswith(f"{field}.") for field in free)
    }
