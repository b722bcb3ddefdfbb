"""Traces, panels and grids of made-up results."""

import made_up
import numpy as np
import polars as pl

from fedmia_jax.report import figures
from fedmia_jax.storage import workdir as workdirs

CELL = (20, 3, 100)
RESULTS = made_up.make([CELL], cycles=2)
FEDERATED = RESULTS.filter(pl.col("phase") == "federated")


def shaded(axes):
    """Positions of the bars of a trace."""
    return [float(line.get_xdata()[0]) for line in axes.lines if line.get_alpha() == 0.10]


def test_a_trace_shades_what_n1_trained():
    (axes,) = figures.trace(FEDERATED, baseline=0.5, title="made up").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["C1N1", "C1N2", "C1N3", "C2N1", "C2N2", "C2N3"]
    assert shaded(axes) == [0, 3]
    lines = {line.get_label(): line for line in axes.lines}
    np.testing.assert_allclose(
        lines["attack accuracy"].get_ydata(), made_up.peak(*CELL) - 0.1 * np.array([0, 1, 2] * 2) / 3
    )
    assert lines[figures.BASELINE].get_ydata()[0] == 0.5
    assert axes.get_xlabel() == "model after cycle and node (shaded: N1 has just trained)"
    assert "hand-off by hand-off" in axes.get_title()


def test_a_trace_with_aggregates_keeps_them_in_their_place():
    (axes,) = figures.trace(made_up.with_aggregates(FEDERATED), baseline=0.5, title="made up").axes
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["C1N1", "C1N2", "C1N3", "C1", "C2N1", "C2N2", "C2N3", "C2"]
    assert shaded(axes) == [0, 4]
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["attack accuracy"].get_ydata()[[3, 7]].tolist() == [0.625, 0.625]
    assert "snapshot by snapshot" in axes.get_title()


def test_a_trace_of_aggregates_alone_shades_nothing():
    only = made_up.with_aggregates(RESULTS, only=True).filter(pl.col("phase") == "federated")
    (axes,) = figures.trace(only, baseline=float("nan"), title="made up").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["C1", "C2"]
    assert shaded(axes) == []
    assert axes.get_xlabel() == "aggregated model after cycle"


def test_a_panel_of_many_snapshots_names_some():
    """Those that N1 trained; where no node trained any, at most fifteen at equal distance."""
    results = made_up.make([CELL], cycles=31).filter(pl.col("attacked") == "N1", pl.col("phase") == "federated")
    cells = [[figures.Panel("round", results, 0.5), None]]
    cells[0][1] = figures.Panel("averaged", made_up.with_aggregates(results).filter(pl.col("node").is_null()), 0.5)
    sequential, averaged = figures.panels(cells, title="x").axes
    assert [label.get_text() for label in sequential.get_xticklabels()] == [f"C{i}N1" for i in range(1, 32)]
    assert [label.get_text() for label in averaged.get_xticklabels()] == [f"C{i}" for i in range(1, 32, 3)]


def test_a_grid_has_a_column_for_every_snapshot():
    figure = figures.grid(made_up.with_aggregates(FEDERATED), title="made up")
    axes = figure.axes[0]
    values = axes.images[0].get_array()
    assert values.shape == (4, 8)
    np.testing.assert_array_equal(values[:, [3, 7]], 0.625)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["N1", "N2", "N3", "union"]
    assert len(axes.texts) == values.size


def test_every_attack_has_a_grid_and_those_named_a_trace(tmp_path):
    results = pl.concat([RESULTS, RESULTS.with_columns(attack=pl.lit("loss"))])
    names = figures.draw(workdirs.Workdir(tmp_path), results, title="made up", traced=["loss"])
    assert names == ["grid_network", "trace_loss", "grid_loss"]
    assert {path.stem for path in (tmp_path / "figures").glob("*.png")} == set(names)
