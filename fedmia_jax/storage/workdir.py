"""Everything that touches the workdir: who owns it, results, text. The impure shell.

A workdir belongs to one fingerprint (settings and records). Files appear whole or not at all: they are written under
a temporary name and renamed. `artifacts.py` keeps what work has left, so that the same command goes on where an earlier
one stopped. Files that are read again are compared with their hashes, which stand in `hashes.json`; nothing is deleted
but drafts of our own, and with `--keep=results` what `artifacts.py` knows as its own and nobody reads again.
"""

import contextlib
import dataclasses
import fcntl
import functools
import io
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from fedmia_jax import errors, files
from fedmia_jax.config import parsing, schema
from fedmia_jax.fingerprints import fingerprint
from fedmia_jax.storage import artifacts, environment, hashes

FORMAT = 2  # of the files in a workdir; 1 is what had no number
CONFIG, RESULTS, LOG, LOCK = "config.json", "results.parquet", "metrics.jsonl", ".lock"
AGAIN = "run the same command again, which makes it anew"
CSV_ROWS = 100_000  # results.csv is written below this
# Beside the results, of runs with reference federations.
TABLES = ("intervals", "roc", "coalitions", "attribution", "comparisons")
CHANGES = "changes"  # beside those, of sweeps: differences from the first point


