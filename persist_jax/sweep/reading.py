"""Build the configuration of a sweep from the fields that a user gives."""

import inspect
import re
from collections.abc import Collection, Mapping
from typing import Any

import persist_jax.pgdl  # noqa: F401  registers kinds of data sets and networks
from persist_jax._plumbing.extras import needed_by
from persist_jax._plumbing.registry import Entry, Registry
from persist_jax._plumbing.validation import (
    Given,
    MayChange,
    Mistakes,
    dotted,
    field_names,
    not_one_of,
    plain,
    shortened,
    unknown_field,
)
from persist_jax.data.registry import DATASETS
from persist_jax.models.registry import MODELS
from persist_jax.parameters import Part
from persist_jax.store.configuration import Configuration, as_names
from persist_jax.terms import REGULARISERS
from persist_jax.terms.sampling import Neurons
from persist_jax.training.evaluation import Evaluate
from persist_jax.training.optimisers import OPTIMISERS, SCHEDULES
from persist_jax.training.options import Options, parameters_of

with needed_by("persist_jax.sweep", "experiment"):
    from ml_collections import ConfigDict
    from ml_collections.config_dict import RequiredValueError

# By section: the field that names an entry, its registry, and the fields common to all entries.
_CHOICES: dict[str, tuple[str, Registry, set[str]]] = {
    "dataset": ("kind", DATASETS, set()),
    "models.*": ("kind", MODELS, {"sampling"}),
    "train.optimiser": ("name", OPTIMISERS, {"learning_rate", "schedule"}),
    "train.optimiser.schedule": ("name", SCHEDULES, set()),
}


class Sampling(Given):
    """The sampling of one network's neurons, where it differs from `config.train`."""

    fraction: Part | None = None
    neurons: Neurons | None = None


def read_configuration(
    fields: Mapping[str, Any] | ConfigDict, overridden: Collection[str] = ()
) -> tuple[Configuration, tuple[str, ...]]:
    """Build a configuration from the fields of `configs/*.py` and of the command line.

    `dataset`, `networks` and `regularisers` are required, and `models` unless the data set comes
    with networks; the defaults of all other fields are the paper's. If the data is part of the
    package, the fields of the section `embedded` replace the others. `models` keeps only the
    networks to train.

    Args:
        fields: the result of a configuration file's `get_config`, after the command line.
        overridden: dotted names of the fields that the user set. `embedded` does not replace them.
            If they choose another entry of a registry, parameters of the former entry are dropped.
            Networks that they name must exist.

    Returns:
        The configuration, with every field checked and every default filled in, and lines to print
        for the user.

    Raises:
        ValueError: a field is wrong; one line for each, with its value and the choices.
    """
    if not hasattr(fields, "keys"):
        raise ValueError(f"{shortened(repr(fields))} is not a configuration of named fields")
    try:
        given = _without_leftovers(plain(fields), overridden)
    except RequiredValueError:
        raise ValueError(
            "a required placeholder has no value; give it as --config.FIELD=VALUE"
        ) from None
    embedded, brought, mistakes = given.pop("embedded", None) or {}, {}, Mistakes()
    with mistakes:
        if isinstance(given.get("dataset"), dict):
            given, brought = _with_data(given, embedded, overridden)
    for name in [name for name in given if name not in Configuration.model_fields]:
        mistakes.append(unknown_field(name, every_field()))
        del given[name]
    with mistakes:
        config = Configuration.read(given)
    sections, models = brought | _sections(given, "models"), {}
    for name, section in sections.items():
        with mistakes:
            models[name] = _with_defaults(section, f"models.{name}")
    with mistakes:
        named = "networks" in overridden
        networks, missing = _trained(_names(given, "networks"), sections, brought, named)
    regularisers, terms = _names(given, "regularisers"), _sections(given, "terms")
    for name in {**dict.fromkeys(regularisers), **terms}:
        with mistakes:
            field = "regularisers" if name in regularisers else "terms"
            terms[name] = plain(parameters_of(name, terms.get(name, {}), f"terms.{name}", field))
    for name in _sections(given, "weights_of", object):
        with mistakes:
            for part in name.split("+"):
                REGULARISERS.find(part, "weights_of")
    with mistakes:
        if isinstance(given.get("train", {}), dict):
            train = Options.read(given.get("train", {})).plain()
    with mistakes:
        if isinstance(given.get("evaluate", {}), dict):
            evaluate = Evaluate.read(given.get("evaluate", {}), "evaluate").plain()
    mistakes.check()
    _check_signs(config, regularisers)
    config = config.replace(
        models={name: models[name] for name in networks},
        networks=networks,
        terms={name: terms[name] for name in regularisers if terms[name]},
        train=train,
        evaluate=evaluate,
    )
    left_out = f"The data set has no {', '.join(missing)}: skipped." if missing else ""
    return config, tuple(filter(None, [config.notice, left_out]))


def every_field() -> list[str]:
    """List the dotted names of the fields that every configuration has."""
    sections = {"train": Options, "evaluate": Evaluate}
    below = (f"{name}.{field}" for name in sections for field in field_names(sections[name]))
    return [*field_names(Configuration), *below]


def _check_signs(config: Configuration, regularisers: Collection[str]) -> None:
    """Refuse weights that a regulariser forbids; see `persist_jax.terms.regularisers.Kind`."""
    mistakes = Mistakes()
    for name in regularisers:
        field = f"weights_of.{name}" if name in config.weights_of else "weights"
        kind = REGULARISERS[name.partition("+")[0]].properties
        for weight in config.weights_for(name):
            if words := kind.refused(weight):
                mistakes.append(f"{field}: {weight:g} of {name} {words}")
    mistakes.check()


