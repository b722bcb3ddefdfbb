"""Figures of made-up sweeps in the form of the paper's."""

import made_up
import numpy as np
import pytest

from fedmia_jax.report import figures, paper
from fedmia_jax.report.paper import figures as paper_figures


def test_figures_have_a_panel_for_every_cell():
    missing = ((50, 15, 200), (10, 3, 100))
    cells = [cell for cell in made_up.GRID if cell not in missing and cell[1] != 10]
    results = made_up.make(cells, (0.0, 0.02))
    drawn = paper.draw(results, title="made up")
    assert list(drawn) == ["paper_figure_1", "paper_figure_3", "paper_scatter"]
    for figure in drawn.values():
        assert "on other records than the paper's: made up" in figure.get_suptitle()
    for name in ("paper_figure_1", "paper_scatter"):  # one of each kind: the layout is what takes time
        drawn[name].canvas.draw()
    first, third = drawn["paper_figure_1"], drawn["paper_figure_3"]
    names = [f"{classes} classes, {epochs} epochs a visit" for classes in (10, 20, 50, 100) for epochs in (100, 200)]
    assert [axes.get_title() for axes in first.axes] == ["", *names[1:]]
    assert [axes.get_title() for axes in third.axes] == [*names[:5], "", *names[6:]]
    assert [label.get_text() for label in third.axes[0].get_xticklabels()] == [f"C{i}N1" for i in range(1, 6)]
    assert [label.get_text() for label in first.axes[2].get_xticklabels()][:4] == ["C1N1", "C1N2", "C1N3", "C2N1"]
    lines = {line.get_label(): line for line in third.axes[3].lines}
    attack = made_up.peak(20, 15, 200) - 0.2 * (np.arange(75) % 15) / 15
    np.testing.assert_allclose(lines["attack accuracy"].get_ydata(), attack)
    assert lines[figures.BASELINE].get_ydata()[0] == pytest.approx(0.653 + 0.01)
    assert len(third.axes[3].collections) == len(figures.LINES), "a band for each line"
    alone = paper_figures.traces(paper.select(results.filter(replicate=0)), title="x")
    assert not alone.axes[3].collections


def test_the_scatter_has_every_number():
    figure = paper_figures.scatter(paper.compare(made_up.whole(0.0, 0.02)), title="x")
    marked = [line for axes in figure.axes for line in axes.lines if line.get_marker() not in ("None", "", "_", "|")]
    points = sorted((float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in marked)
    np.testing.assert_allclose(points, sorted((value, value + 0.01) for value in made_up.NUMBERS.values()), atol=1e-12)
    empty = paper_figures.scatter(paper.compare(made_up.whole()).filter(metric="test_accuracy"), title="x")
    assert [axes.texts[0].get_text() for axes in empty.axes if axes.texts] == ["not run"] * 2


def test_panels_of_aggregates_say_what_they_go_along():
    results = made_up.make(made_up.GRID[:2], cycles=2)
    drawn = paper.draw(made_up.with_aggregates(results, only=True), title="made up")
    figure = drawn["paper_figure_1"]
    assert "membership inference on N1, snapshot by snapshot, 3 nodes" in figure.get_suptitle()
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["C1", "C2"]
    assert figure.axes[0].get_xlabel() == "aggregated model after cycle"
