"""Check single values of a Keras configuration.

Each function returns the value, or raises a `ValueError` that says what the value must be.
"""

import reprlib
from collections.abc import Callable
from typing import Any

# The largest size: several libraries below use 32-bit shapes.
_LARGEST = 2**31 - 1

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_short.maxlevel = 3


def shown(value: Any) -> str:
    """Return a short text of a value for an error, however long or nested the value is."""
    return _short.repr(value)


def integer(value: Any) -> int:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not value >= 1 or (isinstance(value, float) and not value.is_integer()):
        raise ValueError("a whole number of at least 1")
    if value > _LARGEST:
        raise ValueError(f"a whole number of at most {_LARGEST}")
    return int(value)


def real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number")
    # Before the conversion: an integer of 400 digits does not fit a float.
    if not -3e38 < value < 3e38:
        raise ValueError("a number of float32")
    return float(value)


def not_negative(value: Any) -> float:
    if not real(value) >= 0.0:
        raise ValueError("a number of at least 0")
    return float(value)


def share(value: Any) -> float:
    if not 0.0 <= real(value) <= 1.0:
        raise ValueError("a number from 0 to 1")
    return float(value)


def rate(value: Any) -> float:
    if not 0.0 <= real(value) < 1.0:
        raise ValueError("a number of at least 0 and below 1")
    return float(value)


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def pair(value: Any) -> tuple[int, int]:
    values = value if isinstance(value, list) else [value, value]
    if len(values) != 2:
        raise ValueError("a number or a pair of numbers")
    return integer(values[0]), integer(values[1])


def axes(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(integer(axis) for axis in (value if isinstance(value, list) else [value]))


def choice(*choices: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        name = value.lower() if isinstance(value, str) else value
        if name not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return name

    return read


def optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)
