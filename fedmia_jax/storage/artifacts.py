"""What work leaves in the workdir: outcomes by the fingerprint of all that they depend on.

Work is done on several units that run as one program. What these leave is an artifact: a folder, in it a folder for
each finished piece (a cycle, an epoch), in that a `.npy` for each array with the units along its first axis. Folders
are renamed into place when they are whole. A unit is found again by its fingerprint alone, whichever artifact it is in.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fedmia_jax import errors, files
from fedmia_jax.fingerprints import fingerprint

INDEX = "units.json"


@dataclasses.dataclass(frozen=True)
class Draft:
    """One artifact in the making."""

    path: pathlib.Path
    units: tuple[str, ...]

    def write(self, piece: str, tree: Mapping[str, Any]) -> None:
        """Keeps a finished piece, leaves with the units along the first axis; one that is there stays.

        What stands behind the units only filled up the stack, and is left out.
        """
        if not (self.path / piece).exists():
            leaves = _flat(jax.device_get(tree))
            _write(self.path / piece, {name: leaf[: len(self.units)] for name, leaf in leaves.items()})

    def save(self, done: int, state: Any) -> None:
        """Keeps the state after `done` segments, in place of the one before."""
        leaves = {f"leaf{number}": leaf for number, leaf in enumerate(jax.tree.leaves(state))}
        _write(self.path / f"state-{done}", leaves)
        for old in self.path.glob("state-*"):
            if old.name != f"state-{done}":
                shutil.rmtree(old)

    def load(self, state: Any) -> tuple[int, Any]:
        """Returns how many segments are done and the state after them; 0 and the given state where none is kept."""
        done = max((int(path.name.partition("-")[2]) for path in self.path.glob("state-*")), default=0)
        if not done:
            return 0, state
        kept = _read(self.path / f"state-{done}")
        leaves, structure = jax.tree.flatten(state)
        return done, jax.tree.unflatten(structure, [kept[f"leaf{number}"] for number in range(len(leaves))])


class Artifacts:
    """All artifacts of a workdir, and the index of finished units."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.index: dict[str, tuple[pathlib.Path, int]] = {}
        for draft in path.glob("*/.draft-*"):
            shutil.rmtree(draft)
        for torn in path.glob(f"*/.{INDEX}.*"):
            torn.unlink()
        for file in path.glob(f"*/{INDEX}"):
            self._enter(file.parent, json.loads(file.read_text()))
            for state in file.parent.glob("state-*"):
                shutil.rmtree(state)

    def begin(self, units: Sequence[str], *, size: int) -> Draft:
        """Returns the artifact of these units, new or begun, computed as a stack of `size`."""
        path = self.path / fingerprint(list(units), size)
        path.mkdir(parents=True, exist_ok=True)
        return Draft(path, tuple(units))

    def finish(self, draft: Draft) -> None:
        """Enters an artifact's units in the index; its state is no longer needed."""
        with files.replacing(draft.path / INDEX) as file:
            file.write(json.dumps(draft.units).encode())
        for state in draft.path.glob("state-*"):
            shutil.rmtree(state)
        self._enter(draft.path, draft.units)

    def finished(self, unit: str) -> bool:
        """Whether a unit's outcome is kept."""
        return unit in self.index

    def read(self, unit: str, piece: str) -> dict[str, Any]:
        """Returns a piece of a unit's outcome as nested arrays, without the units' axis.

        Raises:
          InputError: files of the workdir are missing or damaged.
        """
        path, row = self.index[unit]
        return _nest({name: np.array(leaf[row]) for name, leaf in _read(path / piece).items()})

    def _enter(self, path: pathlib.Path, units: Sequence[str]) -> None:
        """Adds the units of one artifact to the index."""
        self.index |= {unit: (path, row) for row, unit in reversed(list(enumerate(units)))}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested arrays as one level, by names joined with dots; what no file name can hold is escaped."""
    level: dict[str, Any] = {}
    for name, value in tree.items():
        escaped = prefix + urllib.parse.quote(name, safe="").replace(".", "%2E")
        level |= _flat(value, f"{escaped}.") if isinstance(value, Mapping) else {escaped: value}
    return level


def _nest(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `_flat`."""
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *groups, last = (urllib.parse.unquote(word) for word in name.split("."))
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = leaf
    return tree


def _write(path: pathlib.Path, leaves: Mapping[str, Any]) -> None:
    """A folder of arrays, whole or not at all."""
    draft = path.parent / f".draft-{path.name}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for name, leaf in leaves.items():
        with open(draft / f"{name}.npy", "wb") as file:
            np.save(file, np.asarray(leaf), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
    shutil.rmtree(path, ignore_errors=True)
    os.rename(draft, path)


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a folder, on disk until they are used."""
    try:
        files = sorted(path.iterdir())
        return {file.name.removesuffix(".npy"): np.load(file, mmap_mode="r", allow_pickle=False) for file in files}
    except (OSError, ValueError) as error:
        raise errors.InputError(f"workdir: {path} is missing or damaged ({error}); delete {path.parent}") from error
