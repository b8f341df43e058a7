"""Number types for the parameters of registered functions.

A registered function annotates its parameters with them; a wrong value raises an error of one line.
"""

import struct
from typing import Annotated, Any

from pydantic import AfterValidator, Field

INT32_MAX = 2**31 - 1
FLOAT32_MIN, FLOAT32_MAX = 2.0**-126, (2 - 2.0**-23) * 2.0**127  # smallest normal, and largest


def as_list(value: Any) -> Any:
    """Wrap a single value, as a command line gives it, in a list."""
    return [value] if isinstance(value, str | int | float) else value


def _not_one(value: float) -> float:
    if struct.unpack("f", struct.pack("f", value))[0] == 1:
        raise ValueError(f"{value!r} is 1 in float32, must be below")
    return value


def _not_zero(value: float) -> float:
    if value == 0:
        raise ValueError(f"{value!r} must not be 0")
    return value


Size = Annotated[int, Field(ge=1, le=INT32_MAX)]  # a count that is not 0
Count = Annotated[int, Field(ge=0, le=INT32_MAX)]
Positive = Annotated[float, Field(gt=0)]
NotZero = Annotated[float, AfterValidator(_not_zero)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(gt=0, le=1)]  # a share that is not 0
Rate = Annotated[float, Field(ge=0, lt=1), AfterValidator(_not_one)]