@dataclasses.dataclass(frozen=True)
class Workdir:
    """The folder of one experiment.

    Attributes:
      path: the folder.
      warn: called with a line about each file that is damaged and can be made anew.
    """

    path: pathlib.Path
    warn: artifacts.Warn = artifacts.warn_stderr

    @functools.cached_property
    def artifacts(self) -> artifacts.Artifacts:
        """What finished work has left."""
        return artifacts.Artifacts(self.path / "artifacts", warn=self.warn)

    def write_results(self, table: pl.DataFrame) -> None:
        """Writes `results.parquet`, and `results.csv` where it is small enough to open."""
        self._write_parquet(RESULTS, table)
        if table.height < CSV_ROWS:
            self.write_text("results.csv", table.write_csv())

    def write_table(self, name: str, table: pl.DataFrame) -> None:
        """Writes `NAME.parquet`, one of `TABLES`."""
        self._write_parquet(f"{name}.parquet", table)

    def read_table(self, name: str) -> pl.DataFrame | None:
        """Returns a table of `write_table`, or None where there is none.

        Raises:
          InputError: it is damaged.
        """
        return self._read_parquet(f"{name}.parquet") if (self.path / f"{name}.parquet").exists() else None

    def read_results(self) -> pl.DataFrame:
        """Reads `results.parquet`.

        Raises:
          InputError: there is none yet, or it is damaged.
        """
        if not (self.path / RESULTS).exists():
            raise errors.InputError(f"workdir={self.path}: no {RESULTS} there; run it first with --mode=run")
        return self._read_parquet(RESULTS)

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file."""
        with files.replacing(self.path / name) as file:
            file.write(text.encode())

    def write_config(self, record: Mapping[str, Any]) -> None:
        """Writes `config.json`: whose the workdir is."""
        self._write_hashed(CONFIG, _config_content(record))

    def log(self, **values: Any) -> None:
        """Appends a line to `metrics.jsonl`."""
        with files.naming(self.path / LOG), open(self.path / LOG, "a") as file:
            file.write(json.dumps(values) + "\n")

    def _write_parquet(self, name: str, table: pl.DataFrame) -> None:
        """Writes a table, and its hash."""
        content = io.BytesIO()
        table.write_parquet(content)
        self._write_hashed(name, content.getvalue())

    def _read_parquet(self, name: str) -> pl.DataFrame:
        """Reads a table that is what was written."""
        try:
            hashes.check(self.path, name, read_hashes(self.path).get(name))
            return pl.read_parquet(self.path / name)
        except hashes.DamagedError as error:
            raise _damaged(self.path, error) from error
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _damaged(self.path, hashes.DamagedError(name, str(error))) from error

    def _write_hashed(self, name: str, content: bytes) -> None:
        """Writes a file, then its hash; whoever reads in between finds that they differ."""
        with files.replacing(self.path / name) as file:
            file.write(content)
        try:
            kept = read_hashes(self.path)
        except hashes.DamagedError:  # each file comes back to it when it is written again
            kept = {}
        with files.replacing(self.path / hashes.LIST) as file:
            file.write(hashes.seal({"files": kept | {name: hashes.digest(content)}}, indent=2))


def read_hashes(path: pathlib.Path) -> dict[str, str]:
    """Reads the `hashes.json` of a workdir: hashes by name of file; none where there is no such file.

    Raises:
      DamagedError: it is not what was written.
    """
    if not (path / hashes.LIST).exists():
        return {}
    return hashes.unseal(hashes.read(path, hashes.LIST), hashes.LIST)["files"]


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """Reads the `config.json` of a workdir.

    Raises:
      InputError: the folder holds none, or it is damaged, or of another format.
    """
    if not (path / CONFIG).exists():
        raise errors.InputError(f"workdir={path}: no {CONFIG} there; it must be the folder of a run")
    try:
        return _read_config(path)
    except hashes.DamagedError as error:
        raise _damaged(path, error) from error


def _read_config(path: pathlib.Path) -> dict[str, Any]:
    """The contents of `config.json`; DamagedError where they are not what was written."""
    content = hashes.read(path, CONFIG)
    contents = hashes.parse(content, CONFIG)
    if hashes.CHECK not in contents and "format" not in contents and "fingerprint" in contents:
        contents["format"] = 1
    else:
        contents = hashes.unseal(content, CONFIG)
    if contents.get("format") != FORMAT:
        raise errors.InputError(
            f"workdir={path}: made by format {contents.get('format')}, this program reads {FORMAT}; use another "
            "--workdir, or the release that made it"
        )
    return contents


def _config_content(record: Mapping[str, Any]) -> bytes:
    """What `config.json` consists of."""
    return hashes.seal({"format": FORMAT, **record}, indent=2)


def _damaged(path: pathlib.Path, error: hashes.DamagedError) -> errors.InputError:
    """What a damaged file means to a person."""
    return errors.InputError(f"workdir={path}: {error.name} is damaged ({error.reason}); {AGAIN}")


def describe(settings: schema.Settings, points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what `config.json` says of the settings: those of the first point, and the values of all."""
    plain = {"settings": parsing.nest(settings.active), "sweep": [dict(values) for values in points if values]}
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
    path: os.PathLike | str,
    described: Mapping[str, Any],
    *,
    records: Sequence[str],
    title: str,
    warn: artifacts.Warn = artifacts.warn_stderr,
) -> Iterator[Workdir]:
    """Takes a folder for an experiment or a sweep and holds it until the block ends.

    Args:
      path: the folder; made if absent.
      described: what runs there, as `describe` returns it.
      records: fingerprints of the data sets that it runs on.
      title: what those are, for people.
      warn: called with a line about each file that is damaged and can be made anew.

    Raises:
      InputError: the folder holds another experiment, files of somebody else, or another process has it.
    """
    path = pathlib.Path(path)
    record = {"title": title, "fingerprint": identify(described, records), "records": list(records), **described}
    _check_owner(path, record)
    path.mkdir(parents=True, exist_ok=True)
    with open(path / LOCK, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise errors.InputError(
                f"workdir={path}: another process is running there; wait for it or choose another --workdir"
            ) from error
        _check_owner(path, record, warn)  # somebody may have taken it in between
        for entry in [*path.glob(f"*{files.SUFFIX}"), *(path / "figures").glob(f"*{files.SUFFIX}")]:
            if files.is_draft(entry):  # of a process that was killed
                entry.unlink()
        _mend_log(path / LOG)
        workdir = Workdir(path, warn)
        workdir.write_config(record)
        workdir.write_text("environment.json", json.dumps(environment.describe(), indent=2) + "\n")
        yield workdir


def _check_owner(path: pathlib.Path, record: Mapping[str, Any], warn: artifacts.Warn | None = None) -> None:
    """Raises where a folder belongs to another experiment, naming what differs."""
    if path.exists() and not path.is_dir():
        raise errors.InputError(f"workdir={path}: is a file; choose another --workdir")
    if not path.exists() or all(entry.name == LOCK or files.is_draft(entry) for entry in path.iterdir()):
        return
    if not (path / CONFIG).exists():
        raise errors.InputError(f"workdir={path}: holds files but no config.json; choose an empty --workdir")
    try:
        before = _read_config(path)
    except hashes.DamagedError as error:
        _check_damaged_owner(path, record, error, warn)
        return
    if before["fingerprint"] == record["fingerprint"] or _extends(before, record):
        return
    old, new = (parsing.flat(item["settings"]) for item in (before, record))
    changed = [f"{name}={old.get(name)!r} there, {new[name]!r} here" for name in new if old.get(name) != new[name]]
    if before["sweep"] != record["sweep"]:
        changed.append("another sweep")
    raise errors.InputError(
        f"workdir={path}: holds another experiment ({'; '.join(changed[:3]) or 'other records'}); "
        "choose another --workdir, or delete it"
    )


def _check_damaged_owner(
    path: pathlib.Path, record: Mapping[str, Any], error: hashes.DamagedError, warn: artifacts.Warn | None
) -> None:
    """Raises unless a folder with a damaged `config.json` is known to belong to an experiment by the file's hash."""
    try:
        kept = read_hashes(path).get(CONFIG)
    except hashes.DamagedError:
        kept = None
    if kept != hashes.digest(_config_content(record)):
        raise errors.InputError(
            f"workdir={path}: {error.name} is damaged ({error.reason}); run the command that made it, which makes it "
            "anew, or choose another --workdir"
        )
    if warn:
        warn(f"{path / error.name} is damaged ({error.reason}); made anew")


def _mend_log(path: pathlib.Path) -> None:
    """Takes away a last line of `metrics.jsonl` that a killed process did not end."""
    if not path.exists():
        return
    with open(path, "rb+") as file:
        whole, newline, last = file.read().rpartition(b"\n")
        try:
            file.write(b"\n" if last and json.loads(last) else b"")
        except ValueError:
            file.truncate(len(whole + newline))


def _extends(before: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether a record asks for more replicates of the same, of which those that are there stay."""
    old, new = (item["settings"] | {"replicates": 0} for item in (before, record))
    more = record["settings"]["replicates"] > before["settings"]["replicates"]
    return more and identify({**record, "settings": new}, record["records"]) == identify(
        {"settings": old, "sweep": before["sweep"]}, before["records"]
    )
