"""Makes tables of what adversaries learn: attacks x views, coalitions by size, and who held a record."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from fedmia_jax.audit import correction, intervals
from fedmia_jax.report import tables

NUMBERS = {  # column: (what it is, how its interval is made)
    "auc": ("AUC", "percentile bootstrap over records and replicates"),
    "tpr_at_fpr_0.01": ("TPR at 1% FPR", "Clopper-Pearson, a record being one trial"),
    "tpr_at_fpr_0.001": ("TPR at 0.1% FPR", "Clopper-Pearson, a record being one trial"),
}
PARTIES = {"node": "one node", "union": "the union of all nodes"}
SUMMARIES = ("mean", "worst")  # of the coalitions of one size


def make_tables(findings: Mapping[str, pl.DataFrame]) -> list[tables.Table]:
    """Returns attacks x views for one node and for the union, coalitions by size, and naming.

    Args:
      findings: as `read` returns them.
    """
    pooled = findings["intervals"]
    made = []
    for attacked, whom in PARTIES.items():
        rows = pooled.filter(pl.col("attacked") == attacked)
        if not rows.is_empty():
            made += [_across(rows, column, whom) for column in NUMBERS if rows[column].count()]
    made.append(_epsilon(pooled.filter(pl.col("attacked") == "node")))
    if not findings["coalitions"].is_empty():
        made.append(_by_size(findings["coalitions"]))
    if not findings["attribution"].is_empty():
        made.append(_naming(findings["attribution"]))
    return made


def by_point(findings: Mapping[str, pl.DataFrame], *, swept: Sequence[str]) -> list[tables.Table]:
    """Returns attacks x views for one node at every point of a sweep, AUC and where the sample resolves it TPR at 0.1%.

    Args:
      findings: as `read` returns them.
      swept: dotted names of the columns that tell the points apart.
    """
    pooled, made = findings["intervals"].filter(pl.col("attacked") == "node"), []
    for values, rows in pooled.group_by(*swept, maintain_order=True):
        point = ", ".join(f"{name}={tables.value(value)}" for name, value in zip(swept, values, strict=True))
        for column in ("auc", "tpr_at_fpr_0.001"):
            if rows[column].count():
                table = _across(rows, column, PARTIES["node"])
                made.append(dataclasses.replace(table, title=f"{table.title}; {point}"))
    return made


def _across(rows: pl.DataFrame, column: str, whom: str) -> tables.Table:
    """One number for every attack and view."""
    what, how = NUMBERS[column]
    ends = ("low_replicates", "high_replicates") if column == "auc" else ("low", "high")
    cells = {
        (row["attack"], row["view"]): _cell(row[column], *(row[f"{column}_{end}"] for end in ends))
        for row in rows.iter_rows(named=True)
    }
    header, lines = _attacks_by_views(rows, cells)
    first, members = rows.row(0, named=True), int(rows["members"].to_numpy().max())
    caption = (
        f"{first['replicates']} replicates pooled, {members:,} distinct members and {first['non_members']:,} "
        f"non-members. 95% intervals: {how}. Empty: the view does not show what the attack reads. An attack on one "
        "snapshot reads the one soonest after the node trained."
    )
    return tables.Table(f"{what} on {whom}, attacks x views", header, lines, caption)


def _attacks_by_views(rows: pl.DataFrame, cells: Mapping[tuple[str, str], str]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of a table, attacks down and views across in their order in the rows; empty without a cell."""
    attacks, views = (rows[name].unique(maintain_order=True).to_list() for name in ("attack", "view"))
    return ["attack", *views], [[attack, *(cells.get((attack, view), "") for view in views)] for attack in attacks]


def _cell(value: float | None, low: float | None, high: float | None) -> str:
    """A number and its interval; a dash where the sample cannot resolve it."""
    if value is None:
        return "-"
    first, second, third = (f"{number:.3f}".removeprefix("0") for number in (value, low, high))
    return f"{first} ({second}-{third})"


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


