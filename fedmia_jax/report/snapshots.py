"""Snapshots as the rows of the results name them: their order, who trained them, and how to speak of them.

Everything is read off the columns `cycle`, `node` and `snapshot`; a snapshot that no node trained (an aggregate) has a
name and a cycle but no node.
"""

import polars as pl


def in_order(rows: pl.DataFrame) -> list[str]:
    """Returns the names of the snapshots in training order: by cycle, within it as they appear in the rows."""
    return rows.sort("cycle", maintain_order=True)["snapshot"].unique(maintain_order=True).to_list()


def trained_by(rows: pl.DataFrame, node: int) -> set[str]:
    """Returns the names of the snapshots that one node trained, nodes counted from 1."""
    return set(rows.filter(pl.col("node") == node)["snapshot"])


def sequential(rows: pl.DataFrame) -> bool:
    """Whether a node trained every snapshot, as in a federation that hands one model round."""
    return rows.filter(pl.col("snapshot").is_not_null())["node"].null_count() == 0


def pace(rows: pl.DataFrame) -> str:
    """Returns how a figure goes through the snapshots, for its heading."""
    return "hand-off by hand-off" if sequential(rows) else "snapshot by snapshot"


def axis_label(rows: pl.DataFrame) -> str:
    """Returns what the names of the snapshots mean, for the axis that they stand along."""
    if sequential(rows):
        return "model after cycle and node"
    if rows["node"].null_count() == len(rows):
        return "aggregated model after cycle"
    return "model after cycle, or cycle and node"
