"""Which settings that the paper leaves open come nearest to its tables: a ranking of the protocols of a sweep."""

from collections.abc import Sequence

import polars as pl

from fedmia_jax.report import paper, tables

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
    protocol = [name for name in swept if name not in paper.SWEPT]
    part = paper.select(results)
    many = bool(protocol) and min(part.select(names).n_unique() for names in (protocol, paper.CELL)) > 1
    return many and paper.inside(part) and not paper.several(part, protocol)


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
    protocol = [name for name in swept if name not in paper.SWEPT]
    found = []
    for part in results.partition_by(protocol, maintain_order=True):
        values = [tables.value(part[name][0]) for name in protocol]
        if part["accuracy"].null_count():
            found.append((float("inf"), [*values, *["-"] * (len(COLUMNS) + 2)]))
            continue
        compared = paper.compare(part).with_columns(pl.col("difference").abs())
        by_column = _means(compared, ["table", "metric"])
        by_table = _means(compared, ["table"])
        cells = [*(by_column.get(key) for key in COLUMNS), by_table.get(("I",)), by_table.get(("II",))]
        distance = sum(by_table.values()) / len(by_table)
        found.append((distance, [*values, *("-" if cell is None else f"{cell:.3f}" for cell in cells)]))
    rows = [[str(place), *cells] for place, (_, cells) in enumerate(sorted(found, key=lambda item: item[0]), start=1)]
    header = ["", *(name.replace(".", ".\n") for name in protocol), *COLUMNS.values(), "mean\nI", "mean\nII"]
    caption = (
        "Mean absolute differences from the paper's tables I and II, over the cells that were run; ranked by the mean "
        "over both. A fit on other records than the paper's: it says which settings give such numbers here, not which "
        "the paper used."
    )
    return tables.Table(
        f"Protocols by their distance from the paper; {title}", header, rows, caption, left=len(protocol) + 1
    )


def _means(compared: pl.DataFrame, by: Sequence[str]) -> dict[tuple[str, ...], float]:
    """Mean difference by some columns."""
    means = compared.group_by(by).agg(pl.col("difference").mean())
    return {tuple(key): value for *key, value in means.iter_rows()}
