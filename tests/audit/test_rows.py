"""The rows of the results by a naive loop."""

import numpy as np
import pytest

from fedmia_jax.audit import metrics, rows
from fedmia_jax.schedule import Schedule

NODES, CYCLES, RECORDS = 2, 3, 400
AVERAGED = Schedule(
    trainer=[0, 1, -1], parents=[[-1, -1], [-1, -1], [0, 1]], cycle=[0, 0, 0], receivers=[[0, 0], [0, 0], [1, 1]]
)


@pytest.fixture
def given():
    """Scores, thresholds and owners of one target, with ties and records that do not count."""
    rng = np.random.default_rng(0)
    shape = (NODES * CYCLES, RECORDS)
    return {
        "scores": rng.normal(size=shape).round(1).astype(np.float32),
        "thresholds": rng.normal(size=shape[0]).astype(np.float32) / 4,
        "held_out": rng.uniform(0.5, 1, size=shape[0]),
        "correct": rng.random(shape) < 0.6,
        "owners": rng.integers(-2, NODES, size=RECORDS).astype(np.int32),
        "nodes": NODES,
        "attack": "loss",
    }


def test_rows_by_a_naive_loop(given):
    table = rows.snapshot_rows(Schedule.cyclic(nodes=NODES, cycles=CYCLES), replicate=3, **given)
    assert len(table) == NODES * CYCLES * (NODES + 1)
    assert all(list(row) == list(rows.SCHEMA) for row in table)
    others = given["owners"] == -1
    for place, row in enumerate(table):
        t, party = divmod(place, NODES + 1)
        members = given["owners"] >= 0 if party == NODES else given["owners"] == party
        expected = metrics.measure(given["scores"][t], members, others, given["thresholds"][t], rates=rows.RATES)
        assert row["snapshot"] == f"C{t // NODES + 1}N{t % NODES + 1}"
        assert (row["replicate"], row["cycle"], row["node"]) == (3, t // NODES + 1, t % NODES + 1)
        assert (row["attack"], row["view"], row["attacked"]) == ("loss", "snapshot", ["N1", "N2", "union"][party])
        assert [row[name] for name in rows.METRICS] == list(expected[:5])
        assert row["tpr_at_fpr_0.001"] is None
        assert row["threshold"] == pytest.approx(given["thresholds"][t])
        assert (row["num_members"], row["num_non_members"]) == (members.sum(), others.sum())
        assert row["target_train_accuracy"] == given["correct"][t, members].mean()
        assert row["target_test_accuracy"] == given["correct"][t, others].mean()
        assert row["attack_held_out_accuracy"] == given["held_out"][t]


def test_a_centralised_model_has_no_snapshot(given):
    given |= {name: given[name][:1] for name in ("scores", "thresholds", "held_out", "correct")}
    table = rows.snapshot_rows(None, **given)
    assert [row["attacked"] for row in table] == ["N1", "N2", "union"]
    assert all(row[name] is None for row in table for name in ("cycle", "node", "snapshot"))


def test_an_aggregate_has_no_node(given):
    given |= {name: given[name][:3] for name in ("scores", "thresholds", "held_out", "correct")}
    table = rows.snapshot_rows(AVERAGED, view="custom", **given)
    places = [(row["cycle"], row["node"], row["snapshot"], row["view"]) for row in table[::3]]
    assert places == [(1, 1, "C1N1", "custom"), (1, 2, "C1N2", "custom"), (1, None, "C1", "custom")]


@pytest.mark.parametrize("whose", [-1, 0])
def test_what_is_broken_has_no_numbers(given, whose):
    record = np.flatnonzero(given["owners"] == whose)[0]
    given["scores"][2, record] = np.nan
    table = rows.snapshot_rows(Schedule.cyclic(nodes=NODES, cycles=CYCLES), **given)
    for row in table:
        for name in (*rows.METRICS, "target_train_accuracy", "target_test_accuracy"):
            assert (row[name] is None) == ((row["cycle"], row["node"]) == (2, 1)), (row["snapshot"], name)


def test_a_record_that_does_not_count_may_be_anything(given):
    expected = rows.snapshot_rows(Schedule.cyclic(nodes=NODES, cycles=CYCLES), **given)
    given["scores"][:, given["owners"] == -2] = np.nan
    assert rows.snapshot_rows(Schedule.cyclic(nodes=NODES, cycles=CYCLES), **given) == expected


def test_what_is_not_known_is_null(given):
    given |= {"held_out": None, "correct": None}
    for row in rows.snapshot_rows(Schedule.cyclic(nodes=NODES, cycles=CYCLES), **given):
        for name in ("target_train_accuracy", "target_test_accuracy", "attack_held_out_accuracy"):
            assert row[name] is None


def test_assigned_records_stand_against_their_node(given):
    assigned = np.where(given["owners"] >= 0, given["owners"], np.arange(RECORDS) % NODES)
    table = rows.snapshot_rows(Schedule.cyclic(nodes=NODES, cycles=CYCLES), assigned=assigned, **given)
    for row, party in zip(table[:3], (0, 1, None), strict=True):
        members = given["owners"] == party if party is not None else given["owners"] >= 0
        others = (given["owners"] == -1) & (assigned == party if party is not None else True)
        expected = metrics.measure(given["scores"][0], members, others, given["thresholds"][0], rates=rows.RATES)
        assert row["num_non_members"] == others.sum()
        assert [row[name] for name in rows.METRICS] == list(expected[:5])


def test_membership_by_hand():
    members, others = rows.membership(np.array([0, 1, -1, -2, 1]), 2)
    assert members.astype(int).tolist() == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 1], [1, 1, 0, 0, 1]]
    assert others.astype(int).tolist() == [0, 0, 1, 0, 0]
    assert rows.attacked_names(2) == ["N1", "N2", "union"]
