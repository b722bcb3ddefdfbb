"""Hashes of kept files, by which a damaged one is told: BLAKE2b of 128 bits.

Files of numbers have their hashes in a `hashes.json` beside them. JSON files of the workdir are sealed: one entry,
`check`, is the hash of all others. A file that is missing or is not what was written is reported as `DamagedError`.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, BinaryIO

LIST = "hashes.json"
CHECK = "check"
DIFFERS = "hash differs"
BYTES = 16


class DamagedError(Exception):
    """A kept file is missing, or is not what was written; the text says why.

    Attributes:
      name: the file, relative to the folder that it is kept in.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason


class Writer:
    """Passes bytes on to a file, and hashes them on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self._hash = hashlib.blake2b(digest_size=BYTES)

    def write(self, content: bytes | memoryview) -> int:
        """Writes and hashes some bytes."""
        self._hash.update(content)
        return self.file.write(content)

    def digest(self) -> str:
        """Returns the hash of all that was written."""
        return self._hash.hexdigest()


def digest(content: bytes) -> str:
    """Returns the hash of some bytes, in hexadecimal."""
    return hashlib.blake2b(content, digest_size=BYTES).hexdigest()


def check(folder: pathlib.Path, name: str, expected: str | None) -> None:
    """Compares a file with its hash.

    Args:
      folder: where the file is.
      name: its path in the folder.
      expected: its hash; None where none was kept.

    Raises:
      DamagedError: it is missing, unreadable or another.
    """
    if expected is None:
        raise DamagedError(name, f"no hash of it in {LIST}")
    try:
        with open(folder / name, "rb") as file:
            actual = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=BYTES)).hexdigest()
    except OSError as error:
        raise DamagedError(name, error.strerror or str(error)) from error
    if actual != expected:
        raise DamagedError(name, DIFFERS)


def read(folder: pathlib.Path, name: str) -> bytes:
    """Returns the content of a file.

    Raises:
      DamagedError: it is missing or unreadable.
    """
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise DamagedError(name, error.strerror or str(error)) from error


def seal(contents: Mapping[str, Any], *, indent: int | None = None) -> bytes:
    """Returns some contents as JSON with a `check`."""
    return (json.dumps({**contents, CHECK: _check_of(contents)}, indent=indent) + "\n").encode()


def unseal(content: bytes, name: str) -> dict[str, Any]:
    """Returns the contents of what `seal` made, without the `check`.

    Args:
      content: the bytes of the file.
      name: of the file, for the error.

    Raises:
      DamagedError: it is no JSON object, or its check differs.
    """
    contents = parse(content, name)
    if CHECK not in contents:
        raise DamagedError(name, f"has no {CHECK}")
    kept = contents.pop(CHECK)
    try:
        actual = _check_of(contents)
    except (ValueError, RecursionError) as error:
        raise DamagedError(name, f"not JSON: {error}") from error
    if actual != kept:
        raise DamagedError(name, DIFFERS)
    return contents


def parse(content: bytes, name: str) -> dict[str, Any]:
    """Returns a JSON object.

    Raises:
      DamagedError: the bytes are something else.
    """
    try:
        contents = json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DamagedError(name, f"not UTF-8 at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedError(name, f"not JSON: {error}") from error
    if not isinstance(contents, dict):
        raise DamagedError(name, "no JSON object")
    return contents


def _check_of(contents: Mapping[str, Any]) -> str:
    """The hash of an object's contents, whatever the order of its entries."""
    return digest(json.dumps(contents, sort_keys=True, allow_nan=False).encode())
