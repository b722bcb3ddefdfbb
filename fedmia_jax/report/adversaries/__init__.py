"""What adversaries learn under their views: tables of attacks x views, of coalitions and of naming, and figures.

They are made from the tables that a run with reference federations leaves beside its results.
"""

import polars as pl

from fedmia_jax.report.adversaries.figures import draw
from fedmia_jax.report.adversaries.tables import by_point, make_tables, single_views
from fedmia_jax.storage import workdir as workdirs

__all__ = ["by_point", "draw", "make_tables", "read", "single_views"]


def read(workdir: workdirs.Workdir) -> dict[str, pl.DataFrame] | None:
    """Returns the tables of a run with reference federations by name, one for each of `TABLES`, or None."""
    findings = {name: table for name in workdirs.TABLES if (table := workdir.read_table(name)) is not None}
    return findings if len(findings) == len(workdirs.TABLES) and not findings["roc"].is_empty() else None
