"""The folder of a sweep: its configuration and the records of its runs."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persist_jax.regularisers import REGULARISERS
from persist_jax.results.records import Record, read_results

REPORT_OPTIONS = ("alpha", "test", "correction")


@dataclass(frozen=True)
class Sweep:
    """A sweep as it lies on disk.

    Args:
        workdir: its folder.
        title: its name, different from those of the sweeps it is shown with.
        config: what `config.json` holds.
        records: the runs that have ended, continued ones too.
    """

    workdir: Path
    title: str
    config: dict[str, Any]
    records: tuple[Record, ...]

    @property
    def grid_records(self) -> tuple[Record, ...]:
        """The records of the grid itself, without the continued runs."""
        return tuple(record for record in self.records if not record.continued)

    @property
    def networks(self) -> tuple[str, ...]:
        """Networks with a run that has ended, in the configuration's order where it names them."""
        found = {record.run.network for record in self.records}
        listed = self.config.get("networks")
        listed = [str(name) for name in listed] if isinstance(listed, list) else []
        named = [name for name in dict.fromkeys(listed) if name in found]
        return tuple(named + sorted(found - set(named), key=_natural))

    @property
    def regularisers(self) -> tuple[str, ...]:
        """The regularisers with a run that has ended or that the configuration lists."""
        found = {record.run.regulariser for record in self.records}
        listed = self.config.get("regularisers")
        found.update(listed if isinstance(listed, list) else ())
        return tuple(name for name in REGULARISERS if name in found)


def read_sweep(workdir: str | os.PathLike[str]) -> Sweep:
    """Reads a sweep's folder.

    Raises:
        ValueError: one line: no such folder, no `config.json`, or a broken file.
    """
    workdir = Path(workdir)
    config = read_config(workdir)
    return Sweep(workdir, config["name"], config, tuple(read_results(workdir)))


def read_sweeps(workdirs: Sequence[str | os.PathLike[str]]) -> list[Sweep]:
    """Reads several sweeps; those of one name are told apart by their folders.

    Raises:
        ValueError: as `read_sweep`, or when no folder or one folder twice is given.
    """
    if not workdirs:
        raise ValueError("workdir: at least one folder is needed")
    paths = [Path(workdir).resolve() for workdir in workdirs]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f"workdir: {path} is given more than once")
    sweeps = [read_sweep(workdir) for workdir in workdirs]
    titles = [sweep.title for sweep in sweeps]
    for choices in ([path.name for path in paths], [str(path) for path in paths]):
        if len(set(titles)) < len(titles):
            titles = choices
    return [
        Sweep(sweep.workdir, title, sweep.config, sweep.records)
        for sweep, title in zip(sweeps, titles, strict=True)
    ]


def read_report_options(workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """The field `report` of a sweep's configuration, empty where it has none.

    Raises:
        ValueError: one line: no such folder, no `config.json`, or an option that does not exist.
    """
    options = read_config(workdir).get("report", {})
    if not isinstance(options, dict) or not set(options) <= set(REPORT_OPTIONS):
        choices = ", ".join(REPORT_OPTIONS)
        raise ValueError(
            f"{Path(workdir) / 'config.json'}: report: {options!r} has other fields than {choices}"
        )
    return options


def read_config(workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the `config.json` of a sweep; only its `name` has to be there.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    if not Path(workdir).is_dir():
        raise ValueError(f"workdir: {workdir} is not a folder")
    path = Path(workdir) / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; a sweep writes it when it starts") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("name"), str):
        raise ValueError(f"{path}: name: missing; it is the configuration's name")
    return config


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
