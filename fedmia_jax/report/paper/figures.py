"""Draws a sweep as the paper's figures 1 to 3, and its numbers against the paper's."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fedmia_jax.report import figures
from fedmia_jax.report.paper import facts

COLOURS = {10: "#0072b2", 20: "#009e73", 50: "#e69f00", 100: "#d55e00"}  # classes
MARKERS = {None: "s", 3: "o", 10: "^", 15: "D"}  # nodes; none: centralised
OTHERS = {"train_accuracy": "P", "attack_precision": "v", "attack_recall": "*", "attack_f1": "X"}


def traces(rows: pl.DataFrame, *, title: str) -> Figure:
    """Draws target and attack on N1 along the hand-offs, a panel for each class number (rows) and epochs (columns).

    Args:
      rows: what `comparison.select` returns, of one number of nodes.
      title: the heading.

    Returns:
      The figure.
    """
    federated = rows.filter(pl.col("phase") == "federated", pl.col("attacked") == "N1")
    classes, epochs = (federated[name].unique().sort().to_list() for name in ("classes", "local_epochs"))
    cells = [[_panel(rows, federated, number, length) for length in epochs] for number in classes]
    return figures.panels(cells, title=title)


def _panel(rows: pl.DataFrame, federated: pl.DataFrame, classes: int, epochs: int) -> figures.Panel | None:
    """One cell, or None where it was not run."""
    cell = (pl.col("classes") == classes, pl.col("local_epochs") == epochs)
    of_cell = federated.filter(cell)
    if of_cell.is_empty():
        return None
    central = facts.of_central(rows).filter(cell)["accuracy"]
    baseline = central.to_numpy().mean() if len(central) else float("nan")
    return figures.Panel(f"{classes} classes, {epochs} epochs a visit", of_cell, float(baseline))


def scatter(comparison: pl.DataFrame, *, title: str) -> Figure:
    """Draws every number of a comparison against the paper's, 95% intervals over replicates as bars.

    Args:
      comparison: what `comparison.compare` returns.
      title: the heading.

    Returns:
      The figure: test accuracies, attack accuracies, and what only table I has.
    """
    figure = Figure(figsize=(13.5, 5.6), layout="constrained")
    places = figure.subplots(1, 3)
    names = ("test accuracy", "attack accuracy", "centralised: train accuracy, attack precision, recall, F1")
    groups = [["test_accuracy"], ["attack_accuracy"], list(OTHERS)]
    for axes, name, metrics in zip(places, names, groups, strict=True):
        _against(axes, comparison.filter(pl.col("metric").is_in(metrics)))
        axes.set_title(name, fontsize=10)
        axes.set(xlabel="paper", ylabel="ours")
    figure.legend(handles=_legend(), loc="outside lower center", ncols=7, frameon=False, fontsize=9)
    figures.set_heading(figure, title)
    return figure


def _against(axes: Axes, rows: pl.DataFrame) -> None:
    """Points, bars and the line of equality, on square axes."""
    for row in rows.iter_rows(named=True):
        colour = COLOURS[row["classes"]]
        marker = OTHERS.get(row["metric"], MARKERS[row["nodes"]])
        face = "white" if row["local_epochs"] == 100 else colour
        axes.errorbar(
            row["paper"], row["mean"], yerr=row["half_width"], fmt=marker, color=colour,
            markerfacecolor=face, markersize=8, elinewidth=1.0,
        )  # fmt: skip
    if rows.is_empty():
        axes.text(0.5, 0.5, "not run", ha="center", va="center", transform=axes.transAxes)
        return
    ours, widths = rows["mean"].to_numpy(), rows["half_width"].fill_null(0.0).to_numpy()
    ends = np.concatenate([rows["paper"].to_numpy(), ours - widths, ours + widths])
    low, high = ends.min() - 0.02, ends.max() + 0.02
    axes.plot([low, high], [low, high], color="#888888", linewidth=1.0, zorder=0)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.grid(alpha=0.25)


def _legend() -> list[Line2D]:
    """What colours, shapes and fillings mean."""

    def entry(name: str, marker: str, colour: str = "#444444", face: str | None = None) -> Line2D:
        return Line2D([], [], linestyle="", marker=marker, color=colour, markerfacecolor=face or colour, label=name)

    handles = [entry(f"{classes} classes", "o", colour) for classes, colour in COLOURS.items()]
    handles += [entry("centralised" if nodes is None else f"{nodes} nodes", mark) for nodes, mark in MARKERS.items()]
    handles += [entry("100 epochs", "o", face="white"), entry("200 epochs, or both", "o")]
    names = ("train accuracy", "precision", "recall", "F1")
    return handles + [entry(name, mark) for name, mark in zip(names, OTHERS.values(), strict=True)]
