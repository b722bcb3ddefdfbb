"""What the defences promise, beside what the attacks measure."""

import math
from collections.abc import Sequence

import polars as pl

from fedmia_jax.report import tables

COLUMNS = ("defence", "protects", "against", "epsilon", "delta", "how")
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
    fields = [name for name in swept if name in stated.columns]
    rows = [[_cell(row[name]) for name in (*fields, *COLUMNS)] for row in stated.iter_rows(named=True)]
    return tables.Table("Guarantees", [*fields, *COLUMNS], rows, CAPTION, left=len(fields) + 3, wrap=True)


def _cell(value: object) -> str:
    """A value in a cell."""
    if isinstance(value, float):
        return "infinite" if math.isinf(value) else f"{value:.4g}"
    return str(value)
