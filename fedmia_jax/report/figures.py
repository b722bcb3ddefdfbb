"""Results -> figures in the paper's form, and the grid of leakage."""

from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from matplotlib.figure import Figure

from fedmia_jax import store
from fedmia_jax.report import tables

LINES = {  # column: (name in the legend, colour, width)
    "target_train_accuracy": ("target, accuracy on N1's training records", "#7f7f7f", 1.4),
    "target_test_accuracy": ("target, accuracy on test records", "#111111", 1.4),
    "accuracy": ("attack accuracy", "#d55e00", 2.2),
    "precision": ("attack precision", "#0072b2", 1.4),
    "recall": ("attack recall", "#009e73", 1.4),
}


def draw(workdir: store.Workdir, results: pl.DataFrame, *, title: str) -> list[str]:
    """Draws and saves every figure.

    Args:
      workdir: figures go to its `figures` folder.
      results: the results table.
      title: what the run was on.

    Returns:
      Names of the figures, without folder and ending.
    """
    names = []
    federated = results.filter(pl.col("phase") == "federated")
    for attack in federated["attack"].unique(maintain_order=True):
        part = federated.filter(pl.col("attack") == attack)
        centralised = results.filter(
            (pl.col("phase") == "centralised") & (pl.col("attacked") == "union") & (pl.col("attack") == attack)
        )
        drawn = {
            f"trace_{attack}": trace(part, baseline=float(centralised["accuracy"].to_numpy().mean()), title=title),
            f"grid_{attack}": grid(part, title=title),
        }
        for name, figure in drawn.items():
            with store.replacing(workdir.path / "figures" / f"{name}.png") as file:
                figure.savefig(file, format="png", dpi=130)
            plt.close(figure)
            names.append(name)
    return names


def trace(results: pl.DataFrame, *, baseline: float, title: str) -> Figure:
    """Draws target and attack on N1 along the hand-offs, as figures 1 to 3 of the paper do; bands over replicates."""
    part = results.filter(pl.col("attacked") == "N1")
    snapshots = part["snapshot"].unique(maintain_order=True).to_list()
    figure, axes = plt.subplots(figsize=(max(8.0, 0.24 * len(snapshots) + 2), 5.4), layout="constrained")
    positions = np.arange(len(snapshots))
    for column, (name, colour, width) in LINES.items():
        values = [part.filter(pl.col("snapshot") == snapshot)[column].to_numpy() for snapshot in snapshots]
        means, widths = np.array([v.mean() for v in values]), np.array([tables.interval(v) for v in values])
        axes.plot(positions, means, "o-", color=colour, label=name, linewidth=width, markersize=3.5)
        if not np.isnan(widths).any():
            axes.fill_between(positions, means - widths, means + widths, color=colour, alpha=0.18, linewidth=0)
    axes.axhline(baseline, color="#d55e00", linestyle=":", linewidth=1.2, label="attack accuracy, centralised training")
    for position, snapshot in enumerate(snapshots):
        if snapshot.endswith("N1"):
            axes.axvline(position, color="#000000", alpha=0.10, linewidth=6, zorder=0)
    axes.set_xticks(positions, snapshots, rotation=90 if len(snapshots) > 15 else 45)
    axes.set(ylim=(0.0, 1.03), xlabel="model after cycle and node (shaded: N1 has just trained)", ylabel="score")
    axes.grid(axis="y", alpha=0.25)
    axes.set_title(f"Membership inference on N1, hand-off by hand-off\n{title}", fontsize=10)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def grid(results: pl.DataFrame, *, title: str) -> Figure:
    """Draws attack accuracy as a heat map, attacked party by snapshot; means over replicates."""
    order: Sequence[str] = results["attacked"].unique(maintain_order=True).to_list()
    snapshots = results["snapshot"].unique(maintain_order=True).to_list()
    means = results.group_by("attacked", "snapshot").agg(pl.col("accuracy").mean())
    found = {(attacked, snapshot): value for attacked, snapshot, value in means.iter_rows()}
    values = np.array([[found[attacked, snapshot] for snapshot in snapshots] for attacked in order])
    size = (max(7.0, 0.34 * len(snapshots) + 2.5), 0.42 * len(order) + 2.2)
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    highest = max(0.6, float(values.max()))
    image = axes.imshow(values, aspect="auto", cmap="viridis", vmin=0.5, vmax=highest)
    axes.set_xticks(range(len(snapshots)), snapshots, rotation=90 if len(snapshots) > 15 else 45)
    axes.set_yticks(range(len(order)), order)
    axes.set(xlabel="model after cycle and node", ylabel="attacked")
    for (row, column), value in np.ndenumerate(values) if values.size <= 160 else ():
        colour = "white" if value < (0.5 + highest) / 2 else "black"
        axes.text(column, row, f"{value:.2f}".lstrip("0"), ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, label="attack accuracy")
    axes.set_title(f"Who leaks when\n{title}", fontsize=10)
    return figure
