"""The machines and versions that trained the runs, from their records."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from persist_jax.store import Record
from persist_jax.store.record import Origin


class Made(NamedTuple):
    """A machine with versions, and its number of runs.

    Attributes:
        runs: number of runs that it trained, wholly or in part.
        origin: the machine and the versions.
    """

    runs: int
    origin: Origin

    @property
    def machine(self) -> str:
        """Devices, cores and, unless it is the default, the precision, as text."""
        o = self.origin
        devices = f"{o.devices} device{'s' if o.devices > 1 else ''}"
        machine = f"{o.device}, {devices}, {o.cores} core{'s' if o.cores > 1 else ''}"
        chosen = o.matmul_precision != "default"
        return f"{machine}, products at {o.matmul_precision}" if chosen else machine

    @property
    def versions(self) -> str:
        """Versions of Python and the packages, as text."""
        return ", ".join(f"{name} {version}" for name, version in self.origin.versions.items())


def made_by(records: Iterable[Record]) -> list[Made]:
    """Count the runs by origin, most runs first; the configuration's checksum is ignored."""
    found: Counter[str] = Counter()
    origins: dict[str, Origin] = {}
    for record in records:
        own = {_key(origin): origin for origin in record.origins}
        found.update(own.keys())
        origins |= own
    return [Made(count, origins[key]) for key, count in found.most_common()]


def _key(origin: Origin) -> str:
    return repr(sorted((origin.plain() | {"configuration": ""}).items(), key=str))
