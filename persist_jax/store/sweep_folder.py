"""Read the folder of a sweep: its configuration and the records of its runs."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from persist_jax.store.configuration import CONFIG_FILE, ReportOptions
from persist_jax.store.files import read_json
from persist_jax.store.groups import GROUPS_FOLDER
from persist_jax.store.locks import lock_files
from persist_jax.store.notes import COMMANDS_FILE, COSTS_FILE
from persist_jax.store.record import Record, read_results
from persist_jax.store.run import TENSORBOARD_FOLDER

PROFILE_FOLDER = "profile"  # profiles of the training
JOBS_FOLDER = "jobs"  # output of a cluster's tasks


@dataclass(frozen=True)
class SweepFolder:
    """A sweep on disk.

    Attributes:
        path: its folder.
        title: its name in a report, unique among the sweeps of the report.
        config: the content of `config.json`; only its name is required.
        records: the finished runs, with continued ones.
    """

    path: Path
    title: str
    config: dict[str, Any]
    records: tuple[Record, ...]

    @property
    def grid_records(self) -> tuple[Record, ...]:
        """The records of the grid itself, without the continued runs."""
        return tuple(record for record in self.records if not record.continued)

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks with a finished run: in the configuration's order, then all others."""
        found = {record.network for record in self.records}
        named = [name for name in dict.fromkeys(self._listed("networks")) if name in found]
        return tuple(named + sorted(found - set(named), key=_natural))

    @property
    def regularisers(self) -> tuple[str, ...]:
        """The regularisers that the configuration lists, then others with a finished run."""
        found = {record.regulariser for record in self.records}
        named = list(dict.fromkeys(self._listed("regularisers")))
        return tuple(named + sorted(found - set(named)))

    @property
    def notice(self) -> str:
        """The configuration's notice to readers of the results; may be empty."""
        notice = self.config.get("notice")
        return notice if isinstance(notice, str) else ""

    def _listed(self, field: str) -> list[str]:
        names = self.config.get(field)
        return [str(name) for name in names] if isinstance(names, list) else []


def report_folder(workdir: Path) -> Path:
    """Return the folder of a sweep's own report."""
    return workdir / "report"


def refuse_links(workdir: Path) -> None:
    """Refuse symbolic links in a sweep's folder: writes would land elsewhere."""
    paths = [workdir / "runs", workdir / GROUPS_FOLDER, workdir / TENSORBOARD_FOLDER]
    paths += [workdir / name for name in (CONFIG_FILE, COMMANDS_FILE, COSTS_FILE)]
    paths += [report_folder(workdir), workdir / PROFILE_FOLDER, workdir / JOBS_FOLDER]
    for path in (*paths, *lock_files(workdir / "lock")):
        below = [Path(folder, name) for folder, *names in os.walk(path) for name in sum(names, [])]
        for place in (path, *below):
            # submitit links files within its own folder.
            within = path.name == JOBS_FOLDER and path.resolve() in place.resolve().parents
            if place.is_symlink() and not within:
                raise ValueError(
                    f"{place}: a link, but a sweep writes only below {workdir}; put a folder or a "
                    "file in its place"
                )


def read_sweep(workdir: str | os.PathLike[str]) -> SweepFolder:
    """Read a sweep's folder.

    Raises:
        ValueError: there is no such folder or no `config.json`, or a file is wrong; one line.
    """
    config = _read_named(Path(workdir))
    return SweepFolder(Path(workdir), config["name"], config, tuple(read_results(workdir)))


def read_sweeps(workdirs: Sequence[str | os.PathLike[str]]) -> list[SweepFolder]:
    """Read several sweeps; if two have the same name, all are titled by their folders.

    Raises:
        ValueError: as `read_sweep`; or no folder is given, or one folder twice.
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
    return [replace(sweep, title=title) for sweep, title in zip(sweeps, titles, strict=True)]


def read_report_options(workdir: str | os.PathLike[str]) -> ReportOptions:
    """Read the field `report` of a sweep's configuration; missing options have their defaults.

    Raises:
        ValueError: there is no such folder or no `config.json`, or an option is unknown or wrong;
            one line.
    """
    fields = _read_named(Path(workdir)).get("report", {})
    if isinstance(fields, dict) and "alpha" in fields:  # its name in versions before 0.2
        fields = {"significance": fields["alpha"]} | {n: fields[n] for n in fields if n != "alpha"}
    try:
        return ReportOptions.read(fields, "report")
    except ValueError as error:
        raise ValueError(f"{Path(workdir) / CONFIG_FILE}: {error}") from None


def _read_named(workdir: Path) -> dict[str, Any]:
    """Read `config.json` of any version; only the name is required."""
    if not workdir.is_dir():
        raise ValueError(f"workdir: {workdir} is not a folder")
    path = workdir / CONFIG_FILE
    if not path.exists():
        raise ValueError(f"{path}: no such file; a sweep writes it when it starts")
    config = read_json(path)
    if not isinstance(config, dict) or not isinstance(config.get("name"), str):
        raise ValueError(f"{path}: name: missing; it is the configuration's name")
    return config


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
