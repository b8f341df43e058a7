"""Seeded damage to files: bytes as a disk or a transfer leaves them, JSON as a hand does."""

import copy
import json
import random
import re
from typing import Any

_NESTED = "[" * 10**5 + "]" * 10**5
# In place of a value of a JSON file, as text: not all of it could be written from Python.
ODD = (
    "null", "true", "false", "0", "-1", "1.5", "-0.0", "1e20", "1e400", "-1e400", "1e-400", "NaN",
    "Infinity", "2147483648", "9223372036854775808", "9" * 400, "9" * 5000, '""', '"x"',
    '"../../x"', '"a\\nb"', '"\\u0000"', '"\\ud800"', f'"{"long" * 1000}"', "[]", "{}", "[[]]",
    "[null]", "[1, 2]", '{"x": 1}', '["x"]', '{"a\\nb": [1]}', _NESTED, "[" * 900 + "]" * 900,
    "{,", "]",
)  # fmt: skip
_MARK = "@odd@"


def mutate_bytes(data: bytes, seed: object) -> bytes:
    """One to four faults: flipped bits, lost, added or swapped blocks, a cut end, other integers.

    Args:
        data: the content of a file.
        seed: equal seeds give equal faults.
    """
    draw = random.Random(str(seed))
    for _ in range(draw.choice((1, 1, 2, 4))):
        data = draw.choice(_FAULTS)(data, draw) if data else draw.randbytes(9)
    return data


def _flip(data: bytes, draw: random.Random) -> bytes:
    changed, position = bytearray(data), draw.randrange(len(data))
    changed[position] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def _insert(data: bytes, draw: random.Random) -> bytes:
    position = draw.randrange(len(data) + 1)
    return data[:position] + draw.randbytes(draw.choice((1, 4, 100))) + data[position:]


def _lose(data: bytes, draw: random.Random) -> bytes:
    first, last = _block(data, draw)
    return data[:first] + data[last:]


def _repeat(data: bytes, draw: random.Random) -> bytes:
    first, last = _block(data, draw)
    return data[:last] + data[first:]


def _swap(data: bytes, draw: random.Random) -> bytes:
    a, b, c, d = sorted(draw.randrange(len(data) + 1) for _ in range(4))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _blank(data: bytes, draw: random.Random) -> bytes:
    first, last = _block(data, draw)
    return data[:first] + draw.choice((b"\0", b"\xff")) * (last - first) + data[last:]


def _integer(data: bytes, draw: random.Random) -> bytes:
    width = draw.choice((1, 2, 4, 8))
    value = draw.choice((0, 1, 127, 2 ** (8 * width - 1), 2 ** (8 * width) - 1, 2 ** (4 * width)))
    position = draw.randrange(len(data))
    return data[:position] + value.to_bytes(width, "little") + data[position + width :]


_FAULTS = (_flip, _flip, _flip, _cut, _insert, _lose, _repeat, _swap, _blank, _integer, _integer)


def _block(data: bytes, draw: random.Random) -> tuple[int, int]:
    first = draw.randrange(len(data))
    return first, min(len(data), first + draw.choice((1, 8, 64, 512)))


def mutate_json(value: Any, seed: object) -> bytes:
    """One or two faults: odd values, keys that are missing, unknown or there twice.

    Args:
        value: what a JSON file holds.
        seed: equal seeds give equal faults.
    """
    draw, changed = random.Random(str(seed)), copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 2))):
        changed = _change(changed, draw)
    text = re.sub(f'"{_MARK}"', lambda _: draw.choice(ODD), json.dumps(changed))
    if draw.random() < 0.1 and (names := [n for n in _names(changed) if f'"{n}": ' in text]):
        twice = f'"{draw.choice(names)}": '
        text = text.replace(twice, f"{twice}{draw.choice(ODD)}, {twice}", 1)
    return text.encode()


def _change(value: Any, draw: random.Random) -> Any:
    places = list(_places(value))
    if not places or draw.random() < 0.02:
        return _MARK
    holder, key = draw.choice(places)
    how = draw.random()
    if how < 0.6:
        holder[key] = _MARK
    elif how < 0.8:
        del holder[key]
    elif isinstance(holder, dict):
        holder[draw.choice(("unknown", f"{key}_", key.upper(), ""))] = holder[key]
    else:
        holder.extend([holder[key]] * draw.choice((1, 1000)))
    return value


def _places(value: Any) -> Any:
    """Every entry of every object and list, as its holder and its key there."""
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield value, key
            yield from _places(entry)


def _names(value: Any) -> list[str]:
    return [key for _, key in _places(value) if isinstance(key, str) and key.isidentifier()]
