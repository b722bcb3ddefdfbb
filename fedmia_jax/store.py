"""Everything that touches the workdir: who owns it, finished stages, results. The impure shell.

A workdir belongs to one fingerprint (settings and records). Files appear whole or not at all: they are written under
a temporary name and renamed. A finished stage is one `.npz`, so the same command goes on where an earlier one stopped.
"""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import jax
import numpy as np
import polars as pl

from fedmia_jax import config, errors
from fedmia_jax.data import dataset as datasets

CSV_ROWS = 100_000  # results.csv is written below this
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "polars", "ml-collections")


@contextlib.contextmanager
def replacing(path: os.PathLike | str) -> Iterator[BinaryIO]:
    """Opens a file that takes the place of `path` only when the block ends without an exception."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        pathlib.Path(name).unlink(missing_ok=True)
        raise


@dataclasses.dataclass(frozen=True)
class Workdir:
    """The folder of one experiment."""

    path: pathlib.Path

    def stage(self, name: str, compute: Callable[[], Any]) -> Any:
        """Returns the arrays of a finished stage, or computes and keeps them.

        Args:
          name: the stage's name.
          compute: returns a mapping of names to arrays, nested mappings allowed.

        Returns:
          The mapping, as NumPy arrays.
        """
        file_path = self.path / "stages" / f"{name}.npz"
        if self.finished(name):
            with np.load(file_path, allow_pickle=False) as stored:
                return _nest({key: stored[key] for key in stored.files})
        flat = {key: np.asarray(value) for key, value in _flatten(compute()).items()}
        with replacing(file_path) as file:
            np.savez(file, allow_pickle=False, **flat)
        return _nest(flat)

    def finished(self, name: str) -> bool:
        """Whether a stage has been kept."""
        return (self.path / "stages" / f"{name}.npz").exists()

    def write_results(self, table: pl.DataFrame) -> None:
        """Writes `results.parquet`, and `results.csv` where it is small enough to open."""
        with replacing(self.path / "results.parquet") as file:
            table.write_parquet(file)
        if table.height < CSV_ROWS:
            with replacing(self.path / "results.csv") as file:
                table.write_csv(file)

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
        with replacing(self.path / name) as file:
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
        return json.loads((path / "config.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise errors.InputError(f"workdir={path}: no readable config.json there ({error})") from error


def fingerprint(settings: config.Settings, records: datasets.Dataset) -> str:
    """Returns what a workdir belongs to: a hash of the settings and of the content of the records."""
    plain = dataclasses.asdict(settings)
    del plain["data"]["path"]  # the content counts, wherever it lies
    return config.fingerprint(plain, records.fingerprint)


@contextlib.contextmanager
def open_workdir(path: os.PathLike | str, settings: config.Settings, records: datasets.Dataset) -> Iterator[Workdir]:
    """Takes a folder for an experiment and holds it until the block ends.

    Args:
      path: the folder; made if absent.
      settings: what runs there.
      records: what it runs on.

    Raises:
      InputError: the folder holds another experiment, files of somebody else, or another process has it.
    """
    path = pathlib.Path(path)
    record = {
        "title": records.title,
        "fingerprint": fingerprint(settings, records),
        "records": records.fingerprint,
        "settings": json.loads(json.dumps(dataclasses.asdict(settings))),
    }
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
    if before.get("fingerprint") == record["fingerprint"]:
        return
    old, new = (_flatten(item.get("settings", {}), separator=".") for item in (before, record))
    changed = [f"{name}={old.get(name)!r} there, {new[name]!r} here" for name in new if old.get(name) != new[name]]
    raise errors.InputError(
        f"workdir={path}: holds another experiment ({'; '.join(changed[:3]) or 'other records'}); "
        "choose another --workdir, or delete it"
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


def _flatten(tree: Mapping[str, Any], prefix: str = "", separator: str = "/") -> dict[str, Any]:
    """Nested mapping -> one level, names joined."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}{separator}", separator)
        else:
            flat[prefix + name] = value
    return flat


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `_flatten` with "/"."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *groups, last = name.split("/")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = value
    return tree
