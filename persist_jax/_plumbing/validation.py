"""Check input from users and files; errors name every wrong field, one line each."""

import difflib
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from persist_jax.parameters import FLOAT32_MAX, FLOAT32_MIN

Read = TypeVar("Read", bound="Fields")

_MOST_DEEP, _MOST_TEXT, _MOST_LINES = 20, 10_000, 20  # far above any real configuration

# Messages by pydantic's error type, formatted with the error's context.
_WORDS = {
    "missing": "missing",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "is not finite",
    "int_type": "is not a whole number",
    "float_type": "is not a number",
    "bool_type": "is not true or false",
    "string_type": "is not text",
    "tuple_type": "is not a list",
    "list_type": "is not a list",
    "dict_type": "is not a section of fields",
    "model_type": "is not an object",
    "literal_error": "is not one of {expected}",
    "too_long": "may have at most {max_length}, has {actual_length}",
    "too_short": "needs at least {min_length}, has {actual_length}",
    "value_error": "{error}",
}


class Mistakes(list[str]):
    """Collects the errors of several blocks `with mistakes: ...`, to raise them all at once."""

    def __enter__(self) -> "Mistakes":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if isinstance(error, ValueError):
            self.extend(lines_of(error))
        return isinstance(error, ValueError)

    def error(self) -> ValueError:
        """Return one error for all mistakes, with one line for each in its `lines`."""
        lines = list(dict.fromkeys(self))
        more = [f"and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
        error = ValueError("; ".join(lines[:_MOST_LINES] + more))
        error.lines = lines
        return error

    def check(self) -> None:
        """Raise the collected mistakes, if any."""
        if self:
            raise self.error() from None


def lines_of(error: Exception) -> list[str]:
    """Return the mistakes that an error names, one line each."""
    return getattr(error, "lines", [str(error)])


class MayChange:
    """Marks a field that does not affect a run's result, as `Annotated[int, MayChange]`."""


def _with_lists_for_tuples(schema: Any) -> Any:
    """Let a pydantic schema accept lists for tuples."""
    if isinstance(schema, dict) and schema.get("type") == "tuple":
        schema["strict"] = False
    if isinstance(schema, dict | list | tuple):
        for part in schema.values() if isinstance(schema, dict) else schema:
            _with_lists_for_tuples(part)
    return schema


class Fields(BaseModel):
    """Named fields with types and bounds; strict, except that a list may stand for a tuple.

    Example:
        >>> class Size(Fields):
        ...     width: int
        >>> Size.read({"width": 3}, "image").width
        3
        >>> Size.read({"width": 3.5, "widht": 3}, "image")
        Traceback (most recent call last):
        ValueError: image.width: 3.5 is not a whole number; \
image.widht: unknown field; did you mean image.width?
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return _with_lists_for_tuples(handler(source))

    @classmethod
    def read(cls: type[Read], fields: Any, where: str = "") -> Read:
        """Read the fields from nested dicts, lists, text and numbers.

        Args:
            fields: the fields by name.
            where: the section they come from, for errors.

        Raises:
            ValueError: a field is missing, unknown or wrong; one line for each gives its value and
                the choices, see `lines_of`.
        """
        return cls._checked(fields, where)

    def replace(self: Read, **changes: Any) -> Read:
        """Return a checked copy with some fields changed."""
        return self._checked(dict(self) | changes, "")

    @classmethod
    def _checked(cls: type[Read], fields: Any, where: str) -> Read:
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            mistakes = Mistakes(_lines(cls, error, where))
        mistakes.check()

    def plain(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return self.model_dump(mode="json")


class Given(Fields):
    """Fields that a user gives, of any Python type and size; see `plain`."""

    @classmethod
    def read(cls: type[Read], fields: Any, where: str = "") -> Read:
        """Read as `Fields.read`, and refuse numbers outside the range of float32."""
        return cls._checked(plain(fields, where), where)


def plain(value: Any, where: str = "", depth: int = 0) -> Any:
    """Convert nested values to JSON values that fit files and float32.

    Example:
        >>> plain({"sizes": (3, 4)})
        {'sizes': [3, 4]}
        >>> plain({"sizes": (3, {4})}, "image")
        Traceback (most recent call last):
        ValueError: image.sizes[1]: {4} is a set, not text, a number, true, false, a list or fields
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, numbers.Real):
        return _number(value, where)
    named = hasattr(value, "keys")  # a mapping, as dict() sees it
    if not named and not isinstance(value, list | tuple):
        kinds = "not text, a number, true, false, a list or fields"
        raise _wrong(where, f"{_shown(value)} is a {type(value).__name__}, {kinds}")
    if depth == _MOST_DEEP:
        raise _wrong(where, f"nested more than {_MOST_DEEP} deep")
    result, mistakes = {}, Mistakes()
    for name in value if named else range(len(value)):
        with mistakes:
            if named and not isinstance(name, str):
                raise _wrong(where, f"{_shown(name)} is not text, as a field's name is")
            key = _text(name, where) if named else name
            result[key] = plain(value[name], dotted((name,), where), depth + 1)
    mistakes.check()
    return result if named else list(result.values())


def _text(text: str, where: str) -> str:
    if len(text) > _MOST_TEXT:
        size = f"{len(text)} characters, more than {_MOST_TEXT}"
        raise _wrong(where, f"{_shown(text)} is text of {size}")
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise _wrong(where, f"{_shown(text)} has a letter that no file can hold")
    return text


