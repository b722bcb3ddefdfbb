"""What claims are about, against a naive loop."""

import made_up
import numpy as np
import polars as pl
import pytest

from fedmia_jax.report import paper
from fedmia_jax.report.paper import facts


def test_the_peak_and_the_variation_are_those_of_a_naive_loop():
    """Random attack scores of one cell."""
    cell, nodes, cycles = (20, 10, 100), 10, 5
    results = made_up.make([cell, (50, 10, 100)])
    rng = np.random.default_rng(0)
    results = results.with_columns(pl.Series(name, rng.uniform(size=results.height)) for name in ("accuracy", "recall"))
    facts_of = {
        name: frame.filter(classes=20) for name, frame in vars(facts.from_results(paper.select(results))).items()
    }
    rows = results.filter(pl.col("phase") == "federated", pl.col("data.num_classes") == 20)
    expected, swings, spreads = [], {"accuracy": [], "recall": []}, {"accuracy": [], "recall": []}
    for node in range(nodes):
        of_node = rows.filter(attacked=f"N{node + 1}")
        track = of_node["accuracy"].to_list()
        for cycle in range(1, cycles):
            at = cycle * nodes + node
            window = track[at : at + nodes]
            expected.append((node + 1, cycle + 1, track[at], track[at] - track[at - 1], max(window) == track[at]))
        for name, ranges in swings.items():
            later = np.reshape(of_node[name].to_list(), (cycles, nodes))[1:]
            ranges += list(later.max(axis=1) - later.min(axis=1))
            spreads[name].append(later.std())
    visits = facts_of["visits"].select("target", "cycle", "accuracy", "rise", "peak")
    assert visits.rows() == [pytest.approx(row) for row in expected]
    assert 0 < visits["peak"].sum() < visits.height
    for kind, values in (("swing", swings), ("spread", spreads)):
        variation = facts_of["swings"].filter(kind=kind).select("accuracy", "recall").row(0)
        assert variation == pytest.approx([np.mean(values[name]) for name in ("accuracy", "recall")])


def test_aggregates_are_nobodys_visits():
    """They count among the snapshots that a peak must not be exceeded by, and as what came before a visit."""
    cells = made_up.GRID[:2]
    results = made_up.with_aggregates(made_up.make(cells, cycles=3), accuracy=0.0)
    visits, plain = (facts.from_results(paper.select(rows)).visits for rows in (results, made_up.make(cells, cycles=3)))
    assert visits.drop("rise").equals(plain.drop("rise"))
    first = visits.filter(target=1)
    assert first["rise"].to_list() == first["accuracy"].to_list(), "the aggregate of 0.0 came before"
    highest = made_up.with_aggregates(made_up.make(cells, cycles=3), accuracy=1.0)
    assert not facts.from_results(paper.select(highest)).visits["peak"].any()
