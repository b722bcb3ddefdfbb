"""A sweep over the paper's grid beside what the paper reports: its tables I and II, its claims, its figures 1 to 3.

Source: Pustozerova and Mayer, "Information Leaks in Federated Learning", 2020, section IV; `paper_tables.csv` holds
every number of its two tables.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from fedmia_jax import certainty
from fedmia_jax.report import paper_claims, paper_facts, paper_figures, tables

CELL = paper_claims.CELL
SWEPT = {"data.num_classes": "classes", "federation.nodes": "nodes", "federation.local_epochs": "local_epochs"}
CLASSES, NODES, EPOCHS, CYCLES = (10, 20, 50, 100), (3, 10, 15), (100, 200), 5
MEASURED = {  # the paper's word: (column of the results, heading)
    "train_accuracy": ("target_train_accuracy", "train"),
    "test_accuracy": ("target_test_accuracy", "test"),
    "attack_accuracy": ("accuracy", "attack\naccuracy"),
    "attack_precision": ("precision", "attack\nprecision"),
    "attack_recall": ("recall", "attack\nrecall"),
    "attack_f1": ("f1", "attack\nF1"),
}
OF_THE_SET = ("purchases", "transactions")  # readers of the data set that the paper drew its 10,000 records from


def published() -> pl.DataFrame:
    """Returns the paper's numbers: table, classes, nodes, local_epochs (null in table I), metric, paper."""
    numbers = pl.read_csv(pathlib.Path(__file__).with_name("paper_tables.csv"))
    return numbers.with_columns(pl.col(CELL).cast(pl.Int64)).rename({"value": "paper"})


def select(results: pl.DataFrame) -> pl.DataFrame:
    """Returns the rows of the paper's attack on single snapshots, the swept columns in the paper's words."""
    return results.filter(pl.col("attack") == "network", pl.col("view") == "snapshot").rename(SWEPT)


def applies(results: pl.DataFrame) -> bool:
    """Whether the results are a sweep over cells of the paper's grid: more than one, one point in each."""
    part = select(results)
    return part.select(CELL).n_unique() > 1 and inside(part) and not several(part, [])


def inside(part: pl.DataFrame) -> bool:
    """Whether every selected row is of a cell of the paper's grid."""
    grid = (("classes", CLASSES), ("nodes", NODES), ("local_epochs", EPOCHS))
    return all(part[name].is_in(values).all() for name, values in grid)


def several(part: pl.DataFrame, protocol: Sequence[str]) -> bool:
    """Whether points of one protocol share a cell."""
    return part.select("run_id", *CELL).n_unique() > part.select(*protocol, *CELL).n_unique()


def compare(results: pl.DataFrame) -> pl.DataFrame:
    """Puts every number of the paper's tables that the results can answer beside ours.

    Table I is the centralised target, all its records attacked; it does not depend on the nodes, so it is averaged
    over them within a replicate. Table II is the model after the last visit of the last cycle, the records of all
    nodes attacked.

    Args:
      results: the results table of a sweep.

    Returns:
      A row for each number: table, classes, nodes (null in table I), local_epochs, metric, paper, mean (over
      replicates), half_width (of its 95% t-interval, null for one replicate), difference (mean - paper),
      num_replicates. Table I has a set of rows for each local_epochs where these differ, else a single one,
      local_epochs null if it stands for several.
    """
    part = select(results)
    names = {column: metric for metric, (column, _) in MEASURED.items()}
    measured = [
        frame.rename(names).unpivot(list(MEASURED), index=["table", *CELL, "replicate"], variable_name="metric")
        for frame in (_centralised(part), _final(part))
    ]
    key = ["table", *CELL, "metric"]
    ours = pl.concat(measured).group_by(key, maintain_order=True).agg("value")
    values = [np.array(item) for item in ours["value"]]
    ours = ours.drop("value").with_columns(
        mean=pl.Series([item.mean() for item in values], dtype=pl.Float64),
        half_width=pl.Series([certainty.t_width(item) for item in values], dtype=pl.Float64).fill_nan(None),
        num_replicates=pl.Series([len(item) for item in values], dtype=pl.Int64),
    )
    paper = published().with_row_index("place")
    first = ours.filter(table="I").join(paper.drop("nodes", "local_epochs"), on=["table", "classes", "metric"])
    second = ours.filter(table="II").join(paper, on=key)
    return (
        pl.concat([first, second.select(first.columns)])
        .sort("table", pl.col("local_epochs").fill_null(0), "place")
        .with_columns(difference=pl.col("mean") - pl.col("paper"))
        .select(*key, "paper", "mean", "half_width", "difference", "num_replicates")
    )


