"""Orders and baskets: lists of items, turned into one bit for each of the most frequent items."""

import array
import csv
import dataclasses

import numpy as np
import polars as pl

from fedmia_jax import errors, options
from fedmia_jax.data import contract, records, streams

MOST_ITEMS = 50_000_000  # of all baskets together, which are held at once

_ORDERS_MIN_ITEMS = 3
_BASKETS_MIN_ITEMS = 5
_ORDERS_COLUMNS = ("customer", "order", "item")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(records.TableOptions):
    """A file of items, and which records are kept."""

    min_items: int | None = options.option(
        None, "drop records with fewer of the kept items; unset: 3 (orders), 5 (baskets)", low=1
    )


def read_orders(settings: Options, *, name: str, seed: int) -> records.RawRecords:
    """Reads a long csv of orders, plain or gzip, as one record a customer.

    A header line, then one line an item of an order: customer, order, item, by position. Identifiers are
    integers or any text; they sort as numbers if all of a column are integers.

    Args:
      settings: `path`; `num_features` most frequent items are kept (by customers that hold the item, ties by
        the smaller item); customers with fewer than `min_items` of them (unset: 3) are dropped.
      name: `data.name`, for messages.
      seed: unused, the file is the file.

    Returns:
      uint8[M, num_features] features without labels: customers ascending, items by falling frequency.

    Raises:
      InputError: no such file, a bad line by its number, too few distinct items, or no customer left.
    """
    del seed
    path = records.existing_path(settings, name=name)
    content = streams.read_text(path)
    pairs = _parse_orders(content)
    if pairs is None:
        raise _diagnose_orders(content, path)
    del content
    minimum = settings.min_items or _ORDERS_MIN_ITEMS
    features = _to_bits(pairs, path=path, num_features=settings.num_features, minimum=minimum)
    title = f"orders of {records.file_name(path)}, {len(features):,} customers x {settings.num_features} items"
    return records.RawRecords(features=features, labels=None, num_classes=None, title=title)


def read_baskets(settings: Options, *, name: str, seed: int) -> records.RawRecords:
    """Reads baskets, plain or gzip, one a line with its items separated by blanks.

    The format of the frequent item set mining repository (FIMI): `retail.dat` and its like. Items are
    integers or any text without blanks; they sort as numbers if all are integers.

    Args:
      settings: `path`; `num_features` most frequent items are kept (by baskets that hold the item, ties by
        the smaller item); baskets with fewer than `min_items` of them (unset: 5) are dropped.
      name: `data.name`, for messages.
      seed: unused, the file is the file.

    Returns:
      uint8[M, num_features] features without labels: baskets in file order, items by falling frequency.

    Raises:
      InputError: no such file, not text, too few distinct items, or no basket left.
    """
    del seed
    path = records.existing_path(settings, name=name)
    pairs = _parse_baskets(path)
    minimum = settings.min_items or _BASKETS_MIN_ITEMS
    features = _to_bits(pairs, path=path, num_features=settings.num_features, minimum=minimum)
    title = f"baskets of {records.file_name(path)}, {len(features):,} baskets x {settings.num_features} items"
    return records.RawRecords(features=features, labels=None, num_classes=None, title=title)


ORDERS = contract.Factory(read_orders, Options)
BASKETS = contract.Factory(read_baskets, Options)


def _sortable(names: pl.Series) -> pl.Series:
    """Integers if all names are, so that 9 comes before 10; else the names."""
    numbers = names.cast(pl.Int64, strict=False)
    return names if numbers.null_count() else numbers


