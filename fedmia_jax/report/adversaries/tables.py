"""Makes tables of what adversaries learn: attacks x views, differences, coalitions by size, and who held a record."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from fedmia_jax.audit import correction, intervals, views
from fedmia_jax.report import tables
from fedmia_jax.report.adversaries import gains

NUMBERS = gains.NUMBERS
HOW = (
    "95% intervals: records drawn anew, and replicates where they differ by more than their records; thresholds are "
    f"taken anew. A number without one rests on fewer than {intervals.LEAST_ALARMS} false alarms of different records"
)
PARTIES = {"node": "one node", "union": "the union of all nodes"}
COALITIONS = f"{views.EVERY}:"  # the views of all coalitions of one size


def make_tables(findings: Mapping[str, pl.DataFrame]) -> list[tables.Table]:
    """Returns attacks x views for one node and for the union, differences, coalitions by size, and naming.

    Args:
      findings: as `read` returns them.
    """
    pooled, coalitions = single_views(findings["intervals"]), by_size(findings["intervals"])
    made = []
    for attacked, whom in PARTIES.items():
        rows = pooled.filter(pl.col("attacked") == attacked)
        if not rows.is_empty():
            made += [_across(rows, column, whom) for column in NUMBERS if rows[column].count()]
    of_node = pooled.filter(pl.col("attacked") == "node")
    made += [_worst_node(of_node, column) for column in NUMBERS if of_node[f"{column}_worst_node"].count()][-1:]
    made += gains.make_gains(findings["comparisons"])
    made.append(_epsilon(of_node))
    if not coalitions.is_empty():
        made.append(_coalitions(coalitions))
    if not findings["attribution"].is_empty():
        made.append(_naming(findings["attribution"]))
    return made


def single_views(pooled: pl.DataFrame) -> pl.DataFrame:
    """Returns the rows of intervals of all views but those of all coalitions of one size."""
    return pooled.filter(~pl.col("view").str.starts_with(COALITIONS))


def by_size(pooled: pl.DataFrame) -> pl.DataFrame:
    """Returns the rows of intervals of all coalitions of one size, with that size; those that have numbers."""
    rows = pooled.filter(pl.col("view").str.starts_with(COALITIONS), pl.col("auc").is_not_null())
    return rows.with_columns(size=pl.col("view").str.strip_prefix(COALITIONS).cast(pl.Int64))


def by_point(findings: Mapping[str, pl.DataFrame], *, swept: Sequence[str]) -> list[tables.Table]:
    """Returns attacks x views for one node at every point of a sweep, AUC and where the sample resolves it TPR at 0.1%.

    Args:
      findings: as `read` returns them.
      swept: dotted names of the columns that tell the points apart.
    """
    pooled, made = single_views(findings["intervals"]).filter(pl.col("attacked") == "node"), []
    for values, rows in pooled.group_by(*swept, maintain_order=True):
        point = ", ".join(f"{name}={tables.value(value)}" for name, value in zip(swept, values, strict=True))
        for column in ("auc", "tpr_at_fpr_0.001"):
            if rows[column].count():
                table = _across(rows, column, PARTIES["node"])
                made.append(dataclasses.replace(table, title=f"{table.title}; {point}"))
    return made


def _across(rows: pl.DataFrame, column: str, whom: str) -> tables.Table:
    """One number for every attack and view."""
    cells = {(row["attack"], row["view"]): _with_ends(row, column) for row in rows.iter_rows(named=True)}
    header, lines = _attacks_by_views(rows, cells)
    first, members = rows.row(0, named=True), int(rows["members"].to_numpy().max())
    caption = (
        f"{first['replicates']} replicates pooled, {members:,} distinct members and {first['non_members']:,} "
        f"non-members. {HOW}. Empty: the view does not show what the attack reads. An attack on one snapshot reads the "
        "one soonest after the node trained."
    )
    return tables.Table(f"{NUMBERS[column]} on {whom}, attacks x views", header, lines, caption)


def _worst_node(rows: pl.DataFrame, column: str) -> tables.Table:
    """One number on the node that each attack finds best, for every attack and view."""
    cells = {
        (row["attack"], row["view"]): "-"
        if row[f"{column}_worst_node"] is None
        else f"{_cell(row[f'{column}_worst_node'])} {row['worst_node']}"
        for row in rows.iter_rows(named=True)
    }
    header, lines = _attacks_by_views(rows, cells)
    caption = (
        "Each replicate is left out in turn: the node is chosen on the others, and what the one left out adds to its "
        "number is taken. The node that is named has the highest AUC on all of them."
    )
    return tables.Table(f"{NUMBERS[column]} on the worst node, attacks x views", header, lines, caption)


def _with_ends(row: Mapping[str, Any], column: str) -> str:
    """A number of a row of intervals, with its interval."""
    end = "_replicates" if column == "auc" else ""
    return _cell(row[column], row[f"{column}_low{end}"], row[f"{column}_high{end}"])


def _attacks_by_views(rows: pl.DataFrame, cells: Mapping[tuple[str, str], str]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of a table, attacks down and views across in their order in the rows; empty without a cell."""
    attacks, views = (rows[name].unique(maintain_order=True).to_list() for name in ("attack", "view"))
    return ["attack", *views], [[attack, *(cells.get((attack, view), "") for view in views)] for attack in attacks]


