"""Makes tables of differences: what those who see more learn more, and what the strongest attack gains over others."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from fedmia_jax.audit import comparisons, views
from fedmia_jax.report import tables

NUMBERS = {"auc": "AUC", "tpr_at_fpr_0.01": "TPR at 1% FPR", "tpr_at_fpr_0.001": "TPR at 0.1% FPR"}
OVER = ("lira_online", "rmia_online", "base_online", "sequence_lira", "trajectory")  # attacks that are shown
SEES = {
    comparisons.ALL: "all that the other sees",
    comparisons.OWN: "more of the node's snapshots",
    comparisons.ORDER: "who trained what",
}
HOW = (
    "Differences on one node, on the same records and replicates, which are drawn anew for both at once; 95% "
    "intervals, each by itself. Only nodes that both attack count."
)


def make_gains(compared: pl.DataFrame) -> list[tables.Table]:
    """Returns who sees more, and the gain of the strongest attack; those that have rows.

    Args:
      compared: the table of comparisons of one point.
    """
    shown = compared.filter("strongest")
    shown = shown.filter(*(~pl.col(name).is_in(list(views.ALIASES)) for name in ("view", "other_view")))
    between_views = shown.filter(pl.col("sees").is_not_null())
    between_attacks = shown.filter(pl.col("sees").is_null(), pl.col("other_attack").is_in(OVER))
    return [make(rows) for make, rows in ((_views, between_views), (_attacks, between_attacks)) if not rows.is_empty()]


def _views(rows: pl.DataFrame) -> tables.Table:
    """One attack under two views."""
    lines = [
        [row["view"], row["other_view"], SEES[row["sees"]], str(row["nodes"]), *_cells(row)]
        for row in rows.iter_rows(named=True)
    ]
    header, attack = ["view", "less", "sees", "nodes", *NUMBERS.values()], rows["attack"][0]
    caption = (
        f"{HOW} Who sees all that the other sees can do no worse with the best attack there is: where an interval lies "
        "below zero, this attack is not it."
    )
    return tables.Table(f"Who sees more, attack: {attack}", header, lines, caption, left=3)


def _attacks(rows: pl.DataFrame) -> tables.Table:
    """Two attacks under one view."""
    lines = [[row["view"], row["other_attack"], *_cells(row)] for row in rows.iter_rows(named=True)]
    header, attack = ["view", "over", *NUMBERS.values()], rows["attack"][0]
    caption = f"{HOW} Which attack is compared was decided beforehand, by attack.strongest."
    return tables.Table(f"Gain of the strongest attack, {attack}", header, lines, caption, left=2)


def _cells(row: Mapping[str, Any]) -> list[str]:
    """The differences of a row."""
    return [_cell(*(row[column] for column in comparisons.number_columns(number))) for number in NUMBERS]


def _cell(value: float | None, low: float | None, high: float | None) -> str:
    """A difference and its interval, with no more digits than that tells; a dash where the sample resolves none."""
    if value is None:
        return "-"
    if low is None or high is None:
        return _short(value, 2)
    digits = tables.digits(low, high)
    first, second, third = (_short(number, digits) for number in (value, low, high))
    return f"{first} ({second} to {third})"


def _short(number: float, digits: int) -> str:
    """A difference with its sign and without the zero in front."""
    return f"{round(number, digits) + 0.0:+.{digits}f}".replace("0.", ".", 1)  # + 0.0: no "-.000"
