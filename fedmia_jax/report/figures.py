"""Draws results in the form of the paper's figures, and the grid of leakage."""

import dataclasses
import pathlib
import textwrap
from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedmia_jax import files
from fedmia_jax.audit import intervals
from fedmia_jax.report import snapshots
from fedmia_jax.storage import workdir as workdirs

LINES = {  # column: (name in the legend, colour, width)
    "target_train_accuracy": ("target, accuracy on N1's training records", "#7f7f7f", 1.4),
    "target_test_accuracy": ("target, accuracy on test records", "#111111", 1.4),
    "accuracy": ("attack accuracy", "#d55e00", 2.2),
    "precision": ("attack precision", "#0072b2", 1.4),
    "recall": ("attack recall", "#009e73", 1.4),
}
BASELINE = "attack accuracy, centralised training"
SHADED = " (shaded: N1 has just trained)"
MOST_LABELS = 15  # snapshots that an axis names one by one, or without turning their names upright
MOST_CELLS = 160  # cells of a grid that have their number written on them


@dataclasses.dataclass(frozen=True)
class Panel:
    """One trace among several: its name, the rows of the federation and the centralised attack accuracy."""

    name: str
    rows: pl.DataFrame
    baseline: float


def draw(
    workdir: workdirs.Workdir, results: pl.DataFrame, *, title: str, traced: Sequence[str] | None = None
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
        rows = federated.filter(pl.col("attack") == attack)
        centralised = results.filter(
            (pl.col("phase") == "centralised") & (pl.col("attacked") == "union") & (pl.col("attack") == attack)
        )
        baseline = float(centralised["accuracy"].to_numpy().mean()) if len(centralised) else float("nan")
        drawn = {f"grid_{attack}": grid(rows, title=f"{attack}; {title}")}
        if traced is None or attack in traced:
            drawn = {f"trace_{attack}": trace(rows, baseline=baseline, title=title)} | drawn
        for name, figure in drawn.items():
            save(workdir, name, figure)
            names.append(name)
    return names


def save(workdir: workdirs.Workdir, name: str, figure: Figure) -> None:
    """Writes a figure to `figures/NAME.png` of the workdir."""
    write(workdir.path / "figures" / f"{name}.png", figure)


def write(path: pathlib.Path, figure: Figure) -> None:
    """Writes a figure as PNG."""
    with files.replacing(path) as file:
        figure.savefig(file, format="png", dpi=130)


def trace(results: pl.DataFrame, *, baseline: float, title: str) -> Figure:
    """Draws target and attack on N1 along the snapshots, as figures 1 to 3 of the paper do; bands over replicates."""
    rows = results.filter(pl.col("attacked") == "N1")
    names = snapshots.in_order(rows)
    figure = Figure(figsize=(max(8.0, 0.24 * len(names) + 2), 5.4), layout="constrained")
    axes = figure.subplots()
    draw_lines(axes, rows, baseline=baseline)
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > MOST_LABELS else 45)
    axes.set(xlabel=_shaded_label(rows), ylabel="score")
    axes.set_title(f"Membership inference on N1, {snapshots.pace(rows)}\n{title}", fontsize=10)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def draw_lines(axes: Axes, rows: pl.DataFrame, *, baseline: float, weight: float = 1.0) -> None:
    """Draws the lines of one trace: means, 95% bands over replicates, the baseline, and where N1 has just trained.

    Args:
      axes: where to draw; snapshots are at 0, 1, ..
      rows: the rows of one federation that attack N1, in training order within a replicate.
      baseline: attack accuracy on the centralised target; NaN draws none.
      weight: scales widths and markers.
    """
    names = snapshots.in_order(rows)
    positions = np.arange(len(names))
    groups = rows.select("snapshot", *LINES).partition_by("snapshot", as_dict=True)
    for column, (label, colour, width) in LINES.items():
        values = [groups[(name,)][column].to_numpy() for name in names]
        means, widths = np.array([v.mean() for v in values]), np.array([intervals.t_width(v) for v in values])
        axes.plot(positions, means, "o-", color=colour, label=label, linewidth=width * weight, markersize=3.5 * weight)
        if not np.isnan(widths).any():
            axes.fill_between(positions, means - widths, means + widths, color=colour, alpha=0.18, linewidth=0)
    axes.axhline(baseline, color=LINES["accuracy"][1], linestyle=":", linewidth=1.2, label=BASELINE)
    trained = snapshots.trained_by(rows, 1)
    for position, name in enumerate(names):
        if name in trained:
            axes.axvline(position, color="#000000", alpha=0.10, linewidth=6 * weight, zorder=0)
    axes.set_ylim(0.0, 1.03)
    axes.grid(axis="y", alpha=0.25)


