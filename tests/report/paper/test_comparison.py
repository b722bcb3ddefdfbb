"""Numbers of made-up sweeps beside the paper's."""

import made_up
import numpy as np
import polars as pl
import pytest
import scipy.stats

from fedmia_jax.report import paper


def test_the_published_numbers_are_all_there():
    """24 in table I, 48 in table II, read off the paper."""
    numbers = paper.published()
    assert numbers.group_by("table").len().sort("table").rows() == [("I", 24), ("II", 48)]
    assert made_up.NUMBERS["I", 100, None, None, "attack_recall"] == 0.933
    assert made_up.NUMBERS["II", 100, 15, 200, "test_accuracy"] == 0.424
    assert made_up.NUMBERS["II", 20, 10, 100, "attack_accuracy"] == 0.636


def test_it_applies_to_sweeps_over_cells_of_the_paper_only():
    assert paper.applies(made_up.make(made_up.GRID[:2]))
    assert paper.applies(made_up.make(made_up.GRID[:2]).filter(phase="centralised"))
    assert not paper.applies(made_up.make(made_up.GRID[:1])), "one cell is no sweep"
    strange = made_up.make(made_up.GRID[:2]).with_columns(pl.col("federation.nodes").replace(3, 4))
    assert not paper.applies(strange), "4 nodes are not in the paper"
    twice = pl.concat(
        [made_up.make(made_up.GRID[:2]), made_up.make(made_up.GRID[:1]).with_columns(run_id=pl.lit("other"))]
    )
    assert not paper.applies(twice), "two points in one cell: something else was swept"
    assert not paper.applies(made_up.make(made_up.GRID[:2]).with_columns(attack=pl.lit("another")))


def test_a_whole_grid_is_compared_number_by_number():
    """Results that are the paper's numbers and 0.013 on top."""
    compared = paper.compare(made_up.whole(0.013))
    assert compared.columns == [
        *("table", "classes", "nodes", "local_epochs", "metric"),
        *("paper", "mean", "half_width", "difference", "num_replicates"),
    ]
    assert {tuple(row[:5]): row[5] for row in compared.iter_rows()} == made_up.NUMBERS
    np.testing.assert_allclose(compared["difference"], 0.013, atol=1e-12)
    np.testing.assert_allclose(compared["mean"], compared["paper"] + 0.013)
    assert compared["half_width"].is_null().all()
    assert set(compared["num_replicates"]) == {1}
    counted = paper.summary(compared)
    assert counted["num_cells"].to_list() == [4] * 6 + [24] * 2
    np.testing.assert_allclose(counted["mean_absolute_difference"], 0.013)


def test_a_summary_averages_distances():
    compared = paper.compare(
        pl.concat([made_up.make(made_up.GRID[:1], (0.03,)), made_up.make(made_up.GRID[6:7], (-0.01,))])
    )
    counted = paper.summary(compared).filter(table="II", metric="attack_accuracy").row(0, named=True)
    expected = {"mean_absolute_difference": 0.02, "mean_difference": 0.01, "num_cells": 2}
    assert {name: counted[name] for name in expected} == pytest.approx(expected)


def test_replicates_give_the_interval_of_scipy():
    shifts = (0.0, 0.03, -0.01)
    compared = paper.compare(made_up.whole(*shifts))
    low, high = scipy.stats.t.interval(0.95, 2, loc=np.mean(shifts), scale=scipy.stats.sem(shifts))
    np.testing.assert_allclose(compared["difference"], np.mean(shifts), atol=1e-12)
    np.testing.assert_allclose(compared["half_width"], (high - low) / 2, rtol=1e-9)
    assert set(compared["num_replicates"]) == {3}


def test_table_1_is_averaged_over_nodes_and_split_where_the_epochs_differ():
    def central(*cells):
        runs = [made_up.make([cell], centralised={"test_accuracy": value}) for cell, value in cells]
        return paper.compare(pl.concat(runs)).filter(table="I", metric="test_accuracy").select("local_epochs", "mean")

    same = central(((20, 3, 100), 0.6), ((20, 10, 100), 0.7), ((20, 3, 200), 0.65))
    assert same.rows() == [(None, pytest.approx(0.65))]
    differ = central(((20, 3, 100), 0.6), ((20, 10, 100), 0.7), ((20, 3, 200), 0.75))
    assert differ.rows() == [(100, pytest.approx(0.65)), (200, pytest.approx(0.75))]
    assert central(((20, 3, 100), 0.6), ((20, 10, 100), 0.7)).rows() == [(100, pytest.approx(0.65))]


def test_only_the_last_model_and_the_papers_attack_count():
    results = made_up.make(made_up.GRID[:4])
    last = (pl.col("cycle") == 5) & (pl.col("node") == pl.col("federation.nodes")) & (pl.col("attacked") == "union")
    kept = (pl.col("phase") == "centralised") | last
    spoilt = results.with_columns(accuracy=pl.when(kept).then("accuracy").otherwise(0.0))
    other = results.with_columns(accuracy=0.0, attack=pl.lit("another"))
    assert paper.compare(pl.concat([spoilt, other])).equals(paper.compare(results))


def test_the_last_model_of_a_federation_that_averages_is_its_last_aggregate():
    results = made_up.make(made_up.GRID[:2], (0.0, 0.02), cycles=2)
    compared = paper.compare(made_up.with_aggregates(results, accuracy=0.875))
    assert compared.filter(table="II", metric="attack_accuracy")["mean"].to_list() == [0.875] * 2
    assert compared.filter(metric="test_accuracy").equals(paper.compare(results).filter(metric="test_accuracy"))


def test_the_last_model_is_the_last_one_trained_whoever_trained_it():
    """Nodes that go in another order: the model after node 2 is the last one."""
    results = made_up.make(made_up.GRID[:2], cycles=2)
    before = pl.concat([results.filter(pl.col("node").fill_null(0) != 2), results.filter(pl.col("node") == 2)])
    after_node_2 = (pl.col("node") == 2) & (pl.col("cycle") == 2) & (pl.col("attacked") == "union")
    moved = before.with_columns(accuracy=pl.when(after_node_2).then(0.875).otherwise("accuracy"))
    assert paper.compare(moved).filter(table="II", metric="attack_accuracy")["mean"].to_list() == [0.875] * 2
