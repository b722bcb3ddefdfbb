"""Everything that touches the workdir: who owns it, results, text. The impure shell.

A workdir belongs to one fingerprint (settings and records). Files appear whole or not at all: they are written under
a temporary name and renamed. `artifacts.py` keeps what work has left, so that the same command goes on where an earlier
one stopped.
"""

import contextlib
import dataclasses
import fcntl
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import polars as pl

from fedmia_jax import errors, files
from fedmia_jax.config import parsing, schema
from fedmia_jax.fingerprints import fingerprint
from fedmia_jax.storage import artifacts

CSV_ROWS = 100_000  # results.csv is written below this
TABLES = ("intervals", "roc", "coalitions", "attribution")  # beside the results, of runs with reference federations
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "polars", "ml-collections")


@dataclasses.dataclass(frozen=True)
class Workdir:
    """The folder of one experiment."""

    path: pathlib.Path

    @functools.cached_property
    def artifacts(self) -> artifacts.Artifacts:
        """What finished work has left."""
        return artifacts.Artifacts(self.path / "artifacts")

    def write_results(self, table: pl.DataFrame) -> None:
        """Writes `results.parquet`, and `results.csv` where it is small enough to open."""
        with files.replacing(self.path / "results.parquet") as file:
            table.write_parquet(file)
        if table.height < CSV_ROWS:
            with files.replacing(self.path / "results.csv") as file:
                table.write_csv(file)

    def write_table(self, name: str, table: pl.DataFrame) -> None:
        """Writes `NAME.parquet`, one of `TABLES`."""
        with files.replacing(self.path / f"{name}.parquet") as file:
            table.write_parquet(file)

    def read_table(self, name: str) -> pl.DataFrame | None:
        """Returns a table of `write_table`, or None where there is none."""
        path = self.path / f"{name}.parquet"
        return pl.read_parquet(path) if path.exists() else None

    def read_results(self) -> pl.DataFrame:
        """Reads `results.parquet`.

        Raises:
          InputError: there is none yet.
        """
        file_path = self.path / "results.parquet"
        if not file_path.exists():
            raise errors.InputError(f"workdir={self.path}: no results.parquet there; run it first with --mode=run")
        return pl.read_parquet(file_path)

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file."""
        with files.replacing(self.path / name) as file:
            file.write(text.encode())

    def log(self, **values: Any) -> None:
        """Appends a line to `metrics.jsonl`."""
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(values) + "\n")


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """Reads the `config.json` of a workdir.

    Raises:
      InputError: the folder holds none.
    """
    try:
        about = json.loads((path / "config.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise errors.InputError(f"workdir={path}: no readable config.json there ({error})") from error
    if not isinstance(about, dict) or not {"title", "fingerprint", "records", "settings", "sweep"} <= set(about):
        raise errors.InputError(f"workdir={path}: made by another version; choose another --workdir")
    return about


def describe(settings: schema.Settings, points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what `config.json` says of the settings: those of the first point, and the values of all."""
    plain = {"settings": parsing.nest(settings.flat), "sweep": [dict(values) for values in points if values]}
    return json.loads(json.dumps(plain))


def identify(described: Mapping[str, Any], records: Sequence[str]) -> str:
    """Returns what a workdir belongs to: a hash of the settings and of the content of the records.

    Args:
      described: as `describe` returns it.
      records: fingerprints of the data sets.
    """
    settings = described["settings"]
    data = {name: value for name, value in settings["data"].items() if name != "path"}  # content counts, not place
    return fingerprint(settings | {"data": data}, described["sweep"], list(records))


@contextlib.contextmanager
def open_workdir(
    path: os.PathLike | str, described: Mapping[str, Any], *, records: Sequence[str], title: str
) -> Iterator[Workdir]:
    """Takes a folder for an experiment or a sweep and holds it until the block ends.

    Args:
      path: the folder; made if absent.
      described: what runs there, as `describe` returns it.
      records: fingerprints of the data sets that it runs on.
      title: what those are, for people.

    Raises:
      InputError: the folder holds another experiment, files of somebody else, or another process has it.
    """
    path = pathlib.Path(path)
    record = {"title": title, "fingerprint": identify(described, records), "records": list(records), **described}
    _check_owner(path, record)
    path.mkdir(parents=True, exist_ok=True)
    with open(path / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise errors.InputError(
                f"workdir={path}: another process is running there; wait for it or choose another --workdir"
            ) from error
        _check_owner(path, record)  # somebody may have taken it in between
        for draft in [*path.glob(".*.*"), *(path / "figures").glob(".*.*")]:  # of a process that was killed
            draft.unlink()
        workdir = Workdir(path)
        workdir.write_text("config.json", json.dumps(record, indent=2) + "\n")
        workdir.write_text("environment.json", json.dumps(environment(), indent=2) + "\n")
        yield workdir


def _check_owner(path: pathlib.Path, record: Mapping[str, Any]) -> None:
    """Raises where a folder belongs to another experiment, naming what differs."""
    if path.exists() and not path.is_dir():
        raise errors.InputError(f"workdir={path}: is a file; choose another --workdir")
    if not path.exists() or all(entry.name.startswith(".") for entry in path.iterdir()):  # the lock, a torn draft
        return
    if not (path / "config.json").exists():
        raise errors.InputError(f"workdir={path}: holds files but no config.json; choose an empty --workdir")
    before = read_config(path)
    if before.get("fingerprint") == record["fingerprint"] or _extends(before, record):
        return
    old, new = (parsing.flat(item.get("settings", {})) for item in (before, record))
    changed = [f"{name}={old.get(name)!r} there, {new[name]!r} here" for name in new if old.get(name) != new[name]]
    if before.get("sweep", []) != record["sweep"]:
        changed.append("another sweep")
    raise errors.InputError(
        f"workdir={path}: holds another experiment ({'; '.join(changed[:3]) or 'other records'}); "
        "choose another --workdir, or delete it"
    )


def _extends(before: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether a record asks for more replicates of the same, of which those that are there stay."""
    old, new = (item["settings"] | {"replicates": 0} for item in (before, record))
    more = record["settings"]["replicates"] > before["settings"]["replicates"]
    return more and identify({**record, "settings": new}, record["records"]) == identify(
        {"settings": old, "sweep": before["sweep"]}, before["records"]
    )


def environment() -> dict[str, Any]:
    """Returns what a result depends on beside its settings: versions and devices."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "devices": [device.device_kind for device in jax.devices()],
        "backend": jax.default_backend(),
        "cpu_count": os.cpu_count(),
    }
