"""Makes the tables of a comparison with the paper: the distance, and tables I and II with our lines below its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from fedmia_jax.report import tables
from fedmia_jax.report.paper import comparison

CYCLES = 5  # of the paper's federations
HEADINGS = {
    "train_accuracy": "train",
    "test_accuracy": "test",
    "attack_accuracy": "attack\naccuracy",
    "attack_precision": "attack\nprecision",
    "attack_recall": "attack\nrecall",
    "attack_f1": "attack\nF1",
}


def make_tables(results: pl.DataFrame, *, heading: str) -> list[tables.Table]:
    """Returns the summary, table I and table II, as far as they were run.

    Args:
      results: the results table of a sweep over the paper's grid.
      heading: what the comparison is of.
    """
    compared = comparison.compare(results)
    return [
        _summary(compared, heading, _note(results)),
        *_table_1(compared, heading),
        *_table_2(compared, heading),
    ]


def _note(results: pl.DataFrame) -> str:
    """How to read the numbers, whether the attacks converged, and where the federations differ in length."""
    held_out = comparison.select(results)["attack_held_out_accuracy"].to_numpy()
    text = (
        "Difference: ours - paper, means over the cells. Attack accuracies on held-out shadows: "
        f"{held_out.min():.3f} to {held_out.max():.3f}."
    )
    cycles = max(results["cycle"].drop_nulls().to_list(), default=CYCLES)
    return text if cycles == CYCLES else f"{text} Federations of {cycles} cycles, where the paper's had {CYCLES}."


def _summary(compared: pl.DataFrame, heading: str, caption: str) -> tables.Table:
    """How far off, one line for each kind of number."""
    lines = []
    for row in comparison.summary(compared).iter_rows(named=True):
        kind = HEADINGS[row["metric"]].replace("\n", " ")
        differences = (f"{row['mean_absolute_difference']:.3f}", tables.signed(row["mean_difference"]))
        lines.append([f"Table {row['table']}", kind, *differences, str(row["num_cells"])])
    header = ["of", "number", "mean absolute\ndifference", "mean\ndifference", "numbers\ncompared"]
    return tables.Table(f"Distance from the paper: {heading}", header, lines, caption, left=2)


def _table_1(compared: pl.DataFrame, heading: str) -> list[tables.Table]:
    """The paper's table I, once for each number of epochs that has rows of its own."""
    rows, published = compared.filter(table="I"), comparison.published().filter(table="I")
    paper = {(classes, metric): value for _, classes, _, _, metric, value in published.iter_rows()}
    header = ["classes", "", *HEADINGS.values()]
    made = []
    for epochs in rows["local_epochs"].unique(maintain_order=True):
        of_epochs = rows.filter(pl.col("local_epochs").eq_missing(epochs))
        ours = {(row["classes"], row["metric"]): row for row in of_epochs.iter_rows(named=True)}
        lines: list[list[str]] = []
        for classes in of_epochs["classes"].unique(maintain_order=True):
            cells = [(classes, metric) for metric in HEADINGS]
            lines += _three_lines(classes, [paper[cell] for cell in cells], [ours.get(cell) for cell in cells])
        length = "" if epochs is None else f", {epochs} epochs"
        title = f"Table I, centralised training{length}: {heading}"
        made.append(tables.Table(title, header, lines, _caption(of_epochs), left=2))
    return made


def _table_2(compared: pl.DataFrame, heading: str) -> list[tables.Table]:
    """The paper's table II, a block for 100 and one for 200 epochs, as far as they were run."""
    metrics, every_nodes = ("test_accuracy", "attack_accuracy"), comparison.NODES
    paper = {tuple(row[1:5]): row[5] for row in comparison.published().filter(table="II").iter_rows()}
    header = ["classes", "", *(f"{metric.split('_')[0]}\n{nodes} nodes" for metric in metrics for nodes in every_nodes)]
    made = []
    for epochs in comparison.EPOCHS:
        of_epochs = compared.filter(table="II", local_epochs=epochs)
        ours = {tuple(row[name] for name in (*comparison.CELL, "metric")): row for row in of_epochs.rows(named=True)}
        lines: list[list[str]] = []
        for classes in of_epochs["classes"].unique(maintain_order=True).sort():
            cells = [(classes, nodes, epochs, metric) for metric in metrics for nodes in every_nodes]
            lines += _three_lines(classes, [paper[cell] for cell in cells], [ours.get(cell) for cell in cells])
        if lines:
            title = f"Table II, last model of the federation, all nodes attacked, {epochs} epochs a visit: {heading}"
            made.append(tables.Table(title, header, lines, _caption(of_epochs), left=2))
    return made


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


def _caption(rows: pl.DataFrame) -> str:
    """What the numbers are means of, and how far they are off altogether."""
    counts = rows["num_replicates"].to_list()
    fewest, most = min(counts), max(counts)
    replicates = f"{most} replicates" if fewest == most else f"{fewest} to {most} replicates"
    distance = rows["difference"].abs().to_numpy().mean()
    means = "One replicate" if most == 1 else f"Means of {replicates}, ± 95% t"
    return f"{means}. Mean absolute difference of the {rows.height} numbers: {distance:.3f}."