def _centralised(part: pl.DataFrame) -> pl.DataFrame:
    """One row for each class number and replicate, and for each number of epochs where these differ."""
    columns = [column for column, _ in MEASURED.values()]
    central = (
        paper_facts.of_central(part)
        .group_by("classes", "local_epochs", "replicate", maintain_order=True)
        .agg(pl.col(columns).mean())
    )
    spread = central.group_by("classes", "replicate").agg(pl.col(columns).max() - pl.col(columns).min())
    if (spread.select(pl.max_horizontal(columns).max()).item() or 0.0) < 1e-9:
        several = pl.col("local_epochs").n_unique() > 1
        epochs = pl.when(several).then(None).otherwise(pl.col("local_epochs").first()).over("classes")
        central = central.with_columns(epochs.alias("local_epochs")).unique(["classes", "replicate"])
    return central.sort(CELL[0], CELL[2], "replicate").select(
        *(pl.lit("I").alias("table"), "classes", pl.lit(None, pl.Int64).alias("nodes")),
        *("local_epochs", "replicate", *columns),
    )


def _final(part: pl.DataFrame) -> pl.DataFrame:
    """One row for each cell and replicate: the last snapshot of the last cycle."""
    columns = [column for column, _ in MEASURED.values()]
    final = paper_facts.of_last(part)
    return final.select(pl.lit("II").alias("table"), *CELL, "replicate", *columns)


def summary(comparison: pl.DataFrame) -> pl.DataFrame:
    """Returns table, metric, mean_absolute_difference, mean_difference, num_cells of what `compare` returns."""
    return comparison.group_by("table", "metric", maintain_order=True).agg(
        mean_absolute_difference=pl.col("difference").abs().mean(),
        mean_difference=pl.col("difference").mean(),
        num_cells=pl.len().cast(pl.Int64),
    )


def sections(results: pl.DataFrame, *, title: str) -> tuple[list[str], list[tables.Table]]:
    """Returns what the comparison says in words and numbers.

    Args:
      results: the results table of a sweep to which this `applies`.
      title: what the records were.

    Returns:
      Markdown for `report.md`, and the tables for the terminal.
    """
    comparison, found = compare(results), claims(results)
    heading = _heading(results, title)
    compared = [
        _summary_table(comparison, heading, _note(results)),
        *_table_1(comparison, heading),
        *_table_2(comparison, heading),
    ]
    texts = [f"## Beside the paper: {heading}"]
    texts += [table.to_markdown().replace("## ", "### ", 1) for table in compared]
    texts.append(f"### The paper's claims: {heading}\n\n{paper_claims.to_markdown(found)}")
    return texts, [*compared, paper_claims.to_table(found, f"The paper's claims: {heading}")]


def claims(results: pl.DataFrame) -> list[paper_claims.Claim]:
    """Returns the paper's claims, each with what the results say to it."""
    return paper_claims.check(select(results), published())


def draw(results: pl.DataFrame, *, title: str) -> dict[str, Figure]:
    """Returns the paper's figures 1 to 3 for the nodes that were run, and ours against the paper's numbers, by name."""
    heading = _heading(results, title)
    part = select(results)
    drawn = {}
    for number, nodes in enumerate(NODES, start=1):
        at = part.filter(pl.col("nodes") == nodes)
        if "federated" in at["phase"]:
            name = f"As Fig. {number} of the paper: membership inference on N1, hand-off by hand-off, {nodes} nodes"
            drawn[f"paper_figure_{number}"] = paper_figures.traces(at, title=f"{name}\n{heading}")
    drawn["paper_scatter"] = paper_figures.scatter(compare(results), title=f"Ours against the paper's\n{heading}")
    return drawn


def _heading(results: pl.DataFrame, title: str) -> str:
    """What the comparison is of; no heading may hide that the records are others."""
    same = set(results["data.name"]) <= set(OF_THE_SET)
    whose = "other records of the paper's data set" if same else "other records than the paper's"
    return f"the paper's experiment on {whose}: {title}"


def _note(results: pl.DataFrame) -> str:
    """How to read the numbers, whether the attacks converged, and where the federations differ in length."""
    held_out = select(results)["attack_held_out_accuracy"].to_numpy()
    text = (
        "Difference: ours - paper, means over the cells. Attack accuracies on held-out shadows: "
        f"{held_out.min():.3f} to {held_out.max():.3f}."
    )
    cycles = max(results["cycle"].drop_nulls().to_list(), default=CYCLES)
    return text if cycles == CYCLES else f"{text} Federations of {cycles} cycles, where the paper's had {CYCLES}."


