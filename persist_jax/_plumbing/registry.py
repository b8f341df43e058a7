"""Registries: functions with their parameters, which a configuration chooses by name."""

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import create_model

from persist_jax._plumbing.validation import Fields, Given, not_one_of, shortened

Properties = TypeVar("Properties")
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry(Generic[Properties]):
    """A registered function.

    Attributes:
        name: its name in a configuration.
        function: the registered function.
        properties: what its registry knows about it beside the function.
        types: types of its parameters by name; None: those of its keyword-only arguments.
    """

    name: str
    function: Callable[..., Any]
    properties: Properties
    types: Mapping[str, Any] | None = None

    def parameters(
        self, given: Mapping[str, Any], where: str, shared: Mapping[str, Any] = {}
    ) -> dict[str, Any]:
        """Check the given parameters and add the defaults of the others.

        Args:
            given: parameters by name.
            where: the configuration section they come from, for errors.
            shared: type and default (`...`: none) of the parameters that every entry takes.
        """
        hints = self.types or typing.get_type_hints(self.function, include_extras=True)
        fields = {
            name: (hints.get(name, Any), ... if default is inspect.Parameter.empty else default)
            for name, default in self.defaults().items()
        } | shared
        checked = create_model(self.name, __base__=Given, **fields).read(dict(given), where)
        return {name: getattr(checked, name) for name in fields}

    def defaults(self) -> dict[str, Any]:
        """Return every parameter's default, `inspect.Parameter.empty` where it has none."""
        return {
            name: parameter.default
            for name, parameter in inspect.signature(self.function).parameters.items()
            if (name in self.types if self.types else parameter.kind is parameter.KEYWORD_ONLY)
        }


class Registry(dict[str, Entry[Properties]], Generic[Properties]):
    """Entries of one kind by name, in the order in which they were registered.

    Args:
        what: the kind of entry, for errors, as "regulariser".
        properties: the class of an entry's properties beside its function.

    Example:
        >>> shapes = Registry("shape")
        >>> @shapes.register("square")
        ... def square(scale, *, side: float = 1.0):
        ...     return scale * side**2
        >>> shapes["square"].parameters({"side": 2.0}, "shape")
        {'side': 2.0}
        >>> shapes["circle"]
        Traceback (most recent call last):
        ValueError: shape: 'circle' is not one of square
    """

    def __init__(self, what: str, properties: Callable[..., Properties] = dict):
        super().__init__()
        self._what = what
        self._properties = properties

    def register(
        self, name: str, *, parameters: Mapping[str, Any] | None = None, **properties: Any
    ) -> Callable[[Function], Function]:
        """Return a decorator that adds a function under a name.

        Args:
            name: the name; only a new definition of the same function may reuse it.
            parameters: types of the arguments that a configuration may set; by default the
                keyword-only arguments with their annotated types.
            **properties: what the registry knows about an entry beside its function.

        Raises:
            ValueError: the name is taken, or a configuration cannot hold it or the name of a
                parameter.
        """
        if not name.isidentifier():
            raise ValueError(f"{self._what}: {name!r} is not a name of letters, digits and _")

        def add(function: Function) -> Function:
            entry = Entry(name, function, self._properties(**properties), parameters)
            for parameter in entry.defaults():
                # A checked parameter becomes an attribute of a `Fields`.
                if parameter.startswith("_") or hasattr(Fields, parameter):
                    raise ValueError(f"{self._what}: {name!r} cannot have a {parameter!r}")
            before = _origin(self[name].function) if name in self else _origin(function)
            if before != _origin(function):
                raise ValueError(f"{self._what}: {name!r} is taken by {before}")
            self[name] = entry
            return function

        return add

    def __missing__(self, name: str) -> Entry[Properties]:
        raise ValueError(not_one_of(self._what, name, self))

    def find(self, name: Any, field: str) -> Entry[Properties]:
        """Return the entry of that name; the error names the configuration's field."""
        if not isinstance(name, str) or name not in self:
            raise ValueError(not_one_of(field, name, self))
        return self[name]

    def choose(
        self, section: Any, where: str, chooser: str = "kind", shared: Mapping[str, Any] = {}
    ) -> tuple[Entry[Properties], dict[str, Any]]:
        """Return the entry that a section names in its field `chooser`, and its parameters."""
        if not isinstance(section, Mapping):
            raise ValueError(f"{where}: {shortened(repr(section))} is not a section of fields")
        if chooser not in section:
            raise ValueError(f"{where}.{chooser}: missing; it is one of {', '.join(self)}")
        entry = self.find(section[chooser], f"{where}.{chooser}")
        given = {name: value for name, value in section.items() if name != chooser}
        return entry, entry.parameters(given, where, shared)


def _origin(function: Callable) -> str:
    return f"{function.__module__}.{function.__qualname__}"
