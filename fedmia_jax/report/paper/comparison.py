"""Puts the numbers of a sweep beside those of the paper's tables I and II."""

import pathlib
from collections.abc import Sequence

import numpy as np
import polars as pl

from fedmia_jax.audit import intervals
from fedmia_jax.audit import rows as audit_rows
from fedmia_jax.report.paper import facts

CELL = facts.CELL
SWEPT = {"data.num_classes": "classes", "federation.nodes": "nodes", "federation.local_epochs": "local_epochs"}
CLASSES, NODES, EPOCHS = (10, 20, 50, 100), (3, 10, 15), (100, 200)
MEASURED = {  # the paper's word: column of the results
    "train_accuracy": "target_train_accuracy",
    "test_accuracy": "target_test_accuracy",
    "attack_accuracy": "accuracy",
    "attack_precision": "precision",
    "attack_recall": "recall",
    "attack_f1": "f1",
}


def published() -> pl.DataFrame:
    """Returns the paper's numbers: table, classes, nodes, local_epochs (null in table I), metric, paper."""
    numbers = pl.read_csv(pathlib.Path(__file__).with_name("tables.csv"))
    return numbers.with_columns(pl.col(CELL).cast(pl.Int64)).rename({"value": "paper"})


def select(results: pl.DataFrame) -> pl.DataFrame:
    """Returns the rows of the paper's attack on single snapshots, the swept columns in the paper's words."""
    return results.filter(pl.col("attack") == "network", pl.col("view") == audit_rows.SNAPSHOT).rename(SWEPT)


def applies(results: pl.DataFrame) -> bool:
    """Whether the results are a sweep over cells of the paper's grid: more than one, one point in each."""
    rows = select(results)
    return rows.select(CELL).n_unique() > 1 and inside(rows) and not several(rows, [])


def inside(rows: pl.DataFrame) -> bool:
    """Whether every selected row is of a cell of the paper's grid."""
    grid = (("classes", CLASSES), ("nodes", NODES), ("local_epochs", EPOCHS))
    return all(rows[name].is_in(values).all() for name, values in grid)


def several(rows: pl.DataFrame, protocol: Sequence[str]) -> bool:
    """Whether points of one protocol share a cell."""
    return rows.select("run_id", *CELL).n_unique() > rows.select(*protocol, *CELL).n_unique()


def compare(results: pl.DataFrame) -> pl.DataFrame:
    """Puts every number of the paper's tables that the results can answer beside ours.

    Table I is the centralised target, all its records attacked; it does not depend on the nodes, so it is averaged
    over them within a replicate. Table II is the model after the last visit of the last cycle, the records of all
    nodes attacked.

    Args:
      results: the results table of a sweep.

    Returns:
      A row for each number: table, classes, nodes (null in table I), local_epochs, metric, paper, mean (over
      replicates), half_width (of its 95% t-interval, null for one replicate), difference (mean - paper),
      num_replicates. Table I has a set of rows for each local_epochs where these differ, else a single one,
      local_epochs null if it stands for several.
    """
    columns = ["table", *CELL, "metric"]
    ours = _over_replicates(select(results), columns)
    paper = published().with_row_index("place")
    first = ours.filter(table="I").join(paper.drop("nodes", "local_epochs"), on=["table", "classes", "metric"])
    second = ours.filter(table="II").join(paper, on=columns)
    return (
        pl.concat([first, second.select(first.columns)])
        .sort("table", pl.col("local_epochs").fill_null(0), "place")
        .with_columns(difference=pl.col("mean") - pl.col("paper"))
        .select(*columns, "paper", "mean", "half_width", "difference", "num_replicates")
    )


def _over_replicates(rows: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Mean, half-width of its interval and number of replicates of every number of both tables."""
    names = {column: metric for metric, column in MEASURED.items()}
    measured = [
        frame.rename(names).unpivot(list(MEASURED), index=["table", *CELL, "replicate"], variable_name="metric")
        for frame in (_centralised(rows), _final(rows))
    ]
    grouped = pl.concat(measured).group_by(columns, maintain_order=True).agg("value")
    values = [np.array(replicates) for replicates in grouped["value"]]
    widths = [intervals.t_width(replicates) for replicates in values]
    return grouped.drop("value").with_columns(
        mean=pl.Series([replicates.mean() for replicates in values], dtype=pl.Float64),
        half_width=pl.Series(widths, dtype=pl.Float64).fill_nan(None),
        num_replicates=pl.Series([len(replicates) for replicates in values], dtype=pl.Int64),
    )


def _centralised(rows: pl.DataFrame) -> pl.DataFrame:
    """One row for each class number and replicate, and for each number of epochs where these differ."""
    columns = list(MEASURED.values())
    central = (
        facts.of_central(rows)
        .group_by("classes", "local_epochs", "replicate", maintain_order=True)
        .agg(pl.col(columns).mean())
    )
    spread = central.group_by("classes", "replicate").agg(pl.col(columns).max() - pl.col(columns).min())
    if (spread.select(pl.max_horizontal(columns).max()).item() or 0.0) < 1e-9:
        differ = pl.col("local_epochs").n_unique() > 1
        epochs = pl.when(differ).then(None).otherwise(pl.col("local_epochs").first()).over("classes")
        central = central.with_columns(epochs.alias("local_epochs")).unique(["classes", "replicate"])
    return central.sort(CELL[0], CELL[2], "replicate").select(
        *(pl.lit("I").alias("table"), "classes", pl.lit(None, pl.Int64).alias("nodes")),
        *("local_epochs", "replicate", *columns),
    )


def _final(rows: pl.DataFrame) -> pl.DataFrame:
    """One row for each cell and replicate: the last snapshot of the last cycle."""
    final = facts.of_last(rows)
    return final.select(pl.lit("II").alias("table"), *CELL, "replicate", *MEASURED.values())


def summary(comparison: pl.DataFrame) -> pl.DataFrame:
    """Returns table, metric, mean_absolute_difference, mean_difference, num_cells of what `compare` returns."""
    return comparison.group_by("table", "metric", maintain_order=True).agg(
        mean_absolute_difference=pl.col("difference").abs().mean(),
        mean_difference=pl.col("difference").mean(),
        num_cells=pl.len().cast(pl.Int64),
    )
