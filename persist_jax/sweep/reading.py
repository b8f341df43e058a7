"""The configuration of a sweep, from the fields that a person gives."""

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

# By section, the field that names an entry, its registry, and the fields that every entry has.
_CHOICES: dict[str, tuple[str, Registry, set[str]]] = {
    "dataset": ("kind", DATASETS, set()),
    "models.*": ("kind", MODELS, {"sampling"}),
    "train.optimiser": ("name", OPTIMISERS, {"learning_rate", "schedule"}),
    "train.optimiser.schedule": ("name", SCHEDULES, set()),
}


class Sampling(Given):
    """How one network's neurons are sampled, where it differs from `config.train`."""

    fraction: Part | None = None
    neurons: Neurons | None = None


def read_configuration(
    fields: Mapping[str, Any] | ConfigDict, overridden: Collection[str] = ()
) -> tuple[Configuration, tuple[str, ...]]:
    """The configuration that the fields of `configs/*.py` and of a command line describe.

    It needs `dataset`, `networks`, `regularisers` and, unless the data set brings them, `models`;
    every other field has the paper's value by default. Data that is part of the package brings the
    sizes of the section `embedded`. `models` keeps the networks that are trained.

    Args:
        fields: the result of a configuration file's `get_config`, after the command line.
        overridden: dotted names of the fields that a person set. They keep their value where
            `embedded` has another one. If they choose another entry of a registry, parameters of
            the former entry are dropped. A network that they name must exist.

    Returns:
        The configuration, checked in every field and with every parameter, and lines for the
        person who gave it.

    Raises:
        ValueError: naming every field that does not hold, its value and the choices.
    """
    if not hasattr(fields, "keys"):
        raise ValueError(f"{shortened(repr(fields))} is not a configuration of named fields")
    try:
        given = _without_leftovers(plain(fields), overridden)
    except RequiredValueError:
        raise ValueError(
            "a placeholder that is required has no value; give it as --config.FIELD=VALUE"
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
    left_out = f"The data has no {', '.join(missing)}: left out." if missing else ""
    return config, tuple(filter(None, [config.notice, left_out]))


def every_field() -> list[str]:
    """Dotted names of the fields that every configuration has."""
    sections = {"train": Options, "evaluate": Evaluate}
    below = (f"{name}.{field}" for name in sections for field in field_names(sections[name]))
    return [*field_names(Configuration), *below]


def _check_signs(config: Configuration, regularisers: Collection[str]) -> None:
    """Refuse weights that a regulariser cannot have; see `persist_jax.terms.regularisers.Kind`."""
    mistakes = Mistakes()
    for name in regularisers:
        field = f"weights_of.{name}" if name in config.weights_of else "weights"
        kind = REGULARISERS[name.partition("+")[0]].properties
        for weight in config.weights_for(name):
            if words := kind.refused(weight):
                mistakes.append(f"{field}: {weight:g} of {name} {words}")
    mistakes.check()


def _without_leftovers(value: Any, overridden: Collection[str], where: str = "") -> Any:
    """Drop the parameters of a former entry where a person chose another one."""
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
    """Fields with every parameter of the data set, and the networks that it brings."""
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
    """Fields with the values of others, except for those that are kept."""
    result = dict(fields)
    for name, value in others.items():
        place = dotted((name,), where)
        if isinstance(value, dict) and isinstance(fields.get(name), dict):
            result[name] = _merged(fields[name], value, kept, place)
        elif place not in kept:
            result[name] = value
    return result


def _sections(given: Mapping[str, Any], field: str, kind: type = dict) -> dict[str, Any]:
    """The entries of a field that have this type; `Configuration` refuses the others."""
    entries = given.get(field)
    entries = entries if isinstance(entries, dict) else {}
    return {name: value for name, value in entries.items() if isinstance(value, kind)}


def _names(given: Mapping[str, Any], field: str) -> list[str]:
    """The names that a field lists; `Configuration` refuses all else."""
    names = as_names(given.get(field))
    names = names if isinstance(names, list) else []
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


def _trained(
    wanted: Collection[str], models: Collection[str], brought: Collection[str], named: bool
) -> tuple[tuple[str, ...], list[str]]:
    """The networks to train, and those that the data set is expected to bring but does not."""
    # A name may leave out `model_` before a number.
    wanted = [f"model_{name}" if f"model_{name}" in models else name for name in wanted]
    missing = [name for name in wanted if name not in models]
    if missing and not models:
        raise ValueError("models: missing; it says what each of the networks is")
    if missing and (named or not brought or len(missing) == len(wanted)):
        Mistakes(not_one_of("networks", name, models) for name in missing).check()
    return tuple(name for name in wanted if name in models), missing


def _with_defaults(section: dict[str, Any], where: str) -> dict[str, Any]:
    """A network's fields with every parameter, so that giving a default changes nothing."""
    entry, parameters = MODELS.choose(section, where, shared={"sampling": (Sampling, Sampling())})
    own = {"sampling": section["sampling"]} if "sampling" in section else {}
    return {"kind": entry.name, **plain({n: parameters[n] for n in entry.defaults()}), **own}


def _entries(config: Configuration) -> dict[str, Entry]:
    """The parameters of the data set and of the networks, by section."""
    kinds = {name: fields["kind"] for name, fields in config.models.items()}
    entries = {f"models.{name}": MODELS[kind] for name, kind in kinds.items()}
    return {"dataset": DATASETS[config.dataset["kind"]]} | entries


def free_fields(config: Configuration) -> set[str]:
    """Dotted names of the fields of sections that do not decide the result of a run.

    They say where something lies, or are marked `MayChange`.
    """
    places = {n: entry.properties.places for n, entry in _entries(config).items()}
    places["train"] = [name for name, f in Options.model_fields.items() if MayChange in f.metadata]
    return {f"{section}.{name}" for section in places for name in places[section]}


def defaults(config: Configuration) -> dict[str, Any]:
    """By dotted name, the default of every parameter that a folder's configuration may lack."""
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
    """The fields of a network that its kind knows: all but how its neurons are sampled."""
    return {field: v for field, v in config.models[name].items() if field != "sampling"}


def evaluate_of(config: Configuration) -> Evaluate:
    """What is measured of every run that has ended."""
    return Evaluate.read(config.evaluate, "evaluate")


def options_of(config: Configuration, name: str) -> Options:
    """The hyperparameters of a network: those of all, but its own sampling where it has one."""
    own = Sampling.read(config.models[name].get("sampling", {}), f"models.{name}.sampling")
    options = Options.read(config.train)
    return options.replace(
        sampling=own.fraction or options.sampling, neurons=own.neurons or options.neurons
    )
