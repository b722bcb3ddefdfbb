"""What a person reads of a finished run: terminal tables, `report.md` and the figures."""

import dataclasses
from collections.abc import Sequence

import polars as pl
import rich.console

from fedmia_jax import adversary as adversary_views
from fedmia_jax import store
from fedmia_jax.report import adversaries, figures, paper, ranking, tables

TERMINAL_ROWS = 60  # points of a sweep that the terminal shows; report.md has all


def write(
    workdir: store.Workdir,
    results: pl.DataFrame,
    *,
    title: str,
    console: rich.console.Console,
    swept: Sequence[str] = (),
) -> None:
    """Prints the tables and writes `report.md` and `figures/*.png`.

    Args:
      workdir: where the files go.
      results: the results table.
      title: what the run was on; it stands in every heading, so that no figure can lose it.
      console: the terminal.
      swept: dotted names of the fields that a sweep varied, columns of `results`; with several points there is one
        row for each, and the paper's tables beside it where the points are the paper's.
    """
    adversary = adversaries.read(workdir)
    results = results.filter(pl.col("view") == adversary_views.SNAPSHOT)  # the others have a page of their own
    if swept and results.select("run_id", *swept).n_unique() > 1:
        # Comparisons read federations only: they have pages of their own, one a point.
        based = results.filter(pl.col("phase") == "centralised")["attack"].unique().to_list()
        texts, shown, pictures = _sweep(
            workdir, results.filter(pl.col("attack").is_in(based)), title=title, swept=swept
        )
        texts += [table.to_markdown() for table in adversaries.by_point(adversary, swept=swept)] if adversary else []
    elif adversary:
        texts, shown, pictures = _adversaries(workdir, adversary, results, title=title)
    else:
        shown = tables.make_tables(results)
        texts = [table.to_markdown() for table in shown]
        pictures = figures.draw(workdir, results, title=title)
    for table in shown:
        console.print(table.to_rich())
    parts = [f"# Leakage of a sequential federation: {title}", *texts]
    parts += [f"![{name}](figures/{name}.png)" for name in pictures]
    workdir.write_text("report.md", "\n\n".join(parts) + "\n")


def _adversaries(
    workdir: store.Workdir, found: dict[str, pl.DataFrame], results: pl.DataFrame, *, title: str
) -> tuple[list[str], list[tables.Table], list[str]]:
    """Markdown, terminal tables and names of saved figures of one point with reference federations."""
    first = results.filter(pl.col("attack") == results["attack"][0])
    compared = adversaries.make_tables(found)
    made = [*compared, *tables.make_tables(first)]
    pictures = adversaries.draw(workdir, found, results, title=title)
    pictures += figures.draw(workdir, results, title=title, traced=[str(results["attack"][0])])
    return [table.to_markdown() for table in made], compared, pictures


def _sweep(
    workdir: store.Workdir, results: pl.DataFrame, *, title: str, swept: Sequence[str]
) -> tuple[list[str], list[tables.Table], list[str]]:
    """Markdown, terminal tables and names of saved figures of several points."""
    points = tables.make_points(results, swept=swept, title=title)
    texts, shown = [table.to_markdown() for table in points], [_shorten(table) for table in points]
    if ranking.applies(results, swept):
        ranked = ranking.rank(results, swept=swept, title=title)
        return [ranked.to_markdown(), *texts], [_shorten(ranked)], []
    results = results.filter(pl.col("accuracy").is_not_null().all().over("run_id"))  # what exploded has no numbers
    if not paper.applies(results):
        return texts, shown, []
    more, compared = paper.sections(results, title=title)
    drawn = paper.draw(results, title=title)
    for name, figure in drawn.items():
        figures.save(workdir, name, figure)
    return [*texts, *more], [*shown, *compared], list(drawn)


def _shorten(table: tables.Table) -> tables.Table:
    """A table that a terminal can hold."""
    if len(table.rows) <= TERMINAL_ROWS:
        return table
    caption = f"The first {TERMINAL_ROWS} of {len(table.rows)} points; report.md has all. {table.caption}"
    return dataclasses.replace(table, rows=table.rows[:TERMINAL_ROWS], caption=caption)
