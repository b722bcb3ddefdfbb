"""Purchases and location: published text files of a label and then bits, with no header."""

import os
import tarfile

import numpy as np
import polars as pl

from fedmia_jax import errors
from fedmia_jax.data import contract, records

_ARCHIVES = (".tgz", ".tar.gz", ".tar")
_PURCHASES_CLASSES = 100
_LOCATION_CLASSES = 30
_LOCATION_FEATURES = 446


def read_purchases(settings: records.TableOptions, *, name: str, seed: int) -> records.RawRecords:
    """Reads the published Purchases-100 file or the archive it comes in.

    One customer a line: a label from 1 to 100, perhaps in double quotes, then one bit an item category,
    separated by commas. Source: Shokri et al. (2017), section VI.

    Args:
      settings: `path` is the text file, plain or gzip, or a `.tgz`, `.tar.gz` or `.tar` whose first file it
        is; `num_features` is the number of bits that every line must have.
      name: `data.name`, for title and messages.
      seed: unused, the file is the file.

    Returns:
      uint8[M, num_features] features and labels in 0..99, in file order.

    Raises:
      InputError: no such file, a damaged archive, or a bad line, by its number.
    """
    del seed
    expected = f"data.num_features={settings.num_features}"
    path = records.existing_path(settings, name=name)
    return _read(path, name, _PURCHASES_CLASSES, settings.num_features, expected)


def read_location(settings: records.FileOptions, *, name: str, seed: int) -> records.RawRecords:
    """Reads the Bangkok location set.

    One user a line: a label from 1 to 30, perhaps in double quotes, then 446 bits. Source: Shokri et al. (2017),
    section VI.

    Args:
      settings: `path` is the text file, plain or gzip, or a `.tgz`, `.tar.gz` or `.tar` whose first file it
        is.
      name: `data.name`, for title and messages.
      seed: unused, the file is the file.

    Returns:
      uint8[M, 446] features and labels in 0..29, in file order.

    Raises:
      InputError: no such file, a damaged archive, or a bad line, by its number.
    """
    del seed
    path = records.existing_path(settings, name=name)
    return _read(path, name, _LOCATION_CLASSES, _LOCATION_FEATURES, str(_LOCATION_FEATURES))


PURCHASES = contract.Factory(read_purchases, records.TableOptions)
LOCATION = contract.Factory(read_location, records.FileOptions)


def _read(path: str, name: str, num_classes: int, num_features: int, expected: str) -> records.RawRecords:
    """Reads either file; `expected` words the number of bits in a message."""
    content = _content(path)
    parsed = _parse(content, num_classes, num_features)
    if parsed is None:
        raise _diagnose(content, path, num_classes, num_features, expected)
    features, labels = parsed
    title = f"{name} of {os.path.basename(path)}, {len(features):,} records x {num_features} features"
    return records.RawRecords(features=features, labels=labels, num_classes=num_classes, title=title)


def _content(path: str) -> bytes:
    """The text, out of its archive if it is in one; nothing is written to disk."""
    with records.opened(path) as stream:
        if not path.lower().endswith(_ARCHIVES):
            return stream.read()
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                text = archive.extractfile(member) if member.isfile() else None
                if text is not None:
                    return text.read()
    raise records.file_error(path, "the archive holds no file")


def _parse(content: bytes, num_classes: int, num_features: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The fast path: uint8[M, D] and int32[M], or None if anything at all is wrong."""
    bits = {f"bit_{column}": pl.UInt8 for column in range(num_features)}
    try:
        frame = pl.read_csv(content, has_header=False, schema={"label": pl.Int32, **bits})
    except pl.exceptions.PolarsError:
        return None
    if frame.is_empty() or sum(frame.null_count().row(0)):
        return None
    features = frame.drop("label").to_numpy(order="c")
    labels = frame["label"].to_numpy()
    if features.max() > 1 or labels.min() < 1 or labels.max() > num_classes:
        return None
    return features, labels - np.int32(1)


def _diagnose(content: bytes, path: str, num_classes: int, num_features: int, expected: str) -> errors.InputError:
    """Words what is wrong with the first bad line, where `_parse` gave None."""
    if not content.strip():
        return records.file_error(path, "the file is empty")
    for number, line in records.numbered_lines(content.removeprefix(b"\xef\xbb\xbf"), path):
        label, *bits = line.split(",")
        if not line.strip():
            problem = "empty line"
        elif len(bits) != num_features:
            problem = f"{len(bits)} bits after the label, {expected} expected"
        elif not _is_label(label, num_classes):
            problem = f"label {label!r} is not an integer in 1..{num_classes}"
        elif wrong := next((bit for bit in enumerate(bits, 2) if bit[1] not in ("0", "1")), None):
            problem = f"field {wrong[0]}: {wrong[1]!r} is not 0 or 1"
        else:
            continue
        return records.file_error(path, problem, line=number)
    return records.file_error(path, f"not a text of labels and {num_features} bits")


def _is_label(field: str, num_classes: int) -> bool:
    """Whether a field is an integer in range, plain or in double quotes."""
    if len(field) > 2 and field[0] == field[-1] == '"':
        field = field[1:-1]
    return field.isascii() and field.isdigit() and len(field) <= 9 and 1 <= int(field) <= num_classes
