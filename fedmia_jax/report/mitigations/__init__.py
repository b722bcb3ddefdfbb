"""What protection buys: every defence of a sweep, at several levels, by what it costs and what it still leaks.

It is made of the results and findings of a sweep over `defense.names` whose first point has no defence.
"""

from collections.abc import Mapping, Sequence

import polars as pl

from fedmia_jax.engine import guarantees
from fedmia_jax.report import figures, tables
from fedmia_jax.report.mitigations import advice, frontier, pictures, repeats, shown
from fedmia_jax.storage import workdir as workdirs

NAMES = "defense.names"


def applies(
    findings: Mapping[str, pl.DataFrame] | None, results: pl.DataFrame, swept: Sequence[str], strongest: str
) -> bool:
    """Whether a sweep compares defences, by the strongest attack, with a first point that has none."""
    if not findings or NAMES not in swept or strongest not in findings["intervals"]["attack"]:
        return False
    return results[NAMES][0] == str(())


def make(
    workdir: workdirs.Workdir,
    findings: Mapping[str, pl.DataFrame],
    results: pl.DataFrame,
    *,
    title: str,
    swept: Sequence[str],
    strongest: str,
) -> tuple[list[str], list[tables.Table], list[str]]:
    """Makes the frontier of a sweep to which this `applies`.

    Args:
      workdir: of the run; the figure goes to its `figures` folder.
      findings: as `adversaries.read` returns them.
      results: the results table, attacks on single snapshots.
      title: what the runs were on.
      swept: dotted names of the fields that the sweep varied.
      strongest: the attack by which defences are compared.

    Returns:
      Sections of `report.md`, tables for the terminal, and names of figures.
    """
    levels = frontier.read(
        findings,
        results,
        swept=swept,
        strongest=strongest,
        changes=workdir.read_table(workdirs.CHANGES),
        guarantees=workdir.read_table(guarantees.NAME),
    )
    if frontier.SEED in swept:
        table = repeats.to_table(levels, title=title)
        return [table.to_markdown()], [table], []
    figures.save(workdir, "frontier", pictures.draw(levels, title=title))
    made = [shown.to_table(levels, title=title), shown.to_changes(levels), advice.to_table(levels)]
    sections = [*(table.to_markdown() for table in made), advice.recommend(levels)]
    narrow = [shown.to_summary(levels, title=title), made[2]]
    return [*sections, advice.claims(levels).to_markdown()], narrow, ["frontier"]
