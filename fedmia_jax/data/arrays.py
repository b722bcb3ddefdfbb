"""Arrays: any data set as an .npz file, which is also what `--mode=prepare` writes."""

import os
import zipfile
import zlib

import numpy as np

from fedmia_jax import files
from fedmia_jax.data import contract, records

_NAMES = ("features", "labels", "num_classes", "title")
_DAMAGE = (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


def read(settings: records.FileOptions, *, name: str, seed: int) -> records.RawRecords:
    """Reads records that somebody has prepared as arrays.

    The archive holds `features` [M, D] of any real type, and perhaps `labels`, integer [M] counted from 0 or
    one-hot [M, K], a 0-d string `title`, and a 0-d integer `num_classes` (unset: the largest label plus one,
    or K). Nothing is ever unpickled.

    Args:
      settings: `path` is the .npz file.
      name: `data.name`, for messages.
      seed: unused, the file is the file.

    Returns:
      The records in file order.

    Raises:
      InputError: not an .npz file, or an array that is missing, pickled, or not of the stated shape and
        range.
    """
    del seed
    path = records.existing_path(settings, name=name)
    arrays = _load(path)
    features = records.to_features(arrays["features"], source=f"data.path={path}: features")
    labels, num_classes = None, None
    if "labels" in arrays:
        labels, num_classes = _to_labels(arrays["labels"], len(features), path)
        num_classes = _class_count(arrays.get("num_classes"), num_classes, path)
    num_records, num_features = features.shape
    title = f"arrays of {os.path.basename(path)}, {num_records:,} records x {num_features} features"
    if "title" in arrays:
        title = _to_title(arrays["title"], path)
    return records.RawRecords(features=features, labels=labels, num_classes=num_classes, title=title)


ARRAYS = contract.Factory(read, records.FileOptions)


def write(path: str | os.PathLike[str], raw: records.RawRecords) -> None:
    """Writes records so that `read` gives them back: equal features, labels, number of classes and title.

    The file appears under its name only when it is complete.

    Args:
      path: the file to make, ending in .npz; folders on the way are made.
      raw: the records.

    Raises:
      InputError: the path does not end in .npz.
    """
    if not os.fspath(path).endswith(".npz"):
        raise records.file_error(os.fspath(path), "prepared records are written to a file that ends in .npz")
    arrays = {"features": raw.features, "title": np.array(raw.title)}
    if raw.labels is not None:
        arrays |= {"labels": raw.labels, "num_classes": np.array(raw.num_classes)}
    save(path, arrays)


def save(path: str | os.PathLike[str], arrays: dict[str, np.ndarray]) -> None:
    """Writes an .npz archive whole or not at all.

    It is written beside its place and then renamed, so a reader sees the old file or the new one.

    Args:
      path: the file to make; folders on the way are made.
      arrays: name -> array of any shape, of a type that needs no pickling.

    Raises:
      OSError: the place cannot be written.
    """
    with files.replacing(path) as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def _load(path: str) -> dict[str, np.ndarray]:
    """The arrays of the file that mean something here; `features` is one of them."""
    if not zipfile.is_zipfile(path):
        raise records.file_error(path, "not an .npz file")
    arrays: dict[str, np.ndarray] = {}
    name = ""
    try:
        with np.load(path, allow_pickle=False) as archive:
            stored = archive.files
            for name in _NAMES:
                if name in stored:
                    arrays[name] = np.asarray(archive[name])
    except _DAMAGE as error:
        problem = "a damaged .npz file; make it again"
        if "allow_pickle" in str(error):
            problem = f"{name} holds Python objects, which are never unpickled; save numbers"
        raise records.file_error(path, problem) from None
    if "features" not in arrays:
        raise records.file_error(path, f"no array called features, only: {', '.join(stored) or 'nothing'}")
    return arrays


def _to_labels(array: np.ndarray, num_records: int, path: str) -> tuple[np.ndarray, int]:
    """int32[M] and the number of classes, of integer or one-hot labels."""
    if array.ndim not in (1, 2) or array.dtype.kind not in "buif":
        problem = f"labels: {array.dtype}{list(array.shape)}, integers [M] or one-hot [M, K] expected"
        raise records.file_error(path, problem)
    if len(array) != num_records:
        raise records.file_error(path, f"labels: {len(array)} of them for {num_records} rows of features")
    if array.ndim == 2:
        bad = ~((array == 0) | (array == 1)).all(axis=1) | ((array == 1).sum(axis=1) != 1)
        problem = "is not one-hot (a single 1 among 0s)"
    else:
        bad = ~((array >= 0) & (array < 2**31 - 1) & (np.floor(array) == array))
        problem = "is not a class (an integer, the first is 0)"
    if bad.any():
        row = int(bad.argmax())
        raise records.file_error(path, f"labels: row {row} (counted from 0): {array[row]} {problem}")
    if array.ndim == 2:
        return array.argmax(axis=1).astype(np.int32), array.shape[1]
    return array.astype(np.int32), int(array.max()) + 1


def _class_count(array: np.ndarray | None, at_least: int, path: str) -> int:
    """The stated number of classes, or the number that the labels need."""
    if array is None:
        return at_least
    if array.shape != () or array.dtype.kind not in "iu" or int(array) < at_least:
        raise records.file_error(path, f"num_classes: an integer of {at_least} or more expected")
    return int(array)


def _to_title(array: np.ndarray, path: str) -> str:
    """The 0-d string."""
    if array.shape != () or array.dtype.kind != "U":
        raise records.file_error(path, f"title: {array.dtype}{list(array.shape)}, one string expected")
    return str(array)
