"""From the fields that a person gives to the configuration of a sweep."""

import copy
import inspect
from collections.abc import Collection, Mapping
from typing import Any, Literal

import persist_jax.pgdl  # noqa: F401  registers kinds of data sets and networks
from persist_jax._plumbing.extras import needed_by
from persist_jax._plumbing.registry import Entry, Registry
from persist_jax._plumbing.validation import Given, plain, shortened
from persist_jax.data.registry import DATASETS, choose_dataset
from persist_jax.models.registry import MODELS
from persist_jax.parameters import Part
from persist_jax.store.configuration import Configuration, flatten
from persist_jax.terms import REGULARISERS
from persist_jax.training.optimisers import OPTIMISERS, SCHEDULES
from persist_jax.training.options import ADDED_FIELDS, Options

with needed_by("persist_jax.sweep", "experiment"):
    from ml_collections import ConfigDict
    from ml_collections.config_dict import RequiredValueError

# Fields of a section that choose its entry, and the registry that they choose from.
_CHOICES: tuple[tuple[str, str, Registry], ...] = (
    ("dataset", "kind", DATASETS),
    ("train.optimiser", "name", OPTIMISERS),
    ("train.optimiser.schedule", "name", SCHEDULES),
)

_ADDED_TO_TRAIN = {name: Options.model_fields[name].default for name in ADDED_FIELDS}
_MOST_RUNS = 1_000_000  # each has a folder


class Sampling(Given):
    """How one network's neurons are sampled, where it is not as all others' are.

    Attributes:
        fraction: share of each layer's neurons.
        neurons: what a neuron is; see `persist_jax.sample_neurons`.
    """

    fraction: Part | None = None
    neurons: Literal["positions", "channels"] | None = None


def read_configuration(
    fields: Mapping[str, Any] | ConfigDict, overridden: Collection[str] = ()
) -> tuple[Configuration, tuple[str, ...]]:
    """The configuration that the fields of `configs/*.py` and of a command line describe.

    Data that is part of the package brings the sizes of the section `embedded`; networks that come
    with a data set are added to `models`, and `models` keeps those that are trained.

    Args:
        fields: what `get_config` of a configuration file returns, after the command line.
        overridden: dotted names of the fields that a person set. They are never replaced by
            sizes of `embedded`; where they choose another entry of a registry, parameters that it
            does not have fall away; and a network named there must exist.

    Returns:
        The configuration, checked in every field and with every parameter, and lines for the
        person who gave it.

    Raises:
        ValueError: one line that names the field, its value and the choices.
    """
    fields = _given(fields)
    embedded = fields.pop("embedded", None)
    if fields.get("dataset") is None:
        raise ValueError("dataset: missing; it has a kind and that kind's own fields")
    for section, value in (("dataset", fields["dataset"]), ("embedded", embedded)):
        if value is not None and not isinstance(value, dict):
            raise ValueError(f"{section}: {shortened(repr(value))} is not a section of fields")
    for section, chooser, registry in [*_CHOICES, *_model_choices(fields)]:
        if f"{section}.{chooser}" in overridden:
            _drop_leftovers(fields, section, chooser, registry, overridden)
    kind, parameters = choose_dataset(fields["dataset"])
    if embedded and kind.properties.embedded(**parameters):
        # What is replaced now counts with other data.
        Options.read(Configuration.read(fields).train)
        fields = _with_embedded(fields, embedded, overridden)
        kind, parameters = choose_dataset(fields["dataset"])
    for field in ("networks", "regularisers"):
        # On a command line `a,b` arrives as the one name "a,b".
        if isinstance(fields.get(field), list):
            fields[field] = [name for entry in fields[field] for name in str(entry).split(",")]
    brought = kind.properties.brings(**parameters)
    notices = _choose_networks(fields, brought, "networks" in overridden)
    config = Configuration.read(fields)
    check(config)
    config = _with_defaults(config)
    return config, tuple(filter(None, [config.notice, *notices]))


def _given(fields: Any) -> dict[str, Any]:
    if not hasattr(fields, "keys"):
        raise ValueError(f"{shortened(repr(fields))} is not a configuration of named fields")
    try:
        return plain(fields)
    except RequiredValueError:
        raise ValueError(
            "a placeholder that is required has no value; give it as --config.FIELD=VALUE"
        ) from None


def check(config: Configuration) -> None:
    """Refuse what a registry does not have; data and networks are not touched.

    Raises:
        ValueError: one line that names the field, its value and the choices.
    """
    choose_dataset(config.dataset)
    for name in config.regularisers:
        REGULARISERS.find(name, "regularisers")
    for name, parameters in config.terms.items():
        REGULARISERS.find(name, "terms").parameters(parameters, f"terms.{name}")
    for name in config.weights_of:
        REGULARISERS.find(name, "weights_of")
    for name in config.networks:
        options_of(config, name)
    weights = sum(len(config.weights_for(name)) for name in config.regularisers)
    runs = len(config.networks) * weights * len(config.seeds)
    if runs > _MOST_RUNS:
        raise ValueError(
            f"weights: the grid of networks, regularisers, weights and seeds has {runs} runs, at "
            f"most {_MOST_RUNS} are possible"
        )


