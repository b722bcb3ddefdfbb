"""Ranks the protocols of a sweep by how near they come to the paper's tables.

A protocol is what a sweep varies beside the paper's grid: settings that the paper leaves open.
"""

from collections.abc import Sequence

import polars as pl

from fedmia_jax.report import tables
from fedmia_jax.report.paper import comparison

COLUMNS = {  # (table of the paper, metric): heading
    ("I", "train_accuracy"): "I:\ntrain",
    ("I", "test_accuracy"): "\ntest",
    ("I", "attack_accuracy"): "\nattack",
    ("I", "attack_precision"): "\nprec.",
    ("I", "attack_recall"): "\nrecall",
    ("I", "attack_f1"): "\nF1",
    ("II", "test_accuracy"): "II:\ntest",
    ("II", "attack_accuracy"): "\nattack",
}


def applies(results: pl.DataFrame, swept: Sequence[str]) -> bool:
    """Whether several protocols were run, each on cells of the paper's grid."""
    protocol = [name for name in swept if name not in comparison.SWEPT]
    rows = comparison.select(results)
    many = bool(protocol) and min(rows.select(names).n_unique() for names in (protocol, comparison.CELL)) > 1
    return many and comparison.inside(rows) and not comparison.several(rows, protocol)


def rank(results: pl.DataFrame, *, swept: Sequence[str], title: str) -> tables.Table:
    """Ranks protocols by the mean absolute difference from the paper.

    Args:
      results: the results table of a sweep to which this `applies`.
      swept: dotted names of the fields that tell the points apart; those outside the paper's grid are the protocol.
      title: what the records were.

    Returns:
      A row for each protocol, the nearest first: its fields, the mean absolute difference of each column of tables I
      and II over the cells that were run, and of each table. A protocol that went non-finite comes last.
    """
    protocol = [name for name in swept if name not in comparison.SWEPT]
    ranked = []
    for of_protocol in results.partition_by(protocol, maintain_order=True):
        values = [tables.value(of_protocol[name][0]) for name in protocol]
        if of_protocol["accuracy"].null_count():
            ranked.append((float("inf"), [*values, *["-"] * (len(COLUMNS) + 2)]))
            continue
        compared = comparison.compare(of_protocol).with_columns(pl.col("difference").abs())
        by_column = _means(compared, ["table", "metric"])
        by_table = _means(compared, ["table"])
        cells = [*(by_column.get(column) for column in COLUMNS), by_table.get(("I",)), by_table.get(("II",))]
        distance = sum(by_table.values()) / len(by_table)
        ranked.append((distance, [*values, *("-" if cell is None else f"{cell:.3f}" for cell in cells)]))
    ranked.sort(key=lambda item: item[0])
    lines = [[str(place), *cells] for place, (_, cells) in enumerate(ranked, start=1)]
    header = ["", *(name.replace(".", ".\n") for name in protocol), *COLUMNS.values(), "mean\nI", "mean\nII"]
    caption = (
        "Mean absolute differences from the paper's tables I and II, over the cells that were run; ranked by the mean "
        "over both. A fit on other records than the paper's: it says which settings give such numbers here, not which "
        "the paper used."
    )
    return tables.Table(
        f"Protocols by their distance from the paper; {title}", header, lines, caption, left=len(protocol) + 1
    )


def _means(compared: pl.DataFrame, by: Sequence[str]) -> dict[tuple[str, ...], float]:
    """Mean difference by some columns."""
    means = compared.group_by(by).agg(pl.col("difference").mean())
    return {tuple(columns): value for *columns, value in means.iter_rows()}