def _to_bits(pairs: pl.DataFrame, *, path: str, num_features: int, minimum: int) -> np.ndarray:
    """uint8[M, D] of (record, item) pairs: ascending records, items by falling frequency."""
    pairs = pairs.sort("record", "item")  # which takes a fourth of the memory that `unique` does
    repeated = pl.all_horizontal(pl.all() == pl.all().shift())
    pairs = pairs.filter(~repeated.fill_null(False))
    counts = pairs.group_by("item").len().sort(["len", "item"], descending=[True, False])
    if counts.height < num_features:
        cure = f"data.num_features={num_features} needs at least as many"
        raise records.file_error(path, f"{counts.height} distinct items, {cure}")
    columns = counts.head(num_features).select("item").with_row_index("column")
    kept = pairs.join(columns, on="item")
    full = kept.group_by("record").len().filter(pl.col("len") >= minimum)
    rows = full.select("record").sort("record").with_row_index("row")
    if rows.is_empty():
        cure = f"none holds data.min_items={minimum} of the data.num_features={num_features} items"
        raise records.file_error(path, f"no records left: {cure}")
    if rows.height * num_features > records.MOST_BYTES:
        size = f"{rows.height:,} records x {num_features} features"
        cure = "lower data.num_features or raise data.min_items"
        raise records.file_error(
            path, f"a table of {size} is larger than {records.in_units(records.MOST_BYTES)}; {cure}"
        )
    kept = kept.join(rows, on="record")
    features = np.zeros((rows.height, num_features), np.uint8)
    features[kept["row"].to_numpy(), kept["column"].to_numpy()] = 1
    return features


def _parse_baskets(path: str) -> pl.DataFrame:
    """(record, item) pairs of all baskets, one line at a time; every item is held once by name."""
    sizes, places = array.array("i"), array.array("i")
    place_of: dict[str, int] = {}
    for first, block in streams.text_blocks(path):
        for _, line in streams.numbered_lines(block, path, first=first):
            basket = line.split()
            sizes.append(len(basket))
            places.extend([place_of.setdefault(item, len(place_of)) for item in basket])
            if len(places) + len(sizes) > MOST_ITEMS:
                raise records.file_error(path, f"more than {MOST_ITEMS:,} items; give a part of its records")
    names = _sortable(pl.Series(list(place_of), dtype=pl.String))
    return pl.DataFrame(
        {
            "record": np.repeat(np.arange(len(sizes), dtype=np.int32), sizes),
            "item": names.gather(np.frombuffer(places, np.int32)) if places else names,
        }
    )


def _parse_orders(content: bytes) -> pl.DataFrame | None:
    """The fast path: (record, item) pairs, or None if anything at all is wrong."""
    if not _is_header(content[: content.find(b"\n") + 1 or None].decode(errors="replace")):
        return None
    frame = streams.parse_csv(content, skip_lines=1, schema=dict.fromkeys(_ORDERS_COLUMNS, pl.String))
    if frame is None:
        return None
    empty = frame.select((pl.all().is_null() | (pl.all() == "")).any()).row(0)
    if frame.is_empty() or any(empty):
        return None
    return frame.select(record=_sortable(frame["customer"]), item=_sortable(frame["item"]))


def _diagnose_orders(content: bytes, path: str) -> errors.InputError:
    """Words what is wrong with the first bad line, where `_parse_orders` gave None."""
    last = 0
    for number, line in streams.numbered_lines(content, path):
        last = number
        fields = _fields(line)
        if number == 1 and not _is_header(line):
            problem = f"a header line expected (customer, order, item), found {records.quoted(line)}"
        elif len(fields) != len(_ORDERS_COLUMNS):
            problem = f"{len(fields)} fields, 3 expected (customer, order, item)"
        elif "" in fields:
            problem = f"the {_ORDERS_COLUMNS[fields.index('')]} is empty"
        else:
            continue
        return records.file_error(path, problem, line=number)
    return records.file_error(path, "no orders in the file" if last <= 1 else "not a csv of three columns")


def _is_header(line: str) -> bool:
    """Whether a first line is three names; three integers are an order that a skipped header would lose."""
    fields = _fields(line)
    integers = [field.isascii() and field.isdigit() for field in fields]
    return len(fields) == len(_ORDERS_COLUMNS) and not all(integers)


def _fields(line: str) -> list[str]:
    """The fields of one line of csv; none if it is empty or beyond parsing."""
    try:
        return next(csv.reader([line.rstrip("\r\n")]), [])
    except csv.Error:
        return []
