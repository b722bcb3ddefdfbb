"""What work leaves in the workdir: outcomes by the fingerprint of all that they depend on.

Work is done on several units that run as one program. What these leave is an artifact: a folder, in it a folder for
each finished piece (a cycle, an epoch), in that a `.npy` for each array with the units along its first axis. Folders
are renamed into place when they are whole. A unit is found again by its fingerprint alone, whichever artifact it is in.

Every file is compared with its hash before it is read, once a process; those that this process wrote are not. An
artifact that is damaged is set aside with a warning, and its units count as not computed.
"""

import dataclasses
import os
import pathlib
import re
import sys
import urllib.parse
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fedmia_jax import errors, files
from fedmia_jax.fingerprints import DIGITS, fingerprint
from fedmia_jax.storage import folders, hashes

INDEX = "units.json"
DROPPED = "dropped.json"  # the index of an artifact that is being deleted
FORMAT = 1  # of what the index says
ARTIFACT = re.compile(rf"[0-9a-f]{{{DIGITS}}}")
PIECE = re.compile(r"[a-z]\w*")
STATE = re.compile(r"state-(\d+)")
HELD = "held_"  # begins the name of a piece that serves the making of others, and goes when all are made

Warn = Callable[[str], None]


def warn_stderr(text: str) -> None:
    """Prints a warning to standard error."""
    print(f"warning: {text}", file=sys.stderr)


@dataclasses.dataclass(frozen=True)
class Draft:
    """One artifact in the making.

    Attributes:
      path: its folder.
      units: fingerprints of its units.
      warn: called with a line about what is damaged.
      pieces: what is there, each file compared with its hash or written by this process.
    """

    path: pathlib.Path
    units: tuple[str, ...]
    warn: Warn = warn_stderr
    pieces: dict[str, folders.Listing] = dataclasses.field(default_factory=dict)

    def write(self, piece: str, tree: Mapping[str, Any]) -> None:
        """Keeps a finished piece, leaves with the units along the first axis; one that is there stays.

        What stands behind the units only filled up the stack, and is left out.
        """
        if piece not in self.pieces:
            leaves = flatten(jax.device_get(tree))
            self._clear(self.path / piece)
            self.pieces[piece] = folders.write(
                self.path / piece, {name: leaf[: len(self.units)] for name, leaf in leaves.items()}
            )

    def hold(self, piece: str, tree: Mapping[str, Any]) -> None:
        """Keeps, until the artifact is finished, what a piece is to be made from."""
        self.write(HELD + piece, tree)

    def held(self, piece: str) -> dict[str, Any] | None:
        """Returns what is held for a piece, the units along the first axis; None where nothing is, or what is damaged.

        What is damaged is set aside with a warning.
        """
        name = HELD + piece
        if name not in self.pieces:
            return None
        try:
            return nest(folders.read(self.path / name, self.pieces[name]))
        except hashes.DamagedError as error:
            del self.pieces[name]
            _set_aside(self.path / name, error, self.warn)
            return None

    def save(self, done: int, state: Any) -> None:
        """Keeps the state after `done` segments, in place of the one before."""
        leaves = {f"leaf{number}": leaf for number, leaf in enumerate(jax.tree.leaves(state))}
        path = self.path / f"state-{done}"
        folders.remove(path)
        self._clear(path)
        folders.write(path, leaves, before=self.digests())
        for old in _states(self.path):
            if old.name != path.name:
                folders.remove(old)

    def load(self, state: Any) -> tuple[int, Any]:
        """Returns how many segments are done and the state after them; 0 and the given state where none can be used.

        A state that is damaged is set aside; one whose pieces are not all there and intact is not used.
        """
        leaves, structure = jax.tree.flatten(state)
        names = [f"leaf{number}" for number in range(len(leaves))]
        for path in _states(self.path):
            if not (path / hashes.LIST).exists():  # a process was killed while it deleted it
                continue
            try:
                listing = folders.check(path)
                kept = folders.read(path, listing)
                if set(kept) != set(names):
                    raise hashes.DamagedError(hashes.LIST, "another number of arrays")
            except hashes.DamagedError as error:
                _set_aside(path, error, self.warn)
                continue
            lost = sorted(set(listing.before.items()) - set(self.digests().items()))
            if not lost:
                return _number(path), jax.tree.unflatten(structure, [kept[name] for name in names])
            self.warn(f"{path} goes with {lost[0][0]}, which is missing or damaged; computed again from the start")
        return 0, state

    def digests(self) -> dict[str, str]:
        """Returns the hashes of the pieces that are there, by name."""
        return {piece: self.pieces[piece].digest for piece in sorted(self.pieces)}

    def check(self) -> None:
        """Finds the pieces that are there, and sets aside those that are damaged."""
        for path in sorted(self.path.iterdir()):
            if PIECE.fullmatch(path.name) and (path / hashes.LIST).exists():
                try:
                    self.pieces[path.name] = folders.check(path)
                except hashes.DamagedError as error:
                    _set_aside(path, error, self.warn)

    def _clear(self, path: pathlib.Path) -> None:
        """Moves away what is in the place of a folder that is to be written."""
        if path.exists() or path.is_symlink():
            _set_aside(path, hashes.DamagedError(hashes.LIST, "missing"), self.warn)


