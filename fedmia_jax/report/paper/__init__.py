"""A sweep over the paper's grid beside what the paper reports: its tables I and II, its claims, its figures 1 to 3.

Source: Pustozerova and Mayer, "Information Leaks in Federated Learning", 2020, section IV; `tables.csv` holds every
number of its two tables.
"""

import polars as pl
from matplotlib.figure import Figure

from fedmia_jax.report import snapshots
from fedmia_jax.report import tables as report_tables
from fedmia_jax.report.paper import claims, figures, tables
from fedmia_jax.report.paper.comparison import NODES, applies, compare, published, select, summary

__all__ = ["applies", "check_claims", "compare", "draw", "published", "sections", "select", "summary"]

OF_THE_SET = ("purchases", "transactions")  # readers of the data set that the paper drew its 10,000 records from


def sections(results: pl.DataFrame, *, title: str) -> tuple[list[str], list[report_tables.Table]]:
    """Returns what the comparison says in words and numbers.

    Args:
      results: the results table of a sweep to which this `applies`.
      title: what the records were.

    Returns:
      Markdown for `report.md`, and the tables for the terminal.
    """
    heading, checked = _heading(results, title), check_claims(results)
    compared = tables.make_tables(results, heading=heading)
    texts = [f"## Beside the paper: {heading}"]
    texts += [table.to_markdown().replace("## ", "### ", 1) for table in compared]
    texts.append(f"### The paper's claims: {heading}\n\n{claims.to_markdown(checked)}")
    return texts, [*compared, claims.to_table(checked, f"The paper's claims: {heading}")]


def check_claims(results: pl.DataFrame) -> list[claims.Claim]:
    """Returns the paper's claims, each with what the results say to it."""
    return claims.check(select(results), published())


def draw(results: pl.DataFrame, *, title: str) -> dict[str, Figure]:
    """Returns the paper's figures 1 to 3 for the nodes that were run, and ours against the paper's numbers, by name."""
    heading = _heading(results, title)
    rows = select(results)
    drawn = {}
    for number, nodes in enumerate(NODES, start=1):
        of_nodes = rows.filter(pl.col("nodes") == nodes)
        if "federated" in of_nodes["phase"]:
            pace = snapshots.pace(of_nodes)
            name = f"As Fig. {number} of the paper: membership inference on N1, {pace}, {nodes} nodes"
            drawn[f"paper_figure_{number}"] = figures.traces(of_nodes, title=f"{name}\n{heading}")
    drawn["paper_scatter"] = figures.scatter(compare(results), title=f"Ours against the paper's\n{heading}")
    return drawn


def _heading(results: pl.DataFrame, title: str) -> str:
    """What the comparison is of; no heading may hide that the records are others."""
    same = set(results["data.name"]) <= set(OF_THE_SET)
    whose = "other records of the paper's data set" if same else "other records than the paper's"
    return f"the paper's experiment on {whose}: {title}"
