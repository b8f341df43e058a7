"""Where and with what runs were trained, as far as their records say."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from persist_jax.store import Record
from persist_jax.store.record import Origin


class Made(NamedTuple):
    """A place of training.

    Attributes:
        runs: how many were trained there, wholly or in part.
        origin: the place.
    """

    runs: int
    origin: Origin

    @property
    def machine(self) -> str:
        """Devices, cores and a precision that is not the default, in words."""
        o = self.origin
        devices = f"{o.devices} device{'s' if o.devices > 1 else ''}"
        machine = f"{o.device}, {devices}, {o.cores} core{'s' if o.cores > 1 else ''}"
        chosen = o.matmul_precision != "default"
        return f"{machine}, products at {o.matmul_precision}" if chosen else machine

    @property
    def versions(self) -> str:
        """Of Python and the packages, in words."""
        return ", ".join(f"{name} {version}" for name, version in self.origin.versions.items())


def made_by(records: Iterable[Record]) -> list[Made]:
    """The places where runs were trained; the one with the most runs first.

    What only says which runs they were, the configuration's checksum, is left out.
    """
    found: Counter[str] = Counter()
    origins: dict[str, Origin] = {}
    for record in records:
        own = {_key(origin): origin for origin in record.origins}
        found.update(own.keys())
        origins |= own
    return [Made(count, origins[key]) for key, count in found.most_common()]


def _key(origin: Origin) -> str:
    return repr(sorted((origin.plain() | {"configuration": ""}).items(), key=str))