def _without_leftovers(value: Any, overridden: Collection[str], where: str = "") -> Any:
    """Drop the parameters of an entry where the user chose another one."""
    if not isinstance(value, dict):
        return value
    result = {
        name: _without_leftovers(inner, overridden, dotted((name,), where))
        for name, inner in value.items()
    }
    of = re.sub(r"^models\.[^.]+$", "models.*", where)
    chooser, registry, shared = _CHOICES.get(of, ("", {}, set()))
    if f"{where}.{chooser}" not in overridden or result.get(chooser) not in list(registry):
        return result
    known = {chooser, *shared, *registry[result[chooser]].defaults()}
    return {n: v for n, v in result.items() if n in known or f"{where}.{n}" in overridden}


def _with_data(
    given: dict[str, Any], embedded: Any, overridden: Collection[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the fields with all parameters of the data set, and the networks that it has."""
    if not isinstance(embedded, dict):
        raise ValueError(f"embedded: {shortened(repr(embedded))} is not a section of fields")
    entry, parameters = DATASETS.choose(given["dataset"], "dataset")
    if embedded and entry.properties.embedded(**parameters):
        given = _merged(given, embedded, overridden)
        entry, parameters = DATASETS.choose(given["dataset"], "dataset")
    dataset = {"kind": entry.name, **plain(parameters)}
    return given | {"dataset": dataset}, entry.properties.brings(**parameters)


def _merged(
    fields: dict[str, Any], others: dict[str, Any], kept: Collection[str], where: str = ""
) -> dict[str, Any]:
    """Replace fields by those of `others`, except for the names in `kept`."""
    result = dict(fields)
    for name, value in others.items():
        place = dotted((name,), where)
        if isinstance(value, dict) and isinstance(fields.get(name), dict):
            result[name] = _merged(fields[name], value, kept, place)
        elif place not in kept:
            result[name] = value
    return result


def _sections(given: Mapping[str, Any], field: str, kind: type = dict) -> dict[str, Any]:
    """Return a field's entries of this type; `Configuration` refuses all others."""
    entries = given.get(field)
    entries = entries if isinstance(entries, dict) else {}
    return {name: value for name, value in entries.items() if isinstance(value, kind)}


def _names(given: Mapping[str, Any], field: str) -> list[str]:
    """List the names in a field; `Configuration` refuses everything else."""
    names = as_names(given.get(field))
    names = names if isinstance(names, list) else []
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


def _trained(
    wanted: Collection[str], models: Collection[str], brought: Collection[str], named: bool
) -> tuple[tuple[str, ...], list[str]]:
    """Return the networks to train, and the wanted ones that the data set does not have."""
    # `20` is short for `model_20`.
    wanted = [f"model_{name}" if f"model_{name}" in models else name for name in wanted]
    missing = [name for name in wanted if name not in models]
    if missing and not models:
        raise ValueError("models: missing; it defines each of the networks")
    if missing and (named or not brought or len(missing) == len(wanted)):
        Mistakes(not_one_of("networks", name, models) for name in missing).check()
    return tuple(name for name in wanted if name in models), missing


def _with_defaults(section: dict[str, Any], where: str) -> dict[str, Any]:
    """Fill in a network's defaults: a sweep may then name a default or omit it."""
    entry, parameters = MODELS.choose(section, where, shared={"sampling": (Sampling, Sampling())})
    own = {"sampling": section["sampling"]} if "sampling" in section else {}
    return {"kind": entry.name, **plain({n: parameters[n] for n in entry.defaults()}), **own}


def _entries(config: Configuration) -> dict[str, Entry]:
    """Return the registry entries of the data set and of the networks, by section."""
    kinds = {name: fields["kind"] for name, fields in config.models.items()}
    entries = {f"models.{name}": MODELS[kind] for name, kind in kinds.items()}
    return {"dataset": DATASETS[config.dataset["kind"]]} | entries


def free_fields(config: Configuration) -> set[str]:
    """Return the dotted names of section fields that do not affect the result of a run.

    They are paths, or marked `MayChange`.
    """
    places = {n: entry.properties.places for n, entry in _entries(config).items()}
    places["train"] = [name for name, f in Options.model_fields.items() if MayChange in f.metadata]
    return {f"{section}.{name}" for section in places for name in places[section]}


def defaults(config: Configuration) -> dict[str, Any]:
    """Return the defaults, by dotted name, of parameters that a folder's file may lack."""
    entries = _entries(config)
    for name in config.regularisers:
        parts = name.split("+")
        places = {part: f"terms.{name}.{part}" if parts[1:] else f"terms.{name}" for part in parts}
        entries |= {places[part]: REGULARISERS[part] for part in parts}
    found = {section: entry.defaults() for section, entry in entries.items()}
    found["train"] = Options().plain()
    return {
        f"{section}.{name}": plain(default)
        for section in found
        for name, default in found[section].items()
        if default is not inspect.Parameter.empty
    }


def model_section(config: Configuration, name: str) -> dict[str, Any]:
    """Return the fields of a network for its kind: all except `sampling`."""
    return {field: v for field, v in config.models[name].items() if field != "sampling"}


def evaluate_of(config: Configuration) -> Evaluate:
    """Return the options of the measures of finished runs."""
    return Evaluate.read(config.evaluate, "evaluate")


def options_of(config: Configuration, name: str) -> Options:
    """Return the hyperparameters of a network: `config.train`, with the network's own sampling."""
    own = Sampling.read(config.models[name].get("sampling", {}), f"models.{name}.sampling")
    options = Options.read(config.train)
    return options.replace(
        sampling=own.fraction or options.sampling, neurons=own.neurons or options.neurons
    )
