"""Arrays: any data set as an .npz file, which is also what `--mode=prepare` writes."""

import math
import os
import sys
import warnings
import zipfile

import numpy as np

from fedmia_jax import errors, files
from fedmia_jax.data import contract, records, streams

_NAMES = ("features", "labels", "num_classes", "title")
_MOST_CLASSES = 1_000_000
_MOST_TITLE_BYTES = 4 * 10_000  # of a string that is read at all


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
    title = f"arrays of {records.file_name(path)}, {num_records:,} records x {num_features} features"
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
    with streams.opened_zip(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        wanted = {name: members[name] for name in _NAMES if name in members}
        if sum(member.file_size for member in wanted.values()) > records.MOST_BYTES:
            raise records.file_error(path, streams.too_large(records.MOST_BYTES))
        arrays = {name: _read_array(archive, member, name, path) for name, member in wanted.items()}
    if "features" not in arrays:
        names = ", ".join(records.shown(name) for name in list(members)[:10])
        raise records.file_error(path, f"no array called features, only: {names or 'nothing'}")
    return arrays


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, path: str) -> np.ndarray:
    """An array of an archive, of any shape, whose header claims no more than there is."""
    with streams.zip_member(archive, member, path) as stream:
        shape, dtype = _read_header(stream, name, path)
        if dtype.hasobject:
            raise records.file_error(path, f"{name} holds Python objects, which are never unpickled; save numbers")
        claimed, held = math.prod(shape) * dtype.itemsize, member.file_size - stream.count
        if claimed != held:
            problem = f"{name}: its header says {claimed:,} bytes of numbers, there are {held:,}; make the file again"
            raise records.file_error(path, problem)
    with streams.zip_member(archive, member, path) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old headers are read all the same
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _read_header(stream: streams.Counted, name: str, path: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type that a .npy header states."""
    try:
        with stream.header(0), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = np.lib.format.read_magic(stream)
            read = {(1, 0): np.lib.format.read_array_header_1_0}.get(version, np.lib.format.read_array_header_2_0)
            shape, _, dtype = read(stream)
    except errors.InputError:
        raise
    except Exception:  # the parser evaluates a foreign text: whatever it raises is damage
        raise records.file_error(path, f"{name}: not a .npy array; a damaged .npz file, make it again") from None
    if min(shape, default=0) < 0:
        raise records.file_error(path, f"{name}: shape {list(shape)}; a damaged .npz file, make it again")
    return shape, dtype


def _to_labels(array: np.ndarray, num_records: int, path: str) -> tuple[np.ndarray, int]:
    """int32[M] and the number of classes, of integer or one-hot labels."""
    if array.ndim not in (1, 2) or array.dtype.kind not in "buif":
        problem = f"labels: {_kind(array)}, integers [M] or one-hot [M, K] expected"
        raise records.file_error(path, problem)
    if len(array) != num_records:
        raise records.file_error(path, f"labels: {len(array)} of them for {num_records} rows of features")
    if array.ndim == 2:
        bad, problem = ~_is_one_hot(array), "is not one-hot (a single 1 among 0s)"
    else:
        bad = ~((array >= 0) & (array < 2**31 - 1) & (np.floor(array) == array))
        problem = "is not a class (an integer, the first is 0)"
    if bad.any():
        row = int(bad.argmax())
        value = np.array2string(array[row], threshold=10, max_line_width=sys.maxsize)
        raise records.file_error(path, f"labels: row {row} (counted from 0): {value} {problem}")
    if array.ndim == 2:
        labels, num_classes = array.argmax(axis=1).astype(np.int32), array.shape[1]
    else:
        labels, num_classes = array.astype(np.int32), int(array.max()) + 1
    if num_classes > _MOST_CLASSES:
        raise records.file_error(path, f"labels: of {num_classes:,} classes, {_MOST_CLASSES:,} is the most")
    return labels, num_classes


def _is_one_hot(array: np.ndarray) -> np.ndarray:
    """bool[M]: rows of a single 1 among 0s; a row at a time, since temporary arrays of all would be larger yet."""
    ones = (np.count_nonzero(row) == 1 and np.count_nonzero(row == 1) == 1 for row in array)
    return np.fromiter(ones, bool, len(array))


def _class_count(array: np.ndarray | None, at_least: int, path: str) -> int:
    """The stated number of classes, or the number that the labels need."""
    if array is None:
        return at_least
    if array.shape != () or array.dtype.kind not in "iu" or int(array) < at_least:
        raise records.file_error(path, f"num_classes: an integer of {at_least} or more expected")
    if int(array) > _MOST_CLASSES:
        raise records.file_error(path, f"num_classes: {int(array):,}, {_MOST_CLASSES:,} is the most")
    return int(array)


def _to_title(array: np.ndarray, path: str) -> str:
    """The 0-d string, with escapes for whatever cannot be printed; the end of a long one is cut off."""
    if array.shape != () or array.dtype.kind != "U":
        raise records.file_error(path, f"title: {_kind(array)}, one string expected")
    if array.dtype.itemsize > _MOST_TITLE_BYTES:
        raise records.file_error(path, f"title: longer than {_MOST_TITLE_BYTES // 4:,} characters")
    try:
        return records.shown(str(array))
    except (ValueError, SystemError, OverflowError):  # a number that is no character
        raise records.file_error(path, "title: not a string of Unicode") from None


def _kind(array: np.ndarray) -> str:
    """Type and shape of an array, for a message."""
    return f"{records.shown(str(array.dtype))}{list(array.shape)}"
