"""Draws the frontier: what defences cost against what they still leak, all of them in one plane."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedmia_jax.report.mitigations import frontier

COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b", "#bcbd22", "#17becf")


def draw(levels: frontier.Levels, *, title: str) -> Figure:
    """Draws a curve a family from no defence on, its intervals, and the line of levels that none beats in both.

    Args:
      levels: the frontier.
      title: what the runs were on.
    """
    figure, axes = plt.subplots(figsize=(9.5, 6.2), layout="constrained")
    families = list(dict.fromkeys(level.family for level in levels.points[1:]))
    for family, colour in zip(families, COLOURS * (1 + len(families) // len(COLOURS)), strict=False):
        some = [level for level in levels.points if level.family == family]
        some = sorted([levels.points[0], *some], key=lambda level: level.lost.value)
        lost = [level.lost.value for level in some]
        leaks = [level.leaks[levels.widest, frontier.LEAK] for level in some]
        axes.plot(lost, [leak.value for leak in leaks], color=colour, marker="o", markersize=4, label=family)
        low, high = [leak.low for leak in leaks], [leak.high for leak in leaks]
        axes.fill_between(lost, low, high, color=colour, alpha=0.12)
    _draw_front(axes, levels)
    axes.set(xlabel="points of test accuracy lost", ylabel=f"TPR at 1% FPR of {levels.attack}, view: {levels.widest}")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    axes.set_title(
        f"What protection buys, one node; bands: 95%, records and replicates drawn anew\n{title}", fontsize=10
    )
    return figure


def pareto(levels: frontier.Levels) -> list[frontier.Level]:
    """Returns the levels that no other one beats in both what is lost and what is leaked, the cheapest first."""

    def leak(level: frontier.Level) -> float:
        return level.leaks[levels.widest, frontier.LEAK].value

    front: list[frontier.Level] = []
    for level in sorted(levels.points, key=lambda level: (level.lost.value, leak(level))):
        if not np.isnan(leak(level)) and (not front or leak(level) < leak(front[-1])):
            front.append(level)
    return front


def _draw_front(axes: Axes, levels: frontier.Levels) -> None:
    """The line of levels that none beats."""
    front = pareto(levels)
    lost = [level.lost.value for level in front]
    leaks = [level.leaks[levels.widest, frontier.LEAK].value for level in front]
    axes.step(lost, leaks, where="post", color="#111111", linestyle=":", linewidth=1.4, label="Pareto front")