class Artifacts:
    """All artifacts of a workdir, and the index of finished units.

    Args:
      path: the folder that they are in.
      warn: called with a line about each artifact that is damaged.
    """

    def __init__(self, path: pathlib.Path, *, warn: Warn = warn_stderr) -> None:
        self.path, self.warn = path, warn
        self.index: dict[str, tuple[pathlib.Path, int]] = {}
        self._units: dict[pathlib.Path, tuple[str, ...]] = {}  # of finished artifacts
        self._digests: dict[pathlib.Path, dict[str, str]] = {}  # of their pieces
        self._checked: dict[pathlib.Path, dict[str, folders.Listing]] = {}
        for artifact in sorted(path.iterdir()) if path.is_dir() else ():
            if ARTIFACT.fullmatch(artifact.name) and artifact.is_dir():
                self._open(artifact)

    def begin(self, units: Sequence[str], *, size: int) -> Draft:
        """Returns the artifact of these units, new or begun, computed as a stack of `size`."""
        path = self.path / fingerprint(list(units), size)
        path.mkdir(parents=True, exist_ok=True)
        draft = Draft(path, tuple(units), self.warn)
        draft.check()
        return draft

    def finish(self, draft: Draft) -> None:
        """Enters an artifact's units in the index; its state, and what was held, is no longer needed."""
        digests = {piece: digest for piece, digest in draft.digests().items() if not piece.startswith(HELD)}
        with files.replacing(draft.path / INDEX) as file:
            file.write(hashes.seal({"format": FORMAT, "units": list(draft.units), "pieces": digests}))
        _drop_passing(draft.path)
        self._checked[draft.path] = {piece: draft.pieces[piece] for piece in digests}
        self._enter(draft.path, draft.units, digests)

    def finished(self, unit: str) -> bool:
        """Whether a unit's outcome is kept and intact; an artifact that is damaged is set aside."""
        if unit not in self.index:
            return False
        path, _ = self.index[unit]
        try:
            self._check(path)
        except hashes.DamagedError as error:
            self._forget(path)
            _set_aside(path, error, self.warn)
            return False
        return True

    def drop(self, units: Collection[str]) -> None:
        """Deletes the finished artifacts that hold none but these units; a process that is killed in it goes on later.

        Args:
          units: fingerprints.
        """
        units = set(units)
        held = {self.index[unit][0] for unit in units if unit in self.index}
        for path in [path for path in held if units.issuperset(self._units[path])]:
            self._forget(path)
            os.rename(path / INDEX, path / DROPPED)
            _delete(path, self.warn)

    def read(self, unit: str, piece: str) -> dict[str, Any]:
        """Returns a piece of a unit's outcome as nested arrays, without the units' axis.

        Raises:
          InputError: files of the workdir are missing or damaged.
        """
        path, row = self.index[unit]
        try:
            pieces = self._check(path)
            if piece not in pieces:
                raise hashes.DamagedError(INDEX, "does not list it")
            leaves = folders.read(path / piece, pieces[piece])
            return nest({name: np.array(leaf[row]) for name, leaf in leaves.items()})
        except hashes.DamagedError as error:
            raise errors.InputError(
                f"workdir: {path / piece} is missing or damaged ({error}); delete {path}"
            ) from error

    def _open(self, path: pathlib.Path) -> None:
        """Clears an artifact of what a killed process left, and enters it in the index where it is finished."""
        for entry in list(path.iterdir()):
            if folders.is_draft(entry):
                folders.remove(entry)
            elif files.is_draft(entry):
                entry.unlink()
        if (path / DROPPED).exists():
            _delete(path, self.warn)
        if not (path / INDEX).exists():
            return
        try:
            contents = hashes.unseal(hashes.read(path, INDEX), INDEX)
            if contents.get("format") != FORMAT:
                raise hashes.DamagedError(INDEX, f"format {contents.get('format')}, this program reads {FORMAT}")
        except hashes.DamagedError as error:
            _set_aside(path, error, self.warn)
            return
        self._enter(path, contents["units"], contents["pieces"])
        _drop_passing(path)

    def _check(self, path: pathlib.Path) -> dict[str, folders.Listing]:
        """What the pieces of a finished artifact hold; its files are compared with their hashes once."""
        if path not in self._checked:
            pieces = {}
            for piece, digest in self._digests[path].items():
                try:
                    pieces[piece] = folders.check(path / piece, expected=digest)
                except hashes.DamagedError as error:
                    raise hashes.DamagedError(f"{piece}/{error.name}", error.reason) from error
            self._checked[path] = pieces
        return self._checked[path]

    def _forget(self, path: pathlib.Path) -> None:
        """Takes an artifact out of the index."""
        for unit in self._units[path]:
            if self.index.get(unit, (None, 0))[0] == path:
                del self.index[unit]
        for known in (self._units, self._digests, self._checked):
            known.pop(path, None)

    def _enter(self, path: pathlib.Path, units: Sequence[str], digests: Mapping[str, str]) -> None:
        """Adds the units of one artifact to the index."""
        self._units[path], self._digests[path] = tuple(units), dict(digests)
        self.index |= {unit: (path, row) for row, unit in reversed(list(enumerate(units)))}


