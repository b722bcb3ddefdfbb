"""Order and names of snapshots, read off the rows."""

import made_up
import polars as pl

from fedmia_jax.report import snapshots

RESULTS = made_up.make(made_up.GRID[:1], (0.0, 0.02), cycles=2)


def test_a_model_that_goes_round():
    assert snapshots.in_order(RESULTS.filter(phase="federated")) == ["C1N1", "C1N2", "C1N3", "C2N1", "C2N2", "C2N3"]
    assert snapshots.trained_by(RESULTS, 1) == {"C1N1", "C2N1"}
    assert snapshots.sequential(RESULTS)
    assert snapshots.pace(RESULTS) == "hand-off by hand-off"
    assert snapshots.axis_label(RESULTS.filter(phase="federated")) == "model after cycle and node"


def test_ten_and_more_cycles_and_nodes_keep_their_order():
    rows = made_up.make([(10, 15, 100)], cycles=11).filter(phase="federated")
    assert snapshots.in_order(rows) == [f"C{cycle}N{node}" for cycle in range(1, 12) for node in range(1, 16)]
    assert snapshots.trained_by(rows, 1) == {f"C{cycle}N1" for cycle in range(1, 12)}, "not those of N11"


def test_nodes_in_another_order_stand_as_they_trained():
    rows = pl.DataFrame({"snapshot": ["C1N2", "C1N1", "C2N1", "C2N2"], "cycle": [1, 1, 2, 2], "node": [2, 1, 1, 2]})
    assert snapshots.in_order(rows) == rows["snapshot"].to_list()


def test_a_snapshot_that_one_replicate_lacks_stands_in_its_cycle():
    rows = pl.DataFrame({"snapshot": ["C1N1", "C2N1", "C1N2", "C2N1"], "cycle": [1, 2, 1, 2], "node": [1, 1, 2, 1]})
    assert snapshots.in_order(rows) == ["C1N1", "C1N2", "C2N1"]


def test_aggregates():
    mixed = made_up.with_aggregates(RESULTS)
    federated = mixed.filter(phase="federated")
    assert snapshots.in_order(federated) == ["C1N1", "C1N2", "C1N3", "C1", "C2N1", "C2N2", "C2N3", "C2"]
    assert snapshots.trained_by(mixed, 1) == {"C1N1", "C2N1"}
    assert not snapshots.sequential(mixed)
    assert snapshots.pace(mixed) == "snapshot by snapshot"
    assert snapshots.axis_label(federated) == "model after cycle, or cycle and node"
    only = made_up.with_aggregates(RESULTS, only=True)
    assert snapshots.in_order(only.filter(phase="federated")) == ["C1", "C2"]
    assert snapshots.trained_by(only, 1) == set()
    assert snapshots.axis_label(only.filter(phase="federated")) == "aggregated model after cycle"
