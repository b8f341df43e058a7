"""Where and with what a run was trained, as far as its last bits may depend on it."""

from persist_jax._plumbing.validation import Fields
from persist_jax.parameters import Size


class Origin(Fields):
    """A stretch of a run's training.

    Attributes:
        device: kind of the devices, as "cpu (AMD EPYC)" or "NVIDIA H100".
        devices: how many trained, in all processes.
        processes: how many they belonged to.
        cores: how many this process might use.
        matmul_precision: of the networks' products; see `persist_jax.models.at_precision`. A file
            without it is of a training at "default".
        versions: of Python and of the packages that compute, by name.
        revision: the git revision of the code, with "-dirty" if it was changed; null where the
            code is not a repository.
        configuration: checksum of the fields that the runs depend on.
    """

    device: str
    devices: Size
    processes: Size = 1
    cores: Size
    matmul_precision: str = "default"
    versions: dict[str, str]
    revision: str | None
    configuration: str

    def differences(self, other: "Origin") -> list[str]:
        """What is not as in another one, in words, `here, there before`.

        Example:
            >>> one = Origin(device="cpu", devices=1, cores=2, versions={"jax": "0.10.2"},
            ...              revision=None, configuration="9f")
            >>> one.replace(devices=2).differences(one)
            ['devices 2, before 1']
        """
        ours, theirs = _flat(self), _flat(other)
        names = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
        return [f"{name} {ours.get(name)}, before {theirs.get(name)}" for name in names]


def _flat(origin: Origin) -> dict[str, object]:
    fields = origin.plain()
    return fields.pop("versions") | fields
