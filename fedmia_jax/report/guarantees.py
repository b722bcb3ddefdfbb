"""What the defences promise, beside what the attacks measure."""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from fedmia_jax.report import tables

COLUMNS = ("defence", "protects", "against", "epsilon", "delta", "how")
NAMES = "defense.names"  # which the column of the defence says
MOST_FIELDS = 3  # with a column each
CAPTION = (
    "Epsilon holds for what is named under protects: two federations that differ in that alone. Outside of it, since\n"
    "they read private records: labels by k-means, early stopping, and what somebody chooses by looking at results."
)


def make_table(stated: pl.DataFrame, *, swept: Sequence[str] = ()) -> tables.Table:
    """Returns the table of guarantees.

    Args:
      stated: of `engine/guarantees.py`, one row or more.
      swept: dotted names of the fields that a sweep varied.
    """
    fields, every_row = [name for name in swept if name in stated.columns], list(stated.iter_rows(named=True))
    cells = [[_cell(row[name]) for name in COLUMNS] for row in every_row]
    if len(fields) <= MOST_FIELDS:
        levels = [[_cell(row[name]) for name in fields] for row in every_row]
    else:
        levels = [[level] for level in _levels(every_row, [name for name in fields if name != NAMES])]
        fields = ["level"]
    rows = [level + cell for level, cell in zip(levels, cells, strict=True)]
    return tables.Table("Guarantees", [*fields, *COLUMNS], rows, CAPTION, left=len(fields) + 3, wrap=True)


def _levels(every_row: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> list[str]:
    """What is set in each row to another value than in most of them."""
    usual = {name: collections.Counter(row[name] for row in every_row).most_common(1)[0][0] for name in fields}
    return [
        ", ".join(f"{name.rpartition('.')[2]} {_cell(row[name])}" for name in fields if row[name] != usual[name])
        for row in every_row
    ]


def _cell(value: object) -> str:
    """A value in a cell."""
    if isinstance(value, float):
        return "infinite" if math.isinf(value) else f"{value:.4g}"
    return str(value)
