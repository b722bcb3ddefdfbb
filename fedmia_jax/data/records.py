"""What every reader returns, and the checks at the boundary that the readers share."""

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, UInt8

from fedmia_jax import errors, options

Features = UInt8[np.ndarray, "M D"] | Float32[np.ndarray, "M D"]  # uint8 where every value is 0 or 1

_GZIP_MAGIC = b"\x1f\x8b"


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
        raise errors.InputError(f"{source}: type {array.dtype}, numbers expected")
    if array.dtype.kind == "b" or bool(((array == 0) | (array == 1)).all()):
        return np.ascontiguousarray(array, np.uint8)
    with np.errstate(over="ignore", invalid="ignore"):
        features = np.ascontiguousarray(array, np.float32)
    bad = np.argwhere(~np.isfinite(features))
    if len(bad):
        row, column = bad[0]
        value = array[row, column]
        raise errors.InputError(
            f"{source}: row {row}, column {column} (both counted from 0): {value} is not a finite number"
        )
    return features


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
        raise errors.InputError(f"data.path={settings.path}: no such file; {reads}")
    if not os.path.isfile(settings.path):
        raise errors.InputError(f"data.path={settings.path}: not a file; {reads}")
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
    return errors.InputError(f"data.path={path}: {where}{problem}")


@contextlib.contextmanager
def opened(path: str) -> Iterator[io.BufferedIOBase]:
    """Opens a plain or gzip file for reading as one stream of plain bytes.

    Compression is recognised by content, not by name. Damage that shows while the body reads is reported as
    such.

    Args:
      path: an existing file.

    Yields:
      A binary stream.

    Raises:
      InputError: the file cannot be opened, or is not a whole gzip or tar file.
    """
    try:
        with open(path, "rb") as plain:
            is_gzip = plain.read(2) == _GZIP_MAGIC
            plain.seek(0)
            if not is_gzip:
                yield plain
                return
            with gzip.open(plain, "rb") as stream:
                yield stream
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error):
        raise file_error(path, "not a whole gzip or tar file; get or make it again") from None
    except OSError as error:
        raise file_error(path, error.strerror or str(error)) from None


def numbered_lines(content: bytes, path: str, *, first: int = 1) -> Iterator[tuple[int, str]]:
    """Walks through text line by line, for formats without columns and for finding what is wrong.

    Only a line feed ends a line; a carriage return before it is dropped.

    Args:
      content: plain bytes.
      path: the file, for the message.
      first: number of the first line of `content`.

    Yields:
      The 1-based number of a line and its text.

    Raises:
      InputError: a line is not UTF-8.
    """
    for number, line in enumerate(io.BytesIO(content), first):
        try:
            yield number, line.rstrip(b"\r\n").decode()
        except UnicodeDecodeError:
            raise file_error(path, "not UTF-8 text", line=number) from None