def summarise_coalitions(coalitions: pl.DataFrame) -> pl.DataFrame:
    """Returns mean and worst coalition of every attack and size, with t-intervals over replicates.

    Args:
      coalitions: one row per attack, coalition, attacked node and replicate, see `audit.findings`; a coalition is
        scored by the mean over the nodes that it attacks.

    Returns:
      Columns attack, size, coalitions, which (`mean` or `worst`), party, and value and width of each number.
    """
    keys = ["attack", "size", "party", "replicate"]
    columns = [column for column in NUMBERS if coalitions[column].count()]
    scored = coalitions.group_by(keys, maintain_order=True).agg(pl.col(columns).mean())
    summaries = []
    for (attack, size), of_size in scored.group_by("attack", "size", maintain_order=True):
        means = of_size.group_by("party", maintain_order=True).agg(pl.col("auc").mean())
        worst = means.sort("auc", descending=True, maintain_order=True)["party"][0]
        for which, rows in zip(SUMMARIES, (of_size, of_size.filter(pl.col("party") == worst)), strict=True):
            summary = {"attack": attack, "size": size, "coalitions": len(means), "which": which, "party": worst}
            summaries.append(summary | _over_replicates(rows, columns))
    return pl.DataFrame(summaries)


def _over_replicates(rows: pl.DataFrame, columns: Sequence[str]) -> dict[str, float]:
    """Mean over replicates and half-width of its interval, for each column."""
    summary: dict[str, float] = {}
    for column in columns:
        values = rows.group_by("replicate", maintain_order=True).agg(pl.col(column).mean())[column].to_numpy()
        summary |= {column: float(values.mean()), f"{column}_width": intervals.t_width(values)}
    return summary


def _by_size(coalitions: pl.DataFrame) -> tables.Table:
    """Coalitions by size."""
    summary = summarise_coalitions(coalitions)
    columns = [column for column in NUMBERS if column in summary.columns]
    header = ["attack", "insiders", "coalitions"]
    header += [f"{NUMBERS[column][0]},\n{which}" for which in SUMMARIES for column in columns]
    lines = []
    for (attack, size), of_size in summary.group_by("attack", "size", maintain_order=True):
        cells = [str(attack), str(size), f"{of_size['coalitions'][0]:,}"]
        for which in SUMMARIES:
            row = of_size.filter(pl.col("which") == which).row(0, named=True)
            cells += [_with_width(row[column], row[f"{column}_width"]) for column in columns]
        lines.append([*cells, str(of_size["party"][0]).removeprefix("coalition:").removeprefix("insider:")])
    caption = (
        "Every coalition of so many insiders attacks every node outside it, where it sees what the attack reads (a "
        "step needs both ends of a visit). Means over those nodes, ± 95% t over replicates. The worst "
        "coalition is the one with the highest AUC, chosen on the same targets."
    )
    return tables.Table("Coalitions of insiders", [*header, "worst"], lines, caption)


def _with_width(value: float, width: float) -> str:
    """A mean and the half-width of its interval, if it has one."""
    return f"{value:.3f}" + ("" if np.isnan(width) else f" ±{width:.3f}")


def _naming(attribution: pl.DataFrame) -> tables.Table:
    """How often the node is named that held a record."""
    nodes = attribution["true"].n_unique()
    lines = []
    for (way, view), rows in attribution.group_by("way", "view", maintain_order=True):
        right, total = int(rows.filter(pl.col("true") == pl.col("named"))["count"].sum()), int(rows["count"].sum())
        lines.append([str(way), str(view), _cell(right / total, *intervals.clopper_pearson(right, total))])
    caption = f"Of {total:,} member records; by chance {1 / nodes:.3f}. 95% intervals: Clopper-Pearson."
    return tables.Table("Which node held the record? (top-1)", ["named by", "view", "right"], lines, caption, left=2)