def _with_defaults(config: Configuration) -> Configuration:
    """Every parameter written out: one that is given as its default is the same configuration."""
    entry, parameters = choose_dataset(config.dataset)
    dataset = {"kind": entry.name, **parameters}
    models = {}
    for name, section in config.models.items():
        sampling = {"sampling": section["sampling"]} if "sampling" in section else {}
        entry, parameters = _model(name, section)
        models[name] = {"kind": entry.name, **parameters, **sampling}
    terms = {
        name: REGULARISERS[name].parameters(config.terms.get(name, {}), f"terms.{name}")
        for name in config.regularisers
    }
    terms = {name: parameters for name, parameters in terms.items() if parameters}
    train = _ADDED_TO_TRAIN | config.train
    return config.replace(
        dataset=plain(dataset), models=plain(models), terms=plain(terms), train=train
    )


def defaults(config: Configuration) -> dict[str, Any]:
    """By dotted name, the default of every parameter that a folder's configuration may lack."""
    chosen = {"dataset": choose_dataset(config.dataset)[0]}
    for name, section in config.models.items():
        chosen[f"models.{name}"] = _model(name, section)[0]
    chosen |= {f"terms.{name}": REGULARISERS[name] for name in config.regularisers}
    of_entries = {
        f"{section}.{name}": plain(default)
        for section, entry in chosen.items()
        for name, default in entry.defaults().items()
        if default is not inspect.Parameter.empty
    }
    return of_entries | {f"train.{name}": default for name, default in _ADDED_TO_TRAIN.items()}


def _model(name: str, section: Any) -> tuple[Entry, dict[str, Any]]:
    """The kind of a network, and its parameters."""
    if not isinstance(section, dict):
        raise ValueError(f"models.{name}: {shortened(repr(section))} is not a section of fields")
    given = _of_the_kind(section)
    entry = MODELS.find(given.pop("kind", None), f"models.{name}.kind")
    return entry, entry.parameters(given, f"models.{name}")


def model_section(config: Configuration, name: str) -> dict[str, Any]:
    """The fields of a network that its kind knows: all but how its neurons are sampled."""
    return _of_the_kind(config.models[name])


def _of_the_kind(section: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in section.items() if field != "sampling"}


def options_of(config: Configuration, name: str) -> Options:
    """The hyperparameters of a network: those of all, but its own sampling where it has one."""
    own = Sampling.read(config.models[name].get("sampling", {}), f"models.{name}.sampling")
    options = Options.read(config.train)
    fraction = options.sampling if own.fraction is None else own.fraction
    return options.replace(sampling=fraction, neurons=own.neurons or options.neurons)


def _model_choices(fields: dict[str, Any]) -> list[tuple[str, str, Registry]]:
    models = fields.get("models")
    if not isinstance(models, dict):
        return []  # for the check of every field to refuse
    return [(f"models.{name}", "kind", MODELS) for name in models]


def _drop_leftovers(
    fields: dict[str, Any],
    section: str,
    chooser: str,
    registry: Registry,
    overridden: Collection[str],
) -> None:
    """Without the parameters that belong to the entry which another one was chosen over."""
    *rooms, last = section.split(".")
    target = fields
    for room in rooms:
        target = target.get(room)
        if not isinstance(target, dict):
            return
    chosen = target.get(last)
    if not isinstance(chosen, dict) or chosen.get(chooser) not in list(registry):
        return
    known = {chooser, "learning_rate", "schedule", "sampling"}
    known |= set(registry[chosen[chooser]].defaults())
    target[last] = {
        name: value
        for name, value in chosen.items()
        if name in known or f"{section}.{name}" in overridden
    }


def _with_embedded(
    fields: dict[str, Any], embedded: dict[str, Any], overridden: Collection[str]
) -> dict[str, Any]:
    result = copy.deepcopy(fields)
    for name, value in flatten(embedded).items():
        if name not in overridden:
            *rooms, field = name.split(".")
            target = result
            for room in rooms:
                target = target.setdefault(room, {})
                if not isinstance(target, dict):
                    raise ValueError(f"embedded.{name}: {room} is not a section of fields")
            if isinstance(target.get(field), dict) and not isinstance(value, dict):
                shown = shortened(repr(value))
                raise ValueError(f"embedded.{name}: {shown} is not a section of fields")
            target[field] = value
    return result


def _choose_networks(
    fields: dict[str, Any], brought: Mapping[str, dict[str, Any]], named: bool
) -> list[str]:
    """Fill `models` with those of `networks`, which may leave out `model_` before a number."""
    wanted, models = fields.get("networks"), fields.get("models")
    if not isinstance(wanted, list) or not isinstance(models, dict):
        return []  # for the check of every field to refuse
    models = brought | models
    for name, section in models.items():
        _model(name, section)
        Sampling.read(section.get("sampling", {}), f"models.{name}.sampling")
    wanted = [f"model_{name}" if f"model_{name}" in models else name for name in wanted]
    missing = [name for name in wanted if name not in models]
    if missing and (named or not brought or len(missing) == len(wanted)):
        name, names = shortened(repr(missing[0])), ", ".join(models)
        raise ValueError(f"networks: {name} is not one of {names}")
    notices = [f"The data has no {', '.join(missing)}: left out."] if missing else []
    fields["networks"] = [name for name in wanted if name in models]
    fields["models"] = {name: models[name] for name in fields["networks"]}
    return notices
