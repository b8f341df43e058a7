"""The configuration of a sweep: its fields, its file, and which fields may change."""

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
from persist_jax.parameters import Count, NotZero, Share, Size, as_list
from persist_jax.store.files import discard_unfinished, read_json, replace_json
from persist_jax.store.run import Run, is_folder_name, runs_folder

CONFIG_FILE = "config.json"


def as_names(value: Any) -> Any:
    """Split `a,b` into names; a name may be a number, as `20` for `model_20`."""
    value = as_list(value)
    if not isinstance(value, list | tuple) or not all(isinstance(v, str | int) for v in value):
        return value
    return [name.strip() for entry in value for name in str(entry).split(",")]


def _differ(values: tuple) -> tuple:
    # Compare them as folder names: two runs must not share a folder.
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
Weights = Annotated[tuple[NotZero, ...], *_Several, BeforeValidator(as_list)]
Seeds = Annotated[tuple[Seed, ...], *_Several, BeforeValidator(as_list)]


class ReportOptions(Given):
    """How the report compares regularisers.

    Attributes:
        significance: significance level of the tests.
        test: the test of the pairs, after Friedman's test.
        correction: correction of Wilcoxon's test for the number of pairs.
        equivalence: accuracies that differ by less count as equal; a fraction of 1.
    """

    significance: Annotated[float, Field(gt=0, lt=1)] = 0.05
    test: Literal["nemenyi", "wilcoxon"] = "nemenyi"
    correction: Literal["holm", "bonferroni"] = "holm"
    equivalence: Share = 0.005


class Configuration(Given):
    """The fields of a sweep, as in `configs/*.py` and `config.json`.

    The defaults are the paper's. A field that affects the result of a run may not change between
    two commands on one folder; all other fields are marked `MayChange`.

    Attributes:
        name: the sweep's name and, by default, its folder's.
        notice: a warning to readers of the results, shown on top of the report; may be empty.
        dataset: `kind`, a registered name, and that kind's own fields.
        models: by network name, `kind` and that kind's own fields; see `persist_jax.models`.
        networks: names of the models to train.
        regularisers: registered names, or sums of them, as "t2+l2"; `weights` then apply to the
            first term of the sum.
        terms: parameters by regulariser; for a sum, by the names of its terms, where every term
            but the first needs its own `weight`.
        weights: weights to train each regulariser with; `none` is trained once. A negative weight
            maximises a term of neurons.
        weights_of: by regulariser, its weights instead of `weights`.
        seeds: seeds to train each weight with.
        train: hyperparameters; see `persist_jax.training.Options`.
        evaluate: what to measure of finished runs; see `persist_jax.training.Evaluate`.
        continued: whether to continue finished runs without their regulariser afterwards.
        parallel: "lanes": each device trains its share of the runs; "batch": its share of every
            batch.
        lane_strategy: "vmap": runs of one device advance together; "map": one after another;
            "auto": chosen by the device.
        devices: number of devices to use; null: all.
        max_lanes: largest number of runs in one program; 0: all runs of a regulariser.
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
        """Return the weights of a regulariser; 0 for `none`."""
        if regulariser == "none":
            return (0.0,)
        return self.weights_of.get(regulariser, self.weights)

    def lanes_of(self, regulariser: str) -> int:
        """Return the number of runs in a regulariser's largest group."""
        runs = len(self.weights_for(regulariser)) * len(self.seeds)
        return min(runs, self.max_lanes or runs)


def grid(config: Configuration) -> list[Run]:
    """List every run of a configuration: each regulariser with each weight, `none` once."""
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

    The grid, the networks, the regularisers, the machine and the location of the data may change. A
    field that affects the result of a run in the folder may not.

    Args:
        config: the configuration, with its checksums.
        workdir: the sweep's folder.
        free: dotted names of the section fields that do not affect the result of a run.
        defaults: by dotted name, the default of a parameter that the folder's file may lack: runs
            from before the parameter existed had its default.

    Raises:
        ValueError: the folder holds runs of another configuration; one line for each field that
            differs, with both values.
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
    """Return the fields that `settle` would write; raises its errors."""
    trained = [path for path in runs_folder(workdir).glob("*/*") if path.is_dir()]
    if not trained:
        return config.plain()
    path = Path(workdir) / CONFIG_FILE
    if not path.exists():
        raise ValueError(f"{path}: missing, but {workdir} holds runs; choose another --workdir")
    # Compare with the file's own fields: a field that it lacks may have had another default.
    before = _read_fields(path)
    if "models" not in before:
        raise ValueError(
            f"{path}: written by a version before 0.2; its results can be reported, but not "
            "resumed; choose another --workdir"
        )
    read_config(workdir)
    names = {path.parent.name for path in trained}, {path.name for path in trained}
    # Keep the fields of trained networks and regularisers that the new configuration omits.
    now = config.plain()
    now |= {section: old | now[section] for section, old in _of_runs(before, *names).items()}
    now["dataset_checksum"] = config.dataset_checksum or before.get("dataset_checksum")
    ours, theirs = (_fixed(fields, free, *names) for fields in (now, before))
    theirs = {name: value for name, value in (defaults or {}).items() if name in ours} | theirs
    differ = [n for n in sorted(ours.keys() | theirs.keys()) if ours.get(n) != theirs.get(n)]
    # Name checksums only if nothing else differs: a field says more.
    Mistakes(
        f"{name}: {shortened(repr(ours.get(name)))}, but {workdir} holds runs with "
        f"{shortened(repr(theirs.get(name)))}; choose another --workdir"
        for name in [name for name in differ if "checksum" not in name] or differ
    ).check()
    return now


def fixed_checksum(config: Configuration, free: Collection[str], network: str, term: str) -> str:
    """Return a checksum of the fields that affect the runs of a network and a regulariser."""
    text = json.dumps(_fixed(config.plain(), free, {network}, {term}), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_config(workdir: str | os.PathLike[str]) -> Configuration:
    """Read the configuration of a folder's runs; errors name the file."""
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
    """Return the sections by network or regulariser, with the entries of these only."""
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
    """Return the fields that affect the results of these runs, by dotted name."""
    fields = flatten({**fields, **_of_runs(fields, networks, regularisers)})
    free = set(free)
    free |= {n for n, field in Configuration.model_fields.items() if MayChange in field.metadata}
    return {
        name: value
        for name, value in fields.items()
        if value != {} and not any(name == field or name.startswith(f"{field}.") for field in free)
    }
