"""What comes from outside is checked field by field; what does not hold is one line."""

import json
import math
import numbers
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from persist_jax.parameters import FLOAT32_MAX, FLOAT32_MIN

Read = TypeVar("Read", bound="Fields")

# No configuration comes near these; what does would keep the checks themselves busy.
_MOST_DEEP, _MOST_ENTRIES, _MOST_TEXT = 20, 10_000, 10_000


# Of pydantic's errors those that a person meets, with what their context names.
_WORDS = {
    "missing": "missing",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "is not finite",
    "int_type": "is not a whole number",
    "int_from_float": "is not a whole number",
    "float_type": "is not a number",
    "bool_type": "is not true or false",
    "string_type": "is not text",
    "list_type": "is not a list",
    "tuple_type": "is not a list",
    "dict_type": "is not an object",
    "model_type": "is not an object",
    "model_attributes_type": "is not an object",
    "literal_error": "is not one of {expected}",
    "string_pattern_mismatch": "is not a name",
    "string_too_long": "is longer than {max_length} characters",
    "too_long": "may have at most {max_length}, has {actual_length}",
    "too_short": "needs at least {min_length}, has {actual_length}",
    "value_error": "{error}",
}


class Fields(BaseModel):
    """Named fields with types and bounds; none may be missing, unknown or of another type.

    Example:
        >>> class Size(Fields):
        ...     width: int
        >>> Size.read({"width": 3}, "image").width
        3
        >>> Size.read({"width": 3.5}, "image")
        Traceback (most recent call last):
        ValueError: image.width: 3.5 is not a whole number
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def read(cls: type[Read], fields: Any, where: str = "") -> Read:
        """The fields of a mapping of plain values, as JSON has them.

        Args:
            fields: nested mappings, lists, text and numbers.
            where: what stands before a field's name in an error, as "train".

        Raises:
            ValueError: one line that names the first field that does not hold, its value, and
                what it may be.
        """
        try:
            # As JSON, so that a list may stand for a tuple while everything else stays strict.
            return cls.model_validate_json(json.dumps(fields))
        except TypeError as error:
            raise ValueError(f"{where}: {error}" if where else str(error)) from None
        except ValidationError as error:
            raise ValueError(one_line(cls, error, where)) from None

    def replace(self: Read, **changes: Any) -> Read:
        """The same fields with some changed, checked again."""
        return type(self).read(self.plain() | changes)

    def plain(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return self.model_dump(mode="json")


class Given(Fields):
    """Fields that a person gives, who may give anything; see `plain`.

    Example:
        >>> class Step(Given):
        ...     length: float
        >>> Step.read({"length": 1e-60}, "step")
        Traceback (most recent call last):
        ValueError: step.length: 1e-60 is 0 in float32, whose least number is 1.17549e-38
    """

    @classmethod
    def read(cls, fields: Any, where: str = "") -> "Given":
        """As `Fields.read`, of anything; numbers that float32 does not have are refused too."""
        return super().read(plain(fields, where), where)


def plain(value: Any, where: str = "", depth: int = 0) -> Any:
    """Nested dicts, lists, text and numbers, as JSON has them and a device can take them.

    Args:
        value: mappings by text, lists and tuples of such values, and single ones.
        where: what they are, for errors.
        depth: how many others they are in.

    Raises:
        ValueError: one line that names the entry that is none of these, is nested too deep, has
            too many entries or too much text, is not finite, or is too large or small a number.

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
        kind = type(value).__name__
        raise ValueError(
            f"{_colon(where)}{_shown(value)} is a {kind}, not text, a number, true, false, a list "
            "or fields"
        )
    if depth == _MOST_DEEP:
        raise ValueError(f"{_colon(where)}nested more than {_MOST_DEEP} deep")
    if len(value) > _MOST_ENTRIES:
        raise ValueError(f"{_colon(where)}{len(value)} entries are more than {_MOST_ENTRIES}")
    if not named:
        entries = enumerate(value)
        return [plain(entry, dotted((i,), where), depth + 1) for i, entry in entries]
    for name in value:
        if not isinstance(name, str):
            raise ValueError(f"{_colon(where)}{_shown(name)} is not text, as a field's name is")
        _text(name, where)
    return {name: plain(value[name], dotted((name,), where), depth + 1) for name in value}


def _text(text: str, where: str) -> str:
    if len(text) > _MOST_TEXT:
        raise ValueError(
            f"{_colon(where)}{_shown(text)} is text of {len(text)} characters, more than "
            f"{_MOST_TEXT}"
        )
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{_colon(where)}{_shown(text)} has a letter that no file can hold")
    return text


def _number(number: numbers.Real, where: str) -> int | float:
    size = abs(number)
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(f"{_colon(where)}{number!r} is not finite")
    if size > FLOAT32_MAX:
        raise ValueError(
            f"{_colon(where)}{_shown(number)} is beyond float32, whose largest number is "
            f"{FLOAT32_MAX:g}"
        )
    if 0 < size < FLOAT32_MIN:
        raise ValueError(
            f"{_colon(where)}{number!r} is 0 in float32, whose least number is {FLOAT32_MIN:g}"
        )
    # As Python's own, not NumPy's.
    return int(number) if isinstance(number, numbers.Integral) else float(number)


def one_line(model: type[BaseModel], error: ValidationError, where: str = "") -> str:
    """The first problem of a validation, in one line that names the field and the value."""
    problem = error.errors(include_url=False)[0]
    path = dotted(problem["loc"], where)
    context = {key: _plain(value) for key, value in problem.get("ctx", {}).items()}
    if problem["type"] == "extra_forbidden":
        known = ", ".join(_known(model, problem["loc"][:-1])) or "none"
        return f"{path}: unknown field; known are {known}"
    words = _WORDS.get(problem["type"], problem["msg"][:1].lower() + problem["msg"][1:])
    words = words.format(**context)[:500]
    if problem["type"] in ("missing", "value_error"):
        return f"{path}: {words}" if path else words
    value = _shown(problem["input"])
    return f"{path}: {value} {words}" if path else f"{value} {words}"


def dotted(location: tuple[int | str, ...], where: str = "") -> str:
    """A field's place in words.

    Example:
        >>> dotted(("seeds", 1), "config")
        'config.seeds[1]'
    """
    path = where
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            name = shortened(part if part.isprintable() else repr(part))
            path += f".{name}" if path else name
    return path


def _known(model: type[BaseModel], rooms: tuple[int | str, ...]) -> list[str]:
    for room in rooms:
        field = model.model_fields.get(str(room))
        if field is None or not isinstance(field.annotation, type):
            return []
        model = field.annotation
    return list(model.model_fields)


def _plain(value: Any) -> Any:
    """Choices without the quotes that pydantic puts around them."""
    if isinstance(value, str):
        return value.replace(" or ", ", ").replace("'", "")
    return f"{value:g}" if isinstance(value, float) else value


def shortened(text: str, length: int = 120) -> str:
    """The beginning of a long text."""
    return text if len(text) <= length else f"{text[:length]}..."


def _shown(value: Any) -> str:
    """A value for a person; numbers of thousands of digits have no text in Python."""
    if isinstance(value, numbers.Integral) and abs(value) > 10**100:
        return f"a whole number of about {int(value).bit_length() * 0.30103:.0f} digits"
    return shortened(repr(value))


def _colon(where: str) -> str:
    return f"{where}: " if where else ""