def _states(path: pathlib.Path) -> list[pathlib.Path]:
    """The states of an artifact, the latest first."""
    kept = [state for state in path.iterdir() if STATE.fullmatch(state.name) and state.is_dir()]
    return sorted(kept, key=_number, reverse=True)


def _drop_passing(path: pathlib.Path) -> None:
    """Deletes what a finished artifact needs no more."""
    held = [piece for piece in path.iterdir() if piece.name.startswith(HELD) and PIECE.fullmatch(piece.name)]
    for folder in [*_states(path), *held]:
        folders.remove(folder)


def _delete(path: pathlib.Path, warn: Warn) -> None:
    """Deletes an artifact whose index says that it is being deleted; files of others stay."""
    try:
        pieces = hashes.unseal(hashes.read(path, DROPPED), DROPPED)["pieces"]
    except hashes.DamagedError as error:
        _set_aside(path, error, warn)
        return
    for piece in filter(PIECE.fullmatch, pieces):  # whoever wrote the index
        folders.remove_listed(path / piece)
    (path / DROPPED).unlink()
    if not path.is_symlink() and not any(path.iterdir()):
        path.rmdir()


def _number(state: pathlib.Path) -> int:
    """After how many segments a state was kept."""
    return int(state.name.partition("-")[2])


def _set_aside(path: pathlib.Path, error: hashes.DamagedError, warn: Warn) -> None:
    """Renames what is damaged, and says so."""
    aside = folders.set_aside(path)
    warn(f"{path} is damaged ({error}); set aside as {aside.name}, computed again")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested arrays as one level, by names joined with dots; what no file name can hold is escaped."""
    level: dict[str, Any] = {}
    for name, value in tree.items():
        escaped = prefix + urllib.parse.quote(name, safe="").replace(".", "%2E")
        level |= flatten(value, f"{escaped}.") if isinstance(value, Mapping) else {escaped: value}
    return level


def nest(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Returns arrays nested again, the inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *groups, last = (urllib.parse.unquote(word) for word in name.split("."))
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = leaf
    return tree
