"""What a person reads of a finished run: terminal tables, `report.md` and the figures."""

import dataclasses
from collections.abc import Mapping, Sequence

import polars as pl
import rich.console

from fedmia_jax.audit import rows as audit_rows
from fedmia_jax.engine import guarantees as engine_guarantees
from fedmia_jax.report import adversaries, figures, guarantees, mitigations, paper, ranking, snapshots, tables
from fedmia_jax.storage import workdir as workdirs

TERMINAL_ROWS = 60  # points of a sweep that the terminal shows; report.md has all
MOST_POINTS = 60  # of a sweep that have tables of attacks and views of their own


@dataclasses.dataclass(frozen=True)
class _Page:
    """What a report consists of: sections of `report.md`, tables for the terminal, names of saved figures."""

    sections: Sequence[str]
    shown: Sequence[tables.Table]
    pictures: Sequence[str]


def write(
    workdir: workdirs.Workdir,
    results: pl.DataFrame,
    *,
    title: str,
    console: rich.console.Console,
    swept: Sequence[str] = (),
    strongest: str | None = None,
) -> None:
    """Prints the tables and writes `report.md` and `figures/*.png`.

    Args:
      workdir: where the files go.
      results: the results table.
      title: what the run was on; it stands in every heading, so that no figure can lose it.
      console: the terminal.
      swept: dotted names of the fields that a sweep varied, columns of `results`; with several points there is one
        row for each, and the paper's tables beside it where the points are the paper's.
      strongest: the attack by which defences are compared, named before anything was run.
    """
    findings = adversaries.read(workdir)
    results = results.filter(pl.col("view") == audit_rows.SNAPSHOT)  # the other views have a page of their own
    if swept and results.select("run_id", *swept).n_unique() > 1:
        page = _of_points(workdir, findings, results, title=title, swept=swept, strongest=strongest)
    elif findings:
        page = _of_adversaries(workdir, findings, results, title=title)
    else:
        page = _of_point(workdir, results, title=title)
    if (stated := workdir.read_table(engine_guarantees.NAME)) is not None:
        promised = guarantees.make_table(stated, swept=swept)
        sections, shown = [*page.sections, promised.to_markdown()], [*page.shown, _shorten(promised)]
        page = dataclasses.replace(page, sections=sections, shown=shown)
    for table in page.shown:
        console.print(table.to_rich())
    kind = "sequential federation" if snapshots.sequential(results) else "federation"
    sections = [f"# Leakage of a {kind}: {title}", *page.sections]
    sections += [f"![{name}](figures/{name}.png)" for name in page.pictures]
    workdir.write_text("report.md", "\n\n".join(sections) + "\n")


def _of_point(workdir: workdirs.Workdir, results: pl.DataFrame, *, title: str) -> _Page:
    """One point without reference federations."""
    made = tables.make_tables(results)
    return _Page([table.to_markdown() for table in made], made, figures.draw(workdir, results, title=title))


def _of_adversaries(
    workdir: workdirs.Workdir, findings: Mapping[str, pl.DataFrame], results: pl.DataFrame, *, title: str
) -> _Page:
    """One point with reference federations; the first attack stands for all that read single snapshots."""
    first = str(results["attack"][0])
    compared = adversaries.make_tables(findings)
    made = [*compared, *tables.make_tables(results.filter(pl.col("attack") == first))]
    pictures = adversaries.draw(workdir, findings, results, title=title)
    pictures += figures.draw(workdir, results, title=title, traced=[first])
    return _Page([table.to_markdown() for table in made], compared, pictures)


def _of_points(
    workdir: workdirs.Workdir,
    findings: Mapping[str, pl.DataFrame] | None,
    results: pl.DataFrame,
    *,
    title: str,
    swept: Sequence[str],
    strongest: str | None,
) -> _Page:
    """Several points; attacks that compare with references have no centralised baseline, and pages of their own."""
    based = results.filter(pl.col("phase") == "centralised")["attack"].unique().to_list()
    page = _of_sweep(workdir, results.filter(pl.col("attack").is_in(based)), title=title, swept=swept)
    by_point = _of_each(findings, swept=swept) if findings else []
    if findings and strongest and mitigations.applies(findings, results, swept, strongest):
        bought, shown, drawn = mitigations.make(
            workdir, findings, results, title=title, swept=swept, strongest=strongest
        )
        page = _Page([*bought, *page.sections], shown, [*drawn, *page.pictures])
    return dataclasses.replace(page, sections=[*page.sections, *by_point])


def _of_each(findings: Mapping[str, pl.DataFrame], *, swept: Sequence[str]) -> list[str]:
    """What adversaries find at each point, unless there are very many."""
    count = findings["intervals"]["run_id"].n_unique()
    if count > MOST_POINTS:
        return [f"What adversaries find at each of the {count:,} points stands in `intervals.parquet`."]
    return [table.to_markdown() for table in adversaries.by_point(findings, swept=swept)]


def _of_sweep(workdir: workdirs.Workdir, results: pl.DataFrame, *, title: str, swept: Sequence[str]) -> _Page:
    """Several points: their table, and the protocols ranked, or the paper beside them, where the points allow it."""
    points = tables.make_points(results, swept=swept, title=title)
    sections, shown = [table.to_markdown() for table in points], [_shorten(table) for table in points]
    if ranking.applies(results, swept):
        ranked = ranking.rank(results, swept=swept, title=title)
        return _Page([ranked.to_markdown(), *sections], [_shorten(ranked)], [])
    results = results.filter(pl.col("accuracy").is_not_null().all().over("run_id"))  # what exploded has no numbers
    if not paper.applies(results):
        return _Page(sections, shown, [])
    beside, compared = paper.sections(results, title=title)
    drawn = paper.draw(results, title=title)
    for name, figure in drawn.items():
        figures.save(workdir, name, figure)
    return _Page([*sections, *beside], [*shown, *compared], list(drawn))


def _shorten(table: tables.Table) -> tables.Table:
    """A table that a terminal can hold."""
    if len(table.rows) <= TERMINAL_ROWS:
        return table
    caption = f"The first {TERMINAL_ROWS} of {len(table.rows)} points; report.md has all. {table.caption}"
    return dataclasses.replace(table, rows=table.rows[:TERMINAL_ROWS], caption=caption)
