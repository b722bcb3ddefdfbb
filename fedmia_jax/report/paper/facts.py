"""Takes what the paper's claims are about from the rows of a sweep, or from the paper's own tables."""

import dataclasses
from typing import Any

import polars as pl

CELL = ["classes", "nodes", "local_epochs"]  # columns that tell the cells of the paper's grid apart


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the claims are about; frames with the columns CELL and replicate, then those named.

    Attributes:
      central: test_accuracy, attack_accuracy of the centralised target, all its records attacked.
      final: the same of the last model of the federation, the records of all nodes attacked.
      visits: target, cycle, accuracy, rise (over the snapshot before), peak (whether no snapshot until just before
        the next visit is higher); one row for each visit of each node from the second cycle on, that node attacked.
      swings: accuracy and recall, by "swing" and "spread" in the column `kind`.
    """

    central: pl.DataFrame
    final: pl.DataFrame
    visits: pl.DataFrame
    swings: pl.DataFrame


def from_results(rows: pl.DataFrame) -> Facts:
    """Takes from the rows what the claims are about.

    Args:
      rows: results of one attack on single snapshots, with the columns CELL; those of a replicate in training order.
    """
    of_replicate = [*CELL, "replicate"]
    scores = {"test_accuracy": pl.col("target_test_accuracy"), "attack_accuracy": pl.col("accuracy")}
    single = rows.filter(pl.col("phase") == "federated", pl.col("attacked").str.contains(r"^N\d+$"))
    single = single.with_columns(target=pl.col("attacked").str.strip_prefix("N").cast(pl.Int64))
    single = single.sort(*of_replicate, "target", "cycle", maintain_order=True)
    central, final = (frame.select(*of_replicate, **scores) for frame in (of_central(rows), of_last(rows)))
    return Facts(central, final, _visits(single), _swings(single))


def of_central(rows: pl.DataFrame) -> pl.DataFrame:
    """Returns the rows of the centralised targets, all their records attacked."""
    return rows.filter(pl.col("phase") == "centralised", pl.col("attacked") == "union")


def of_last(rows: pl.DataFrame) -> pl.DataFrame:
    """Returns the rows of the federations' last models, the records of all nodes attacked.

    The last model of a federation is the last snapshot of its last cycle, as they stand in the rows.
    """
    union = rows.filter(pl.col("phase") == "federated", pl.col("attacked") == "union")
    last_cycle = union.filter(pl.col("cycle") == pl.col("cycle").max().over(CELL))
    return last_cycle.unique(["run_id", *CELL, "replicate"], keep="last", maintain_order=True)


def _visits(single: pl.DataFrame) -> pl.DataFrame:
    """One row for each visit of each attacked node; its window lasts until just before that node's next visit."""
    track = [*CELL, "replicate", "target"]
    visit = pl.col("node").eq_missing(pl.col("target"))  # an aggregate has no node, and is nobody's visit
    windows = single.with_columns(
        before=pl.col("accuracy").shift(1).over(track), window=visit.cast(pl.Int64).cum_sum().over(track)
    ).with_columns(highest=pl.col("accuracy").max().over(*track, "window"))
    return windows.filter(visit, pl.col("cycle") > 1).select(
        *track,
        "cycle",
        "accuracy",
        rise=pl.col("accuracy") - pl.col("before"),
        peak=pl.col("accuracy") >= pl.col("highest"),
    )


def _swings(single: pl.DataFrame) -> pl.DataFrame:
    """Variation of the attack on single nodes along the hand-offs, mean over the nodes."""
    of_replicate, columns = [*CELL, "replicate"], pl.col("accuracy", "recall")
    later = single.filter(pl.col("cycle") > 1)
    swing = later.group_by(*of_replicate, "target", "cycle").agg(columns.max() - columns.min())
    spread = later.group_by(*of_replicate, "target").agg(columns.std(ddof=0))
    kinds = [
        frame.group_by(of_replicate).agg(columns.mean()).with_columns(kind=pl.lit(kind))
        for kind, frame in (("swing", swing), ("spread", spread))
    ]
    return pl.concat(kinds).sort(of_replicate)


def from_tables(published: pl.DataFrame) -> Facts:
    """Returns the paper's own tables as facts; its figures are not data."""
    wide = published.pivot("metric", index=["table", *CELL], values="paper").with_columns(replicate=pl.lit(0))
    columns = [*CELL, "replicate", "test_accuracy", "attack_accuracy"]
    final = wide.filter(table="II").select(columns)
    central = final.select(*CELL, "replicate").join(
        wide.filter(table="I").select("classes", *columns[4:]), on="classes", maintain_order="left"
    )
    visits: dict[str, Any] = {
        "target": pl.Int64,
        "cycle": pl.Int64,
        "accuracy": pl.Float64,
        "rise": pl.Float64,
        "peak": pl.Boolean,
    }
    swings: dict[str, Any] = {"accuracy": pl.Float64, "recall": pl.Float64, "kind": pl.String}
    head: dict[str, Any] = dict.fromkeys([*CELL, "replicate"], pl.Int64)
    return Facts(central, final, pl.DataFrame(schema=head | visits), pl.DataFrame(schema=head | swings))
