"""The raw Acquire Valued Shoppers transactions: streamed, whatever the length of the file."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from fedmia_jax import errors
from fedmia_jax.data import contract, records, streams

_CUSTOMER_BYTES = 200  # what it takes to remember a customer, besides the bits
_COLUMNS = (
    "id",
    "chain",
    "dept",
    "category",
    "company",
    "brand",
    "date",
    "productsize",
    "productmeasure",
    "purchasequantity",
    "purchaseamount",
)
_HEADER = ",".join(_COLUMNS)
_SCHEMA = {name: pl.Int64 if name in ("id", "category") else pl.String for name in _COLUMNS}


def read(settings: records.TableOptions, *, name: str, seed: int) -> records.RawRecords:
    """Reads raw transactions, plain or gzip, as one record a customer.

    A bit says whether the customer ever bought from a category, for the first `num_features` categories that
    the file mentions. The file passes by in blocks of 16 MiB: memory grows with customers times categories,
    never with transactions. Source: the usual recipe of Purchases, Shokri et al. (2017), section VI.

    Args:
      settings: `path`, with or without a header line; `num_features` categories are kept, or those there are.
      name: `data.name`, for messages.
      seed: unused, the file is the file.

    Returns:
      uint8[M, min(num_features, categories)] features without labels: customers with any kept category, by
      ascending id; categories in order of first appearance.

    Raises:
      InputError: no such file, damaged gzip, no transactions, or a bad line by its number.
    """
    del seed
    path = records.existing_path(settings, name=name)
    table = _Table(settings.num_features, path)
    for first, block in _blocks(path):
        table.add(_parse(block, path, first))
    features = table.to_features()
    if not len(features):
        raise records.file_error(path, "no transactions in the file")
    num_customers, num_categories = features.shape
    title = f"transactions of {records.file_name(path)}, {num_customers:,} customers x {num_categories} categories"
    if num_categories < settings.num_features:
        title += f" (all there are; data.num_features={settings.num_features})"
    return records.RawRecords(features=features, labels=None, num_classes=None, title=title)


TRANSACTIONS = contract.Factory(read, records.TableOptions)


class _Table:
    """Bits of customers by categories that grows as both turn up."""

    def __init__(self, num_features: int, path: str) -> None:
        self._num_features, self._path = num_features, path
        self._columns: dict[int, int] = {}
        self._rows: dict[int, int] = {}
        self._bits = np.zeros((0, 0), np.uint8)

    def add(self, pairs: pl.DataFrame) -> None:
        """Sets the bits of (id, category) pairs that are in order of appearance."""
        for category in pairs["category"].unique(maintain_order=True).to_list():
            if len(self._columns) < self._num_features:
                self._columns.setdefault(category, len(self._columns))
        column = pl.col("category").replace_strict(self._columns, default=None, return_dtype=pl.Int64)
        kept = pairs.select("id", column=column).drop_nulls()
        ids = kept["id"].unique().to_list()
        rows = {customer: self._rows.setdefault(customer, len(self._rows)) for customer in ids}
        self._grow()
        row = kept["id"].replace_strict(rows, return_dtype=pl.Int64)
        self._bits[row.to_numpy(), kept["column"].to_numpy()] = 1

    def to_features(self) -> np.ndarray:
        """uint8[customers, categories], customers by ascending id."""
        order = [self._rows[customer] for customer in sorted(self._rows)]
        return np.ascontiguousarray(self._bits[:, : len(self._columns)][order])

    def _grow(self) -> None:
        """Doubles a side that has become too short, so that all copying together is linear."""
        needed = (len(self._rows), len(self._columns))
        if needed[0] * (needed[1] + _CUSTOMER_BYTES) > records.MOST_BYTES:
            size = f"{needed[0]:,} customers x {needed[1]} categories"
            cure = "lower data.num_features, or give fewer customers"
            raise records.file_error(
                self._path, f"a table of {size} is larger than {records.in_units(records.MOST_BYTES)}; {cure}"
            )
        sides = [old if old >= new else max(new, 2 * old) for old, new in zip(self._bits.shape, needed, strict=True)]
        if tuple(sides) != self._bits.shape:
            bits = np.zeros(sides, np.uint8)
            bits[: self._bits.shape[0], : self._bits.shape[1]] = self._bits
            self._bits = bits


def _blocks(path: str) -> Iterator[tuple[int, bytes]]:
    """Whole lines, some 16 MiB at a time, each block with the number of its first line; no header."""
    for first, block in streams.text_blocks(path, most=streams.UNBOUNDED):
        lines = block if block.endswith(b"\n") else block + b"\n"
        if first > 1 or lines[:1].isdigit():
            yield first, lines
            continue
        head, _, rest = lines.partition(b"\n")
        if head.decode(errors="replace").strip("\r").replace('"', "") != _HEADER:
            start = head[:80].decode(errors="replace")
            raise records.file_error(path, f"a transaction or {_HEADER} expected, found {start!r}", line=1)
        if rest:
            yield 2, rest


def _parse(block: bytes, path: str, first: int) -> pl.DataFrame:
    """The distinct (id, category) pairs of a block, in order of appearance."""
    if _has_all_fields(block):
        frame = streams.parse_csv(block, columns=[0, 3], schema=_SCHEMA, quote_char=None)
        if frame is not None and not sum(frame.null_count().row(0)):
            return frame.unique(maintain_order=True)
    raise _diagnose(block, path, first)


def _has_all_fields(block: bytes) -> bool:
    """Whether every line has as many commas as it should: a parser that skips columns does not count them."""
    characters = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    commas = np.flatnonzero(characters == ord(","))
    if len(commas) != len(ends) * (len(_COLUMNS) - 1):
        return False
    by_line = commas.reshape(len(ends), -1)
    return bool((by_line[:, -1] < ends).all() and (by_line[1:, 0] > ends[:-1]).all())


def _diagnose(block: bytes, path: str, first: int) -> errors.InputError:
    """Finds the first bad line of a block."""
    for number, line in streams.numbered_lines(block, path, first=first):
        fields = dict(zip(_COLUMNS, line.split(","), strict=False))
        num_fields = line.count(",") + 1
        if num_fields != len(_COLUMNS):
            problem = f"{num_fields} fields, {len(_COLUMNS)} expected ({_HEADER})"
        elif wrong := [name for name in ("id", "category") if not _is_integer(fields[name])]:
            problem = f"{wrong[0]} {records.quoted(fields[wrong[0]])} is not an integer"
        else:
            continue
        return records.file_error(path, problem, line=number)
    return records.file_error(path, f"cannot be read from line {first} on")


def _is_integer(field: str) -> bool:
    """Whether a field is an integer of at most 18 digits."""
    return field.isascii() and field.removeprefix("-").isdigit() and len(field) <= 18
