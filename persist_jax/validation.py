"""What comes from outside is checked field by field; what does not hold is one line."""

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Read = TypeVar("Read", bound="Fields")

# Numbers with their bounds.
Size = Annotated[int, Field(ge=1)]  # a count of something that must be there
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]

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
    value = _shortened(repr(problem["input"]))
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
            path += f".{part}" if path else part
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


def _shortened(text: str, length: int = 120) -> str:
    return text if len(text) <= length else f"{text[:length]}..."
