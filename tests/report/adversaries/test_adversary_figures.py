"""Figures of made-up adversaries."""

import made_up
import made_up_findings
import numpy as np
import polars as pl

from fedmia_jax.report import adversaries
from fedmia_jax.report.adversaries import figures, tables
from fedmia_jax.storage import workdir as workdirs


def test_every_table_that_has_rows_is_drawn(tmp_path):
    findings = {"roc": made_up_findings.ROC, "intervals": pl.DataFrame(made_up_findings.SIZES)}
    findings["attribution"] = made_up_findings.NAMING.clear()
    results = made_up.make(made_up.GRID[:1], cycles=1)
    names = adversaries.draw(workdirs.Workdir(tmp_path), findings, results, title="made up")
    assert names == ["roc", "coalitions", "advantage_network"]
    assert {path.stem for path in (tmp_path / "figures").glob("*.png")} == set(names)


def test_roc_curves_are_those_of_the_table():
    figure = figures.roc(made_up_findings.ROC, title="made up")
    by_attack, by_view = figure.axes
    assert by_attack.get_title() == "attacks, view: coordinator"
    assert by_view.get_title() == "views, attack: peers"
    lines = {line.get_label(): line for line in by_attack.lines}
    np.testing.assert_allclose(lines["loss"].get_ydata(), np.array([0.001, 0.01, 0.1, 1.0]) ** 0.7)
    np.testing.assert_allclose(lines["peers"].get_ydata(), np.array([0.001, 0.01, 0.1, 1.0]) ** 0.5)
    assert "made up" in figure.get_suptitle()


def test_coalitions_have_a_line_for_the_mean_and_one_for_the_worst():
    sizes = tables.by_size(pl.DataFrame(made_up_findings.SIZES))
    figure = figures.coalitions(sizes, title="made up")
    assert [axes.get_title() for axes in figure.axes] == ["AUC", "TPR at 1% FPR"]
    handles, labels = figure.axes[0].get_legend_handles_labels()
    assert sorted(labels) == ["sequence_lira, mean", "sequence_lira, worst"]
    (worst,) = [handle for handle, label in zip(handles, labels, strict=True) if label.endswith("worst")]
    np.testing.assert_allclose(worst.get_xydata(), [[1, 0.75], [2, 0.85]])


def test_confusion_matrices_are_shares_of_the_nodes_records():
    figure = figures.confusion(made_up_findings.NAMING, title="made up")
    (image,) = figure.axes[0].images
    np.testing.assert_allclose(image.get_array(), [[0.9, 0.1], [0.3, 0.7]])


def test_the_advantage_goes_along_the_snapshots_aggregates_among_them():
    results = made_up.make(made_up.GRID[:1], cycles=2).filter(pl.col("phase") == "federated")
    plain = figures.advantage(results, attack="network", title="x")
    assert [label.get_text() for label in plain.axes[0].get_xticklabels()] == [
        f"C{cycle}N{node}" for cycle in (1, 2) for node in (1, 2, 3)
    ]
    assert "hand-off by hand-off" in plain.axes[0].get_title()
    mixed = figures.advantage(made_up.with_aggregates(results, accuracy=0.625), attack="network", title="x")
    labels = [label.get_text() for label in mixed.axes[0].get_xticklabels()]
    assert labels == ["C1N1", "C1N2", "C1N3", "C1", "C2N1", "C2N2", "C2N3", "C2"]
    assert [line.get_label() for line in mixed.axes[0].lines] == ["N1", "N2", "N3"]
    for line, other in zip(mixed.axes[0].lines, plain.axes[0].lines, strict=True):
        assert line.get_ydata()[[3, 7]].tolist() == [0.25, 0.25]
        np.testing.assert_array_equal(np.delete(line.get_ydata(), [3, 7]), other.get_ydata())
    single = figures.advantage(
        made_up.with_aggregates(results.filter(cycle=1)).filter(snapshot="C1"), attack="a", title="x"
    )
    assert "snapshot by snapshot" in single.axes[0].get_title()
