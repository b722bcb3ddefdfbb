"""Folders of arrays that appear whole or not at all, with the hashes of their files in `hashes.json`.

Only files that are listed there are read, so that what others put into a folder does not matter. What is damaged is
renamed, never deleted; what is deleted is known to be our own by its whole name.
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, BinaryIO, cast

import numpy as np

from fedmia_jax import files
from fedmia_jax.storage import hashes

DRAFT = re.compile(r"\.[a-z0-9_-]+" + re.escape(files.SUFFIX))
SUFFIX = ".npy"


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a folder holds, as its `hashes.json` says.

    Attributes:
      files: hash of each file by its name.
      before: hashes of the folders that have to be there too, by their names.
      digest: hash of `hashes.json` itself.
    """

    files: Mapping[str, str]
    before: Mapping[str, str]
    digest: str


def write(path: pathlib.Path, leaves: Mapping[str, Any], *, before: Mapping[str, str] | None = None) -> Listing:
    """Makes a folder of arrays by name; nothing else may be at `path`.

    Args:
      path: the folder.
      leaves: arrays by name.
      before: hashes of other folders that it goes with, by their names.

    Returns:
      What it holds.
    """
    draft = path.parent / f".{path.name}{files.SUFFIX}"
    remove(draft)
    draft.mkdir(parents=True, exist_ok=True)
    listed = {}
    for name, leaf in leaves.items():
        listed[f"{name}{SUFFIX}"] = _write_array(draft, path, f"{name}{SUFFIX}", np.asarray(leaf))
    content = hashes.seal({"files": listed, "before": dict(before or {})})
    with files.naming(path / hashes.LIST), open(draft / hashes.LIST, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.rename(draft, path)
    return Listing(listed, dict(before or {}), hashes.digest(content))


def _write_array(draft: pathlib.Path, path: pathlib.Path, name: str, leaf: np.ndarray) -> str:
    """Writes one array of a folder that will be at `path`, and returns the hash of its file."""
    with files.naming(path / name), open(draft / name, "wb") as file:
        writer = hashes.Writer(file)
        np.save(cast(BinaryIO, writer), leaf, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    return writer.digest()


def check(path: pathlib.Path, *, expected: str | None = None) -> Listing:
    """Compares all files of a folder with their hashes.

    Args:
      path: the folder.
      expected: hash of its `hashes.json`, where that is kept elsewhere.

    Raises:
      DamagedError: a file is missing or another.
    """
    content = hashes.read(path, hashes.LIST)
    contents = hashes.unseal(content, hashes.LIST)
    listing = Listing(contents.get("files", {}), contents.get("before", {}), hashes.digest(content))
    if expected not in (None, listing.digest):
        raise hashes.DamagedError(hashes.LIST, hashes.DIFFERS)
    for name, of_file in listing.files.items():
        hashes.check(path, name, of_file)
    return listing


def read(path: pathlib.Path, listing: Listing) -> dict[str, np.ndarray]:
    """Returns the arrays of a folder that has been checked, on disk until they are used.

    Raises:
      DamagedError: a file is missing or no array.
    """
    arrays = {}
    for name in listing.files:
        try:
            arrays[name.removesuffix(SUFFIX)] = np.load(path / name, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # of a damaged header NumPy raises many kinds
            raise hashes.DamagedError(name, str(error)) from error
    return arrays


def remove(path: pathlib.Path) -> None:
    """Deletes a folder of arrays, or the draft of one; files of others stay, in their folder."""
    if path.is_symlink() or not path.is_dir():
        return
    entries = list(path.iterdir())
    own = [entry for entry in entries if entry.is_file() and (entry.name == hashes.LIST or entry.suffix == SUFFIX)]
    for entry in sorted(own, key=lambda entry: entry.name != hashes.LIST):  # without its list it is no folder of ours
        entry.unlink()
    if len(own) == len(entries):
        path.rmdir()


def remove_listed(path: pathlib.Path) -> None:
    """Deletes what a folder's own list names, the list at last, so that a process that is killed in it can go on.

    Files of others stay, in their folder; so does all of a folder whose list is missing or damaged, and what a list
    names that no list of ours would: other than arrays, and files elsewhere.
    """
    if path.is_symlink() or not path.is_dir():
        return
    try:
        contents = hashes.unseal(hashes.read(path, hashes.LIST), hashes.LIST)
    except hashes.DamagedError:
        return
    own = [name for name in contents.get("files", {}) if name.endswith(SUFFIX) and pathlib.PurePath(name).name == name]
    for name in (*own, hashes.LIST):
        (path / name).unlink(missing_ok=True)
    if not any(path.iterdir()):
        path.rmdir()


def set_aside(path: pathlib.Path) -> pathlib.Path:
    """Renames what is damaged to the first free `damaged-N-NAME` beside it, and returns that."""
    number = 1
    while os.path.lexists(aside := path.parent / f"damaged-{number}-{path.name}"):
        number += 1
    os.rename(path, aside)
    return aside


def is_draft(path: pathlib.Path) -> bool:
    """Whether a folder is a draft of `write`, of a process that was killed."""
    return bool(DRAFT.fullmatch(path.name)) and path.is_dir() and not path.is_symlink()