def _number(number: numbers.Real, where: str) -> int | float:
    if isinstance(number, float) and not math.isfinite(number):
        raise _wrong(where, f"{number!r} is not finite")
    if abs(number) > FLOAT32_MAX:
        largest = f"whose largest number is {FLOAT32_MAX:g}"
        raise _wrong(where, f"{_shown(number)} is beyond float32, {largest}")
    if 0 < abs(number) < FLOAT32_MIN:
        raise _wrong(where, f"{number!r} is 0 in float32, whose least number is {FLOAT32_MIN:g}")
    # As Python's own, not NumPy's.
    return int(number) if isinstance(number, numbers.Integral) else float(number)


def _lines(model: type[BaseModel], error: ValidationError, where: str) -> list[str]:
    """Return one line for each problem, with its field and value."""
    problems = error.errors(include_url=False)
    # pydantic also reports a list with a wrong entry as too short.
    inner = {problem["loc"][:-1] for problem in problems}
    return [
        _line(model, problem, where)
        for problem in problems
        if problem["type"] != "too_short" or problem["loc"] not in inner
    ]


def _line(model: type[BaseModel], problem: Mapping[str, Any], where: str) -> str:
    if problem["type"] == "extra_forbidden":
        *section, name = problem["loc"]
        return unknown_field(name, field_names(_section(model, section)), dotted(section, where))
    context = {key: _unquoted(value) for key, value in problem.get("ctx", {}).items()}
    words = _WORDS.get(problem["type"], problem["msg"][:1].lower() + problem["msg"][1:])
    words = words.format(**context)[:500]
    if problem["type"] not in ("missing", "value_error"):
        words = f"{_shown(problem['input'])} {words}"
    return str(_wrong(dotted(problem["loc"], where), words))


def _unquoted(value: Any) -> Any:
    """Strip the quotes that pydantic puts around choices."""
    if isinstance(value, str):
        return value.replace(" or ", ", ").replace("'", "")
    return f"{value:g}" if isinstance(value, float) else value


def _section(model: type[BaseModel], location: Iterable[int | str]) -> type[BaseModel] | None:
    for name in location:
        field = model.model_fields.get(str(name))
        if field is None or not isinstance(field.annotation, type):
            return None
        model = field.annotation
    return model if issubclass(model, BaseModel) else None


def dotted(location: Iterable[int | str], where: str = "") -> str:
    """Return the dotted path of a field.

    Example:
        >>> dotted(("seeds", 1), "config")
        'config.seeds[1]'
    """
    for part in location:
        if isinstance(part, int):
            where += f"[{part}]"
        else:
            name = shortened(part if part.isprintable() else repr(part))
            where += f".{name}" if where else name
    return where


def flatten(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested fields by dotted name.

    Example:
        >>> flatten({"train": {"epochs": 3}, "seeds": [0]})
        {'train.epochs': 3, 'seeds': [0]}
    """
    result = {}
    for name, value in fields.items():
        nested = isinstance(value, Mapping) and value
        result |= flatten(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return result


def field_names(model: type[BaseModel] | None) -> list[str]:
    """Return the names of a section's fields, then the dotted names of nested fields."""
    fields = model.model_fields if model else {}
    below = {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
    below = {name: dict(v) for name, v in below.items() if isinstance(v, Mapping | BaseModel)}
    return list(dict.fromkeys([*fields, *flatten(below)]))


def unknown_field(name: str, known: Iterable[str], where: str = "") -> str:
    """Return the error line for an unknown field: the likely name, or all known names."""
    known = list(known)
    path, meant = dotted((name,), where), nearest(name, known)
    if meant:
        return f"{path}: unknown field; did you mean {dotted((meant,), where)}?"
    known = [field for field in known if "." not in field]
    choices = f"known are {', '.join(known)}" if known else "there are no fields here"
    return f"{path}: unknown field; {choices}"


def not_one_of(field: str, name: Any, choices: Iterable[str]) -> str:
    """Return the error line for a name that is not among the choices, with the likely one."""
    choices = list(choices)
    line, meant = shortened(repr(name)), nearest(str(name), choices)
    line = f"{field}: {line} is not one of {', '.join(choices)}"
    return f"{line}; did you mean {meant}?" if meant else line


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """Return the likely choice for a mistyped, abbreviated or misplaced name.

    Example:
        >>> choices = ["epochs", "optimiser.learning_rate"]
        >>> nearest("epoch", choices), nearest("lr", choices), nearest("learning_rate", choices)
        ('epochs', 'optimiser.learning_rate', 'optimiser.learning_rate')
    """
    by_leaf: dict[str, str] = {}
    for choice in choices:
        by_leaf.setdefault(choice.rpartition(".")[2], choice)
    for leaf, choice in by_leaf.items():
        if "_" in leaf and name == "".join(word[:1] for word in leaf.split("_")):
            return choice
    close = difflib.get_close_matches(shortened(name).lower(), by_leaf, n=1, cutoff=0.65)
    return by_leaf[close[0]] if close else None


def shortened(text: str, length: int = 120) -> str:
    """Cut a long text."""
    return text if len(text) <= length else f"{text[:length]}..."


def _shown(value: Any) -> str:
    """Return a value for an error line; Python cannot print numbers of thousands of digits."""
    if isinstance(value, numbers.Integral) and abs(value) > 10**100:
        return f"a whole number of about {int(value).bit_length() * 0.30103:.0f} digits"
    return shortened(repr(value))


def _wrong(where: str, words: str) -> ValueError:
    return ValueError(f"{where}: {words}" if where else words)
