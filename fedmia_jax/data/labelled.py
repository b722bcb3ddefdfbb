"""Purchases and location: published text files of a label and then bits, with no header."""

import numpy as np
import polars as pl

from fedmia_jax import errors
from fedmia_jax.data import contract, records, streams

_PURCHASES_CLASSES = 100
_LOCATION_CLASSES = 30
_LOCATION_FEATURES = 446


def read_purchases(settings: records.TableOptions, *, name: str, seed: int) -> records.RawRecords:
    """Reads the published Purchases-100 file or the archive it comes in.

    One customer a line: a label from 1 to 100, perhaps in double quotes, then one bit an item category,
    separated by commas. Source: Shokri et al. (2017), section VI.

    Args:
      settings: `path` is the text file, plain or gzip, or a `.tgz`, `.tar.gz` or `.tar` whose first file it
        is, those that macOS adds aside; `num_features` is the number of bits that every line must have.
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
        is, those that macOS adds aside.
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
    """Reads either file, a block at a time; `expected` words the number of bits in a message."""
    blocks = []
    for first, block in streams.text_blocks(path, archives=True):
        parsed = _parse(block, num_classes, num_features)
        if parsed is None:
            raise _diagnose(block, path, first, num_classes, num_features, expected)
        blocks.append(parsed)
    if not blocks:
        raise records.file_error(path, "the file is empty")
    features = np.concatenate([bits for bits, _ in blocks])
    labels = np.concatenate([labels for _, labels in blocks])
    title = f"{name} of {records.file_name(path)}, {len(features):,} records x {num_features} features"
    return records.RawRecords(features=features, labels=labels, num_classes=num_classes, title=title)


def _parse(content: bytes, num_classes: int, num_features: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The fast path: uint8[M, D] and int32[M] of a block, or None if anything at all is wrong."""
    if content[: content.find(b"\n") + 1 or None].count(b",") != num_features:
        return None
    bits = {f"bit_{column}": pl.UInt8 for column in range(num_features)}
    frame = streams.parse_csv(content, schema={"label": pl.Int32, **bits})
    if frame is None or frame.is_empty() or sum(frame.null_count().row(0)):
        return None
    features = frame.drop("label").to_numpy(order="c")
    labels = frame["label"].to_numpy()
    if features.max() > 1 or labels.min() < 1 or labels.max() > num_classes:
        return None
    return features, labels - np.int32(1)


def _diagnose(
    content: bytes, path: str, first: int, num_classes: int, num_features: int, expected: str
) -> errors.InputError:
    """Words what is wrong with the first bad line of a block, where `_parse` gave None."""
    if first == 1 and not content.strip():
        return records.file_error(path, "the file is empty")
    for number, line in streams.numbered_lines(content, path, first=first):
        label, *bits = line.split(",")
        if not line.strip():
            problem = "empty line"
        elif len(bits) != num_features:
            problem = f"{len(bits)} bits after the label, {expected} expected"
        elif not _is_label(label, num_classes):
            problem = f"label {records.quoted(label)} is not an integer in 1..{num_classes}"
        elif wrong := next((bit for bit in enumerate(bits, 2) if bit[1] not in ("0", "1")), None):
            problem = f"field {wrong[0]}: {records.quoted(wrong[1])} is not 0 or 1"
        else:
            continue
        return records.file_error(path, problem, line=number)
    return records.file_error(path, f"not a text of labels and {num_features} bits, from line {first} on")


def _is_label(field: str, num_classes: int) -> bool:
    """Whether a field is an integer in range, plain or in double quotes."""
    if len(field) > 2 and field[0] == field[-1] == '"':
        field = field[1:-1]
    return field.isascii() and field.isdigit() and len(field) <= 9 and 1 <= int(field) <= num_classes