def _cell(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A number and its interval, with no more digits than that tells; a dash where the sample cannot resolve it."""
    if value is None:
        return "-"
    if low is None or high is None:
        return _short(value, 2)
    digits = tables.digits(low, high)
    first, second, third = (_short(number, digits) for number in (value, low, high))
    return f"{first} ({second}-{third})"


def _short(number: float, digits: int) -> str:
    """A share without the zero in front."""
    return f"{number:.{digits}f}".removeprefix("0")


def _epsilon(rows: pl.DataFrame) -> tables.Table:
    """Lower bounds on epsilon; a dash where the scores of an attack are not numbers."""
    cells = {
        (row["attack"], row["view"]): "-" if row["epsilon"] is None else f"{row['epsilon']:.2f}"
        for row in rows.iter_rows(named=True)
    }
    header, lines = _attacks_by_views(rows, cells)
    caption = _epsilon_caption(rows.filter(pl.col("epsilon").is_not_null()))
    return tables.Table("Lower bound on epsilon, one node, attacks x views", header, lines, caption)


def _epsilon_caption(rows: pl.DataFrame) -> str:
    """What the bounds say, and at which level."""
    if rows.is_empty():
        return "None could be taken."
    first = rows.row(0, named=True)
    delta, adjacency = first["epsilon_delta"], first["epsilon_adjacency"]
    alone = rows.filter(pl.col("epsilon_level") == correction.LEVEL).select("attack", "view").rows()
    where = " and ".join(f"{attack} under {view}" for attack, view in alone)
    chosen = f"That of {where}, chosen beforehand, holds at 95%; all others hold" if alone else "All of them hold"
    how = "The threshold is chosen on one half of the records, which count as independent trials."
    how = "Each record tossed a coin of its own." if "add" in adjacency else how
    return (
        f"Training of these models is not (epsilon, {delta:g})-differentially private for any smaller epsilon; "
        f"adjacent sets {adjacency} record. {chosen} together at 95%, corrected for the number of attacks and views. "
        f"{how} The number of records bounds it."
    )


def _coalitions(rows: pl.DataFrame) -> tables.Table:
    """Mean and worst coalition of each size."""
    columns = [column for column in NUMBERS if rows[column].count()]
    header = ["attack", "insiders", "coalitions"]
    header += [f"{NUMBERS[column]},\n{which}" for which in ("mean", "worst") for column in columns]
    lines = []
    for row in rows.iter_rows(named=True):
        cells = [str(row["attack"]), str(row["size"]), f"{row['parties']:,}"]
        cells += [_with_ends(row, column) for column in columns]
        cells += [_cell(row[f"{column}_worst_party"]) for column in columns]
        lines.append([*cells, re.sub("^(coalition|insider):", "", row["worst_party"] or "-")])
    caption = (
        "Every coalition of so many insiders attacks every node outside it, where it sees what the attack reads (a "
        f"step needs both ends of a visit). Means over coalitions and nodes. {HOW}. The worst coalition is chosen on "
        "other replicates than it is reported on: each is left out in turn, and what it adds to the number of the "
        "coalition that is highest on the others is taken. The one that is named has the highest AUC on all of them."
    )
    return tables.Table("Coalitions of insiders", [*header, "worst"], lines, caption)


def _naming(attribution: pl.DataFrame) -> tables.Table:
    """How often the node is named that held a record."""
    lines = []
    for (way, view), rows in attribution.group_by("way", "view", maintain_order=True):
        right, total = int(rows.filter(pl.col("true") == pl.col("named"))["count"].sum()), int(rows["count"].sum())
        parties, candidates = int(rows["parties"][0]), int(rows["candidates"][0])
        ends = () if views.needs_drawn_order(view) else intervals.clopper_pearson(right // parties, total // parties)
        named = _cell(right / total, *ends)
        lines.append([str(way), str(view), named, _short(1 / candidates, 3), f"{total // parties:,}"])
    caption = (
        "Insiders name one of the other nodes, for the records of those. 95% intervals: Clopper-Pearson, of the "
        "records that a party names a node for on average; none for who does not know the order, since there all "
        "records of a node and replicate stand or fall together."
    )
    header = ["named by", "view", "right", "by chance", "records"]
    return tables.Table("Which node held the record? (top-1)", header, lines, caption, left=2)
