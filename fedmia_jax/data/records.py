"""What every reader returns, and the checks at the boundary that the readers share."""

import dataclasses
import functools
import hashlib
import os
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from fedmia_jax import errors, options

Features = UInt8[np.ndarray, "M D"] | Float32[np.ndarray, "M D"]  # uint8 where every value is 0 or 1

MOST_BYTES = 2 * 2**30  # of a file, unpacked, or of the features that are made of it; memory grows with both

_BLOCK_BYTES = 16 * 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileOptions:
    """What readers of a file share."""

    path: str | None = options.option(None, "file of the records; synthetic needs none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """What readers share that know how many features they are to give."""

    num_features: int = options.option(600, "features kept: the most frequent items, the first categories", low=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableOptions(FileOptions, FeatureOptions):
    """A file, and how many of its features are kept."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RawRecords:
    """A data set as its file has it: no pools, no shards, no clustering yet.

    Everything later depends on the records only through this class, so two files with the same content are
    the same data set.

    Attributes:
      features: uint8[M, D] if every value is 0 or 1, else float32[M, D]; C-contiguous, finite.
      labels: int32[M], classes counted from 0; None if the file has none.
      num_classes: classes that the labels are drawn from, some perhaps without a record; None without labels.
      title: what the records are, for people: reader, file and size.
    """

    features: np.ndarray  # shapes and types are checked below, with messages for whoever writes a reader
    labels: np.ndarray | None
    num_classes: int | None
    title: str

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.features.dtype not in (np.uint8, np.float32):
            got = f"{self.features.dtype}{list(self.features.shape)}"
            raise ValueError(f"features={got}: uint8[M, D] or float32[M, D] expected")
        if (self.labels is None) != (self.num_classes is None):
            raise ValueError(f"num_classes={self.num_classes}: set exactly where labels are")
        if self.labels is not None and (self.labels.shape != self.features.shape[:1] or self.labels.dtype != np.int32):
            got = f"{self.labels.dtype}{list(self.labels.shape)}"
            raise ValueError(f"labels={got}: int32[{len(self.features)}] expected")

    @functools.cached_property
    def _digest(self) -> str:
        """SHA-256 over the shape, type and content of both arrays, computed once."""
        digest = hashlib.sha256()
        for array in (self.features, self.labels):
            if array is None:
                digest.update(b"none;")
                continue
            digest.update(f"{array.dtype.str}{array.shape};".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """Identifies the records by content, whatever file or reader they came from.

        The title is left out, so that a renamed file resumes its runs.

        Returns:
          SHA-256 of the shape, dtype and content of features and labels, as 64 hexadecimal digits.
        """
        return self._digest


def check_foreign(raw: Any) -> None:
    """Checks what a reader from outside the package gave, which nothing later looks at again.

    Raises:
      ValueError: no `RawRecords`, no record, a feature that is no finite number, or a label that is no class.
    """
    if not isinstance(raw, RawRecords):
        raise ValueError(f"gave a {type(raw).__name__}, data.records.RawRecords expected")
    if 0 in raw.features.shape:
        raise ValueError(f"features of shape {list(raw.features.shape)}: one or more records and features expected")
    if raw.features.dtype == np.float32 and not np.isfinite(raw.features).all():
        raise ValueError("features that are not finite numbers")
    if raw.labels is not None and not 0 <= raw.labels.min() <= raw.labels.max() < (raw.num_classes or 0):
        raise ValueError(f"labels from {raw.labels.min()} to {raw.labels.max()}: 0 to {raw.num_classes} - 1 expected")


def to_features(array: np.ndarray, *, source: str) -> Features:
    """Brings numbers to the two kinds of features there are.

    Zeros and ones of any type become bytes, which keeps a purchase table four times smaller than floats;
    everything else becomes single precision.

    Args:
      array: [M, D], booleans, integers or real floats.
      source: what a message starts with, such as `data.path=x.npz: features`.

    Returns:
      uint8[M, D] if every value is 0 or 1, else float32[M, D]; C-contiguous.

    Raises:
      InputError: not two-dimensional, empty, not real numbers, or a value that is no finite float32; names
        row and column.
    """
    if array.ndim != 2 or 0 in array.shape:
        raise errors.InputError(f"{source}: shape {list(array.shape)}, [records, features] expected")
    if array.dtype.kind not in "buif":
        raise errors.InputError(f"{source}: type {shown(str(array.dtype))}, numbers expected")
    if all_bits(array):
        return np.ascontiguousarray(array, np.uint8)
    if array.size * np.dtype(np.float32).itemsize > MOST_BYTES:
        raise errors.InputError(f"{source}: larger than {in_units(MOST_BYTES)} in single precision; give fewer records")
    with np.errstate(over="ignore", invalid="ignore"):
        features = np.ascontiguousarray(array, np.float32)
    bad = ~np.isfinite(features)
    if bad.any():
        row, column = divmod(int(bad.argmax()), features.shape[1])
        value = array[row, column]
        raise errors.InputError(
            f"{source}: row {row}, column {column} (both counted from 0): {value} is not a finite number"
        )
    return features


def all_bits(array: np.ndarray) -> bool:
    """Whether every value of a numeric array of two dimensions is 0 or 1; a block of rows at a time."""
    if array.dtype.kind == "b":
        return True
    step = max(1, _BLOCK_BYTES // max(1, array[:1].nbytes))
    blocks = (array[row : row + step] for row in range(0, len(array), step))
    return all(bool(((block == 0) | (block == 1)).all()) for block in blocks)


def existing_path(settings: FileOptions, *, name: str) -> str:
    """Checks that there is a file to read.

    A directory or a misspelt name is said here, before a parser gets to say it in its own words.

    Args:
      settings: `path` is read.
      name: `data.name`, for the message.

    Returns:
      `settings.path`.

    Raises:
      InputError: the path is not set, does not exist, or is not a file.
    """
    reads = f"data.name={name} reads a file; give --config.data.path=FILE"
    if settings.path is None:
        raise errors.InputError(f"data.path is not set: {reads}")
    if not os.path.exists(settings.path):
        raise file_error(settings.path, f"no such file; {reads}")
    if not os.path.isfile(settings.path):
        raise file_error(settings.path, f"not a file; {reads}")
    return settings.path


def file_error(path: str, problem: str, *, line: int | None = None) -> errors.InputError:
    """Words a problem of a file.

    One form for all readers, so that a message can be found by its beginning.

    Args:
      path: the file, as the user gave it.
      problem: what is wrong, and what would be right.
      line: 1-based line of the (decompressed) file, if the problem has one.

    Returns:
      The exception, to be raised by the caller.
    """
    where = "" if line is None else f"line {line}: "
    return errors.InputError(f"data.path={shown(path)}: {where}{problem}")


def shown(text: str) -> str:
    """A name or a field of a file, for a message or a title: printable, on one line, and not endless."""
    text = text if len(text) <= 200 else f"{text[:200]}..."
    return text if text.isprintable() else ascii(text)[1:-1]


def quoted(text: str) -> str:
    """The beginning of a field in quotes, for a message; whatever cannot be printed is escaped."""
    return repr(text) if len(text) <= 80 else f"{text[:80]!r}..."


def file_name(path: str) -> str:
    """The last part of a path, for titles."""
    return shown(os.path.basename(path))


def in_units(num_bytes: int) -> str:
    """A number of bytes for people: in GiB, or MiB below one."""
    return f"{num_bytes / 2**30:,g} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:,g} MiB"
