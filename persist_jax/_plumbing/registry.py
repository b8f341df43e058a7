"""Functions by name, each with parameters of its own, for a configuration to choose from."""

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
        properties: the properties that its registry has beside the function.
        types: types of its parameters by name; by default those of its keyword-only arguments.
    """

    name: str
    function: Callable[..., Any]
    properties: Properties
    types: Mapping[str, Any] | None = None

    def parameters(
        self, given: Mapping[str, Any], where: str, shared: Mapping[str, Any] = {}
    ) -> dict[str, Any]:
        """The given parameters, checked, and the defaults of those left out.

        `where` is their section, for errors; `shared` has type and default (`...`: none) of what
        every entry takes beside its own.
        """
        hints = self.types or typing.get_type_hints(self.function, include_extras=True)
        fields = {
            name: (hints.get(name, Any), ... if default is inspect.Parameter.empty else default)
            for name, default in self.defaults().items()
        } | shared
        checked = create_model(self.name, __base__=Given, **fields).read(dict(given), where)
        return {name: getattr(checked, name) for name in fields}

    def defaults(self) -> dict[str, Any]:
        """Every parameter with its default, `inspect.Parameter.empty` where it has none."""
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
        """Decorator that adds a function under a name.

        Args:
            name: the name; a function may replace an earlier definition of itself only.
            parameters: which of its arguments a configuration may set, with their types; by default
                the keyword-only ones, with the types that they are annotated with.
            **properties: what the registry knows about an entry beside its function.

        Raises:
            ValueError: if the name is taken, or it or a parameter's is none that a configuration
                can hold.
        """
        if not name.isidentifier():
            raise ValueError(f"{self._what}: {name!r} is not a name of letters, digits and _")

        def add(function: Function) -> Function:
            entry = Entry(name, function, self._properties(**properties), parameters)
            for parameter in entry.defaults():
                # A checked parameter is an attribute of a `Fields`.
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
        """The entry of that name; the error names the field of the configuration that gives it."""
        if not isinstance(name, str) or name not in self:
            raise ValueError(not_one_of(field, name, self))
        return self[name]

    def choose(
        self, section: Any, where: str, chooser: str = "kind", shared: Mapping[str, Any] = {}
    ) -> tuple[Entry[Properties], dict[str, Any]]:
        """The entry that a section names in its field `chooser`, and its checked parameters."""
        if not isinstance(section, Mapping):
            raise ValueError(f"{where}: {shortened(repr(section))} is not a section of fields")
        if chooser not in section:
            raise ValueError(f"{where}.{chooser}: missing; it is one of {', '.join(self)}")
        entry = self.find(section[chooser], f"{where}.{chooser}")
        given = {name: value for name, value in section.items() if name != chooser}
        return entry, entry.parameters(given, where, shared)


def _origin(function: Callable) -> str:
    return f"{function.__module__}.{function.__qualname__}"