def _summary_table(comparison: pl.DataFrame, heading: str, caption: str) -> tables.Table:
    """How far off, one line for each kind of number."""
    rows = []
    for row in summary(comparison).iter_rows(named=True):
        kind = MEASURED[row["metric"]][1].replace("\n", " ")
        differences = (f"{row['mean_absolute_difference']:.3f}", tables.signed(row["mean_difference"]))
        rows.append([f"Table {row['table']}", kind, *differences, str(row["num_cells"])])
    header = ["of", "number", "mean absolute\ndifference", "mean\ndifference", "numbers\ncompared"]
    return tables.Table(f"Distance from the paper: {heading}", header, rows, caption, left=2)


def _table_1(comparison: pl.DataFrame, heading: str) -> list[tables.Table]:
    """The paper's table I, once for each number of epochs that has rows of its own."""
    part, metrics = comparison.filter(table="I"), list(MEASURED)
    paper = {(classes, metric): value for _, classes, _, _, metric, value in published().filter(table="I").iter_rows()}
    header = ["classes", "", *(MEASURED[metric][1] for metric in metrics)]
    found = []
    for epochs in part["local_epochs"].unique(maintain_order=True):
        at = part.filter(pl.col("local_epochs").eq_missing(epochs))
        ours = {(row["classes"], row["metric"]): row for row in at.iter_rows(named=True)}
        rows: list[list[str]] = []
        for classes in at["classes"].unique(maintain_order=True):
            keys = [(classes, metric) for metric in metrics]
            rows += _three_lines(classes, [paper[key] for key in keys], [ours.get(key) for key in keys])
        length = "" if epochs is None else f", {epochs} epochs"
        title = f"Table I, centralised training{length}: {heading}"
        found.append(tables.Table(title, header, rows, _caption(at), left=2))
    return found


def _table_2(comparison: pl.DataFrame, heading: str) -> list[tables.Table]:
    """The paper's table II, a block for 100 and one for 200 epochs, as far as they were run."""
    metrics = ("test_accuracy", "attack_accuracy")
    paper = {tuple(row[1:5]): row[5] for row in published().filter(table="II").iter_rows()}
    header = ["classes", "", *(f"{metric.split('_')[0]}\n{nodes} nodes" for metric in metrics for nodes in NODES)]
    found = []
    for epochs in EPOCHS:
        at = comparison.filter(table="II", local_epochs=epochs)
        ours = {(row["classes"], row["nodes"], epochs, row["metric"]): row for row in at.iter_rows(named=True)}
        rows: list[list[str]] = []
        for classes in at["classes"].unique(maintain_order=True).sort():
            keys = [(classes, nodes, epochs, metric) for metric in metrics for nodes in NODES]
            rows += _three_lines(classes, [paper[key] for key in keys], [ours.get(key) for key in keys])
        if rows:
            title = f"Table II, last model of the federation, all nodes attacked, {epochs} epochs a visit: {heading}"
            found.append(tables.Table(title, header, rows, _caption(at), left=2))
    return found


def _three_lines(classes: int, paper: Sequence[float], ours: Sequence[Mapping[str, Any] | None]) -> list[list[str]]:
    """The paper's line, ours under it, and the difference; a dash where a cell was not run."""
    means, differences = [], []
    for row in ours:
        width = "" if row is None or row["half_width"] is None else f" ±{row['half_width']:.3f}"
        means.append("-" if row is None else f"{row['mean']:.3f}{width}")
        differences.append("-" if row is None else tables.signed(row["difference"]))
    return [
        [str(classes), "paper", *(f"{value:.3f}" for value in paper)],
        ["", "ours", *means],
        ["", "difference", *differences],
    ]


def _caption(part: pl.DataFrame) -> str:
    """What the numbers are means of, and how far they are off altogether."""
    counts = part["num_replicates"].to_list()
    fewest, most = min(counts), max(counts)
    number = f"{most} replicates" if fewest == most else f"{fewest} to {most} replicates"
    off = part["difference"].abs().to_numpy().mean()
    sure = "One replicate" if most == 1 else f"Means of {number}, ± 95% t"
    return f"{sure}. Mean absolute difference of the {part.height} numbers: {off:.3f}."
