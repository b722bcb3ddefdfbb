"""Draws the frontier: what defences cost against what they still leak, all of them in one plane."""

import itertools
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedmia_jax.report.mitigations import frontier

COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b", "#bcbd22", "#17becf")
MARKERS = "os^DvPX"  # of another number than colours, so that no two families look the same
MOST_IN_A_ROW = 3


def draw(levels: frontier.Levels, *, title: str) -> Figure:
    """Draws a panel for each view: a curve a family from no defence on, its intervals, and what none beats in both.

    Args:
      levels: the frontier.
      title: what the runs were on.
    """
    views = levels.attacked_first
    rows = -(-len(views) // MOST_IN_A_ROW)
    columns = -(-len(views) // rows)
    size = (max(4.4 * columns, 7.0), 4.2 * rows + 1.2)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    families = list(dict.fromkeys(level.family for level in levels.points[1:]))
    looks = dict(zip(families, zip(itertools.cycle(COLOURS), itertools.cycle(MARKERS), strict=False), strict=False))
    for axes, view in zip(grid.flat, views, strict=False):
        _draw_view(axes, levels, view, looks)
    for axes in grid.flat[len(views) :]:
        axes.set_axis_off()
    handles, names = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize=8)
    for axes in grid.flat[max(len(views) - columns, 0) : len(views)]:  # below which there is none
        axes.set_xlabel("points of test accuracy lost", fontsize=9)
        axes.tick_params(labelbottom=True)
    figure.supylabel(f"TPR at 1% FPR of {levels.attack}", fontsize=10)
    figure.suptitle(
        f"What protection buys, one node; bands: 95%, records and replicates drawn anew\n{title}", fontsize=10
    )
    return figure


def _draw_view(axes: Axes, levels: frontier.Levels, view: str, looks: Mapping[str, tuple[str, str]]) -> None:
    """What an attacker with one view finds."""
    for family, (colour, marker) in looks.items():
        some = [level for level in levels.points if level.family == family and (view, frontier.LEAK) in level.leaks]
        some = sorted([levels.points[0], *some], key=lambda level: level.lost.value)
        lost = [level.lost.value for level in some]
        leaks = [level.leaks[view, frontier.LEAK] for level in some]
        values = [leak.value for leak in leaks]
        axes.plot(lost, values, color=colour, marker=marker, markersize=4, label=family, clip_on=False)
        low, high = [leak.low for leak in leaks], [leak.high for leak in leaks]
        axes.fill_between(lost, low, high, color=colour, alpha=0.12)
    front = pareto(levels, view)
    lost = [level.lost.value for level in front]
    heights = [level.leaks[view, frontier.LEAK].value for level in front]
    axes.step(lost, heights, where="post", color="#111111", linestyle=":", linewidth=1.4, label="Pareto front")
    axes.set_title(f"view: {view}", fontsize=9)
    axes.set_ylim(0, 1)


def pareto(levels: frontier.Levels, view: str) -> list[frontier.Level]:
    """Returns the levels that no other one beats in both what is lost and what leaks to a view, the cheapest first."""

    def leak(level: frontier.Level) -> float:
        number = level.leaks.get((view, frontier.LEAK))
        return float("nan") if number is None else number.value

    front: list[frontier.Level] = []
    for level in sorted(levels.points, key=lambda level: (level.lost.value, leak(level))):
        if not np.isnan(leak(level)) and (not front or leak(level) < leak(front[-1])):
            front.append(level)
    return front
