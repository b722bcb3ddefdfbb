"""What the defences of every point promise, as a table."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import polars as pl

from fedmia_jax.engine.plans import runs

NAME = "guarantees"  # of the table beside the results, where a defence promises something
SCHEMA = {
    "defence": pl.String,
    "protects": pl.String,
    "against": pl.String,
    "epsilon": pl.Float64,
    "delta": pl.Float64,
    "how": pl.String,
}


def tabulate(every_run: Sequence[runs.Run]) -> pl.DataFrame:
    """Returns the guarantees of all points, the worst of their replicates.

    Args:
      every_run: of one or many points.

    Returns:
      One row for each point, defence and adjacency: `run_id`, the swept fields, and the columns of `SCHEMA`.
    """
    worst: dict[tuple[str, ...], dict[str, Any]] = {}
    for run in every_run:
        lead = {"run_id": runs.run_id(run), **{name: str(value) for name, value in run.values.items()}}
        for name, stated in run.plans.defences.guarantees(run.use):
            row = {**lead, "defence": name, **dataclasses.asdict(stated)}
            kept = worst.setdefault((lead["run_id"], name, stated.protects), row)
            if stated.epsilon > kept["epsilon"]:
                kept |= row
    return pl.DataFrame(list(worst.values()), infer_schema_length=None, schema_overrides=SCHEMA)
