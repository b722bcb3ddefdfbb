"""Draws what adversaries learn: ROC curves, coalitions by size, who held a record, advantage along the snapshots."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedmia_jax.audit import intervals
from fedmia_jax.report import figures, snapshots
from fedmia_jax.report.adversaries import tables
from fedmia_jax.storage import workdir as workdirs

COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#111111", "#8c564b")
ATTACKS = (
    *("stacked", "sequence_lira", "trajectory", "lira_online", "rmia_online"),
    *("delta_phi", "peers", "network", "loss"),
)
ALONG_SNAPSHOTS = ("lira_online", "network")  # attacks whose advantage is drawn snapshot by snapshot


def draw(
    workdir: workdirs.Workdir, findings: Mapping[str, pl.DataFrame], results: pl.DataFrame, *, title: str
) -> list[str]:
    """Draws and saves the figures; returns their names.

    Args:
      workdir: figures go to its `figures` folder.
      findings: as `read` returns them.
      results: the results table, attacks on single snapshots.
      title: what the run was on.
    """
    drawn: dict[str, Figure] = {"roc": roc(findings["roc"], title=title)}
    sizes = tables.by_size(findings["intervals"])
    if not sizes.is_empty():
        drawn["coalitions"] = coalitions(sizes, title=title)
    if not findings["attribution"].is_empty():
        drawn["attribution"] = confusion(findings["attribution"], title=title)
    for attack in ALONG_SNAPSHOTS:
        rows = results.filter(pl.col("attack") == attack, pl.col("phase") == "federated")
        if not rows.is_empty():
            drawn[f"advantage_{attack}"] = advantage(rows, attack=attack, title=title)
    for name, figure in drawn.items():
        figures.save(workdir, name, figure)
    return list(drawn)


def roc(curves: pl.DataFrame, *, title: str) -> Figure:
    """Draws ROC curves on logarithmic axes: attacks under the widest view, and views of the first of `ATTACKS`."""
    of_node = curves.filter(pl.col("attacked") == "node")
    attacks = [name for name in ATTACKS if name in of_node["attack"].unique()]
    attacks = attacks or of_node["attack"].unique().to_list()[: len(COLOURS)]
    views = of_node["view"].unique(maintain_order=True).to_list()
    widest = "coordinator" if "coordinator" in views else views[-1]
    figure = Figure(figsize=(12.5, 5.6), layout="constrained")
    axes = figure.subplots(1, 2)
    _draw_curves(axes[0], of_node.filter(pl.col("view") == widest), "attack", attacks)
    axes[0].set_title(f"attacks, view: {widest}", fontsize=10)
    _draw_curves(axes[1], of_node.filter(pl.col("attack") == attacks[0]), "view", views)
    axes[1].set_title(f"views, attack: {attacks[0]}", fontsize=10)
    axes[0].set_ylabel("true-positive rate")
    bands = "bands: 95%, records and replicates drawn anew, none where false alarms are too few"
    figure.suptitle(f"Membership of one node, replicates pooled; {bands}\n{title}", fontsize=10)
    return figure


def _draw_curves(axes: Axes, curves: pl.DataFrame, column: str, names: Sequence[str]) -> None:
    """Curves by attack or view, with their bands."""
    for name, colour in zip(names, COLOURS, strict=False):
        curve = curves.filter(pl.col(column) == name)
        if curve.is_empty():
            continue
        axes.plot(curve["fpr"], curve["tpr"], color=colour, label=name, linewidth=1.6)
        axes.fill_between(
            curve["fpr"].to_numpy(), curve["tpr_low"].to_numpy(), curve["tpr_high"].to_numpy(), color=colour, alpha=0.15
        )
    lowest = float(curves["fpr"].to_numpy().min())
    ends = curves.filter(pl.col(column).is_in(list(names)), pl.col("tpr") > 0)["tpr"].to_numpy()
    bottom = max(lowest, 0.5 * float(ends.min()))
    axes.plot([lowest, 1], [lowest, 1], color="#aaaaaa", linestyle=":", linewidth=1)
    axes.set(xscale="log", yscale="log", xlim=(lowest, 1), ylim=(bottom, 1.05), xlabel="false-positive rate")
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def coalitions(sizes: pl.DataFrame, *, title: str) -> Figure:
    """Draws leakage against the number of insiders: mean and worst coalition, see `tables.by_size`."""
    columns = [column for column in tables.NUMBERS if sizes[column].count()]
    figure = Figure(figsize=(5.2 * len(columns), 4.8), layout="constrained")
    axes = figure.subplots(1, len(columns), squeeze=False)
    for place, column in zip(axes[0], columns, strict=True):
        _draw_sizes(place, sizes, column)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    how = "95% over records and replicates; the worst is chosen on other replicates"
    figure.suptitle(f"What coalitions of insiders learn of another node; {how}\n{title}", fontsize=10)
    return figure


def _draw_sizes(axes: Axes, sizes: pl.DataFrame, column: str) -> None:
    """One number against the size of the coalition, for every attack."""
    attacks = sizes["attack"].unique(maintain_order=True).to_list()
    end = "_replicates" if column == "auc" else ""
    for attack, colour in zip(attacks, COLOURS, strict=False):
        rows = sizes.filter(pl.col("attack") == attack)
        names = (column, f"{column}_low{end}", f"{column}_high{end}", f"{column}_worst_party")
        mean, low, high, worst = (rows[name].cast(pl.Float64).to_numpy() for name in names)
        reach = np.nan_to_num(np.stack([mean - low, high - mean]))
        shared: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 3}
        axes.errorbar(rows["size"], mean, reach, linestyle="-", label=f"{attack}, mean", **shared)
        axes.plot(rows["size"], worst, linestyle="--", label=f"{attack}, worst", **shared)
    bottom = max(0.0, float(sizes[column].to_numpy().min()) - 0.05)
    axes.set(xlabel="insiders together", title=tables.NUMBERS[column], ylim=(bottom, 1.02))
    axes.set_xticks(sorted(sizes["size"].unique().to_list()))


def confusion(attribution: pl.DataFrame, *, title: str) -> Figure:
    """Draws confusion matrices, true node by named node: a row for each view, a column for each way."""
    views = attribution["view"].unique(maintain_order=True).to_list()
    views = [view for view in views if view != "coordinator_p2p" or "outsider" not in views]
    ways = attribution["way"].unique(maintain_order=True).to_list()
    size = (3.3 * len(ways) + 0.8, 3.4 * len(views) + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(views), len(ways), squeeze=False)
    nodes = attribution["true"].unique(maintain_order=True).to_list()
    for (row, view), (column, way) in ((a, b) for a in enumerate(views) for b in enumerate(ways)):
        counts = attribution.filter(pl.col("view") == view, pl.col("way") == way)
        if counts.is_empty():
            axes[row, column].set_axis_off()
            continue
        axes[row, column].set_title(f"{way}\n{view}", fontsize=9)
        _draw_matrix(axes[row, column], counts["count"].to_numpy().reshape(len(nodes), len(nodes)), nodes)
    images = [image for place in axes.flat for image in place.images]
    if images:
        figure.colorbar(images[-1], ax=axes, shrink=0.7, label="share of the node's records")
    figure.suptitle(f"Which node held the record?\n{title}", fontsize=10)
    return figure


def _draw_matrix(axes: Axes, counts: np.ndarray, nodes: Sequence[str]) -> None:
    """One confusion matrix, each row as shares of its sum."""
    shares = counts.astype(float) / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, vmin=0, vmax=1, cmap="viridis")
    axes.set_xticks(range(len(nodes)), nodes, fontsize=7, rotation=90)
    axes.set_yticks(range(len(nodes)), nodes, fontsize=7)
    axes.set_xlabel("named", fontsize=8)
    axes.set_ylabel("held by", fontsize=8)


def advantage(rows: pl.DataFrame, *, attack: str, title: str) -> Figure:
    """Draws the advantage over guessing, TPR - FPR at the attack's own threshold, on every node along the snapshots."""
    nodes = [name for name in rows["attacked"].unique(maintain_order=True) if name != "union"]
    names = snapshots.in_order(rows)
    figure = Figure(figsize=(max(8.0, 0.22 * len(names) + 2), 5.0), layout="constrained")
    axes = figure.subplots()
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.92, len(nodes)))
    for node, colour in zip(nodes, colours, strict=True):
        groups = rows.filter(pl.col("attacked") == node).partition_by("snapshot", as_dict=True)
        values = [2 * groups[(name,)]["accuracy"].to_numpy() - 1 for name in names]
        means = np.array([advantages.mean() for advantages in values])
        widths = np.array([intervals.t_width(advantages) for advantages in values])
        axes.plot(range(len(names)), means, color=colour, label=node, linewidth=1.4)
        axes.fill_between(range(len(names)), means - widths, means + widths, color=colour, alpha=0.12)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set(
        xlabel=snapshots.axis_label(rows),
        ylabel="advantage, TPR - FPR",
        xlim=(0, max(1, len(names) - 1)),
        ylim=(-0.2, 1.02),
    )
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    heading = f"Advantage of {attack} on each node, {snapshots.pace(rows)}; 95% t over replicates"
    axes.set_title(f"{heading}\n{title}", fontsize=10)
    return figure
