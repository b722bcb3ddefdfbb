"""Draws what a benchmark has measured."""

import itertools
from collections.abc import Sequence

from matplotlib import ticker
from matplotlib.figure import Figure

from fedmia_jax.engine.benchmarks import timing

OURS, OTHERS = "#0072b2", "#7f7f7f"


def draw(rows: Sequence[timing.Row]) -> Figure:
    """Draws a panel for each suite and batch size: medians of its cases, from the fastest turn to the slowest.

    Args:
      rows: of one or many suites, those of a suite in a row.
    """
    suites = [list(some) for _, some in itertools.groupby(rows, lambda row: (row.suite, row.batch_size))]
    height = 1.2 + sum(0.55 + 0.3 * len(suite) for suite in suites)
    figure = Figure(figsize=(9.0, height), layout="constrained")
    places = figure.subplots(len(suites), squeeze=False, height_ratios=[len(suite) + 1 for suite in suites])
    for axes, suite in zip(places[:, 0], suites, strict=True):
        for row in suite:
            median, least, most = (1e6 * seconds for seconds in (row.median, min(row.seconds), max(row.seconds)))
            colour = OTHERS if row.case.startswith(timing.PEERS) else OURS
            spread = [[median - least], [most - median]]
            # Points: the length of a bar would mean nothing on this axis.
            axes.errorbar([median], [row.case], xerr=spread, fmt="o", color=colour, markersize=5, linewidth=1.6)
        axes.invert_yaxis()
        axes.margins(y=0.12)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.set_title(_heading(suite[0]), fontsize=10, loc="left")
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", alpha=0.25)
    places[-1, 0].set_xlabel("us, medians of the turns; lines: fastest to slowest turn", fontsize=9)
    return figure


def _heading(row: timing.Row) -> str:
    """The suite, and records of a step where there are any."""
    return f"{row.suite}, batch {row.batch_size}" if row.batch_size else row.suite
