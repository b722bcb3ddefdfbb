"""Results -> figures in the paper's form, and the grid of leakage."""

import dataclasses
import textwrap
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedmia_jax import certainty, files, store

LINES = {  # column: (name in the legend, colour, width)
    "target_train_accuracy": ("target, accuracy on N1's training records", "#7f7f7f", 1.4),
    "target_test_accuracy": ("target, accuracy on test records", "#111111", 1.4),
    "accuracy": ("attack accuracy", "#d55e00", 2.2),
    "precision": ("attack precision", "#0072b2", 1.4),
    "recall": ("attack recall", "#009e73", 1.4),
}
BASELINE = "attack accuracy, centralised training"
ALONG = "model after cycle and node (shaded: N1 has just trained)"


@dataclasses.dataclass(frozen=True)
class Panel:
    """One trace among several: its name, the federation's rows and the centralised attack accuracy."""

    name: str
    part: pl.DataFrame
    baseline: float


def draw(
    workdir: store.Workdir, results: pl.DataFrame, *, title: str, traced: Sequence[str] | None = None
) -> list[str]:
    """Draws and saves the trace and the grid of every attack.

    Args:
      workdir: figures go to its `figures` folder.
      results: the results table.
      title: what the run was on.
      traced: attacks that get a trace; None for all.

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
        baseline = float(centralised["accuracy"].to_numpy().mean()) if len(centralised) else float("nan")
        drawn = {f"grid_{attack}": grid(part, title=f"{attack}; {title}")}
        if traced is None or attack in traced:
            drawn = {f"trace_{attack}": trace(part, baseline=baseline, title=title)} | drawn
        for name, figure in drawn.items():
            save(workdir, name, figure)
            names.append(name)
    return names


def save(workdir: store.Workdir, name: str, figure: Figure) -> None:
    """Writes a figure to `figures/NAME.png` of the workdir and closes it."""
    with files.replacing(workdir.path / "figures" / f"{name}.png") as file:
        figure.savefig(file, format="png", dpi=130)
    plt.close(figure)


def trace(results: pl.DataFrame, *, baseline: float, title: str) -> Figure:
    """Draws target and attack on N1 along the hand-offs, as figures 1 to 3 of the paper do; bands over replicates."""
    part = results.filter(pl.col("attacked") == "N1")
    snapshots = _snapshots(part)
    figure, axes = plt.subplots(figsize=(max(8.0, 0.24 * len(snapshots) + 2), 5.4), layout="constrained")
    draw_lines(axes, part, baseline=baseline)
    axes.set_xticks(range(len(snapshots)), snapshots, rotation=90 if len(snapshots) > 15 else 45)
    axes.set(xlabel=ALONG, ylabel="score")
    axes.set_title(f"Membership inference on N1, hand-off by hand-off\n{title}", fontsize=10)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def draw_lines(axes: Axes, part: pl.DataFrame, *, baseline: float, weight: float = 1.0) -> None:
    """Draws the lines of one trace: means, 95% bands over replicates, the baseline, and where N1 has just trained.

    Args:
      axes: where to draw; snapshots are at 0, 1, ..
      part: the rows of one federation that attack N1, in training order within a replicate.
      baseline: attack accuracy on the centralised target; NaN draws none.
      weight: scales widths and markers.
    """
    snapshots = _snapshots(part)
    positions = np.arange(len(snapshots))
    groups = part.select("snapshot", *LINES).partition_by("snapshot", as_dict=True)
    for column, (name, colour, width) in LINES.items():
        values = [groups[(snapshot,)][column].to_numpy() for snapshot in snapshots]
        means, widths = np.array([v.mean() for v in values]), np.array([certainty.t_width(v) for v in values])
        axes.plot(positions, means, "o-", color=colour, label=name, linewidth=width * weight, markersize=3.5 * weight)
        if not np.isnan(widths).any():
            axes.fill_between(positions, means - widths, means + widths, color=colour, alpha=0.18, linewidth=0)
    axes.axhline(baseline, color=LINES["accuracy"][1], linestyle=":", linewidth=1.2, label=BASELINE)
    for position, snapshot in enumerate(snapshots):
        if snapshot.endswith("N1"):
            axes.axvline(position, color="#000000", alpha=0.10, linewidth=6 * weight, zorder=0)
    axes.set_ylim(0.0, 1.03)
    axes.grid(axis="y", alpha=0.25)


def panels(rows: Sequence[Sequence[Panel | None]], *, title: str) -> Figure:
    """Draws several traces side by side, with one legend.

    Args:
      rows: panels by row and column, rows of equal length; None leaves a place empty.
      title: the heading.

    Returns:
      The figure.
    """
    longest = max(panel.part["snapshot"].n_unique() for row in rows for panel in row if panel)
    shape = (len(rows), len(rows[0]))
    size = (max(8.5, (3.6 + 0.055 * longest) * shape[1] + 0.6), 2.35 * shape[0] + 1.9)
    figure, found = plt.subplots(*shape, figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axes, panel in zip(found.flat, (panel for row in rows for panel in row), strict=True):
        if panel is None:
            axes.set_axis_off()
            continue
        draw_lines(axes, panel.part, baseline=panel.baseline, weight=0.75 if longest <= 15 else 0.5)
        snapshots = _snapshots(panel.part)
        shown = [i for i, name in enumerate(snapshots) if len(snapshots) <= 15 or name.endswith("N1")]
        axes.set_xticks(shown, [snapshots[i] for i in shown])
        if len(shown) > 5:
            plt.setp(axes.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
        axes.tick_params(labelsize=8)
        axes.margins(x=0.02)
        axes.set_title(panel.name, fontsize=9)
    handles, names = next(axes for axes in found.flat if axes.lines).get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    for axes in found[-1]:
        axes.set_xlabel(ALONG, fontsize=9)
    for axes in found[:, 0]:
        axes.set_ylabel("score", fontsize=9)
    set_heading(figure, title)
    return figure


def set_heading(figure: Figure, title: str) -> None:
    """Writes a heading over a figure, its lines wrapped to the figure's width."""
    letters = int(12 * figure.get_size_inches()[0])
    figure.suptitle("\n".join(textwrap.fill(line, letters) for line in title.splitlines()), fontsize=10)


def _snapshots(part: pl.DataFrame) -> list[str]:
    """Names of the snapshots, in training order."""
    return part["snapshot"].unique(maintain_order=True).to_list()


def grid(results: pl.DataFrame, *, title: str) -> Figure:
    """Draws attack accuracy as a heat map, attacked party by snapshot; means over replicates."""
    order: Sequence[str] = results["attacked"].unique(maintain_order=True).to_list()
    snapshots = _snapshots(results)
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