def panels(cells: Sequence[Sequence[Panel | None]], *, title: str) -> Figure:
    """Draws several traces side by side, with one legend.

    Args:
      cells: panels by row and column, rows of equal length; None leaves a place empty.
      title: the heading.

    Returns:
      The figure.
    """
    filled = [panel for row in cells for panel in row if panel]
    longest = max(panel.rows["snapshot"].n_unique() for panel in filled)
    shape = (len(cells), len(cells[0]))
    size = (max(8.5, (3.6 + 0.055 * longest) * shape[1] + 0.6), 2.35 * shape[0] + 1.9)
    figure = Figure(figsize=size, layout="constrained")
    places = figure.subplots(*shape, sharey=True, squeeze=False)
    for axes, panel in zip(places.flat, (panel for row in cells for panel in row), strict=True):
        if panel is None:
            axes.set_axis_off()
        else:
            _draw_panel(axes, panel, weight=0.75 if longest <= MOST_LABELS else 0.5)
    handles, names = next(axes for axes in places.flat if axes.lines).get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    label = _shaded_label(pl.concat(panel.rows.select("snapshot", "node") for panel in filled))
    for axes in places[-1]:
        axes.set_xlabel(label, fontsize=9)
    for axes in places[:, 0]:
        axes.set_ylabel("score", fontsize=9)
    set_heading(figure, title)
    return figure


def _draw_panel(axes: Axes, panel: Panel, *, weight: float) -> None:
    """Draws one panel; of many snapshots it names those that N1 trained, or some at equal distance."""
    draw_lines(axes, panel.rows, baseline=panel.baseline, weight=weight)
    names = snapshots.in_order(panel.rows)
    labelled = list(range(len(names)))
    if len(names) > MOST_LABELS:
        trained = snapshots.trained_by(panel.rows, 1)
        labelled = [i for i in labelled if names[i] in trained] or labelled[:: -(-len(names) // MOST_LABELS)]
    axes.set_xticks(labelled, [names[i] for i in labelled])
    if len(labelled) > 5:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.tick_params(labelsize=8)
    axes.margins(x=0.02)
    axes.set_title(panel.name, fontsize=9)


def _shaded_label(rows: pl.DataFrame) -> str:
    """The label of an axis along which the snapshots that N1 trained are shaded, if there are any."""
    return snapshots.axis_label(rows) + (SHADED if snapshots.trained_by(rows, 1) else "")


def set_heading(figure: Figure, title: str) -> None:
    """Writes a heading over a figure, its lines wrapped to the figure's width."""
    letters = int(12 * figure.get_size_inches()[0])
    figure.suptitle("\n".join(textwrap.fill(line, letters) for line in title.splitlines()), fontsize=10)


def grid(results: pl.DataFrame, *, title: str) -> Figure:
    """Draws attack accuracy as a heat map, attacked party by snapshot; means over replicates."""
    parties: Sequence[str] = results["attacked"].unique(maintain_order=True).to_list()
    names = snapshots.in_order(results)
    means = results.group_by("attacked", "snapshot").agg(pl.col("accuracy").mean())
    cells = {(attacked, snapshot): value for attacked, snapshot, value in means.iter_rows()}
    values = np.array([[cells[attacked, snapshot] for snapshot in names] for attacked in parties])
    size = (max(7.0, 0.34 * len(names) + 2.5), 0.42 * len(parties) + 2.2)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    highest = max(0.6, float(values.max()))
    image = axes.imshow(values, aspect="auto", cmap="viridis", vmin=0.5, vmax=highest)
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > MOST_LABELS else 45)
    axes.set_yticks(range(len(parties)), parties)
    axes.set(xlabel=snapshots.axis_label(results), ylabel="attacked")
    for (row, column), value in np.ndenumerate(values) if values.size <= MOST_CELLS else ():
        colour = "white" if value < (0.5 + highest) / 2 else "black"
        axes.text(column, row, f"{value:.2f}".lstrip("0"), ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, label="attack accuracy")
    axes.set_title(f"Who leaks when\n{title}", fontsize=10)
    return figure
