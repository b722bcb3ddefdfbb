"""Federations in different orders: one layout by visit, and the same findings whatever the order of what is alike."""

import dataclasses
import itertools

import numpy as np
import polars as pl
import pytest

from fedmia_jax.attacks import trajectory
from fedmia_jax.audit import api, evidence, federations, views
from fedmia_jax.schedule import Schedule

NODES, CYCLES, TARGETS, REFERENCES, RECORDS = 4, 3, 2, 10, 240
CYCLIC = Schedule.cyclic(nodes=NODES, cycles=CYCLES)
NAMES = ("loss", "lira_online", "rmia_offline", "calibration", "delta_phi", "peers", "sequence_lira", "trajectory")


def draw_orders(rng, number):
    """Schedules of federations whose nodes train in a random order in each cycle."""
    orders = [rng.permuted(np.broadcast_to(np.arange(NODES), (CYCLES, NODES)), axis=1) for _ in range(number)]
    return [Schedule.sequential(order, nodes=NODES) for order in orders]


def test_to_visits_by_hand():
    schedule = Schedule.sequential(np.array([[2, 0, 1], [1, 2, 0]]))
    assert federations.to_visits(schedule).tolist() == [1, 2, 0, 5, 3, 4]
    averaged = Schedule(
        trainer=[1, 0, -1, 0, 1, -1],
        parents=[[-1, -1], [-1, -1], [0, 1], [2, -1], [2, -1], [3, 4]],
        cycle=[0, 0, 0, 1, 1, 1],
        receivers=np.zeros((6, 2), bool),
    )
    assert federations.to_visits(averaged).tolist() == [1, 0, 2, 3, 4, 5]
    assert federations.to_visits(CYCLIC).tolist() == list(range(NODES * CYCLES))


def test_what_is_seen_moves_with_the_snapshots():
    rng = np.random.default_rng(0)
    (schedule,) = draw_orders(rng, 1)
    order, mask = federations.to_visits(schedule), rng.random(NODES * CYCLES) < 0.5
    sight = federations.make_sight(schedule, mask, order)
    for place, snapshot in enumerate(order):
        assert sight.mask[place] == mask[snapshot]
        before = int(sight.before[place])
        assert (order[before] if before >= 0 else -1) == schedule.before[snapshot]
    assert np.asarray(sight.visits).tolist() == np.arange(NODES * CYCLES).reshape(CYCLES, NODES).tolist()


def test_equal_orders_are_not_moved(make_evidence):
    arrays = make_evidence(Schedule.sequential(np.array([[2, 0, 1], [1, 2, 0]])))
    known = federations.make_federations(arrays)
    assert known.alike
    assert known.orders(known.fitted).tolist() == [list(range(6))] * 10
    moved = dataclasses.replace(arrays.references, schedule=Schedule.cyclic(nodes=3, cycles=2))
    assert not federations.make_federations(dataclasses.replace(arrays, references=moved)).alike


@pytest.fixture(scope="module")
def twins(deal):
    """The same signals by visit, of federations that all go round, and of federations in random orders.

    Whoever trained before makes no difference to a visit's signal, so that visits are exchangeable within a cycle.
    """
    rng = np.random.default_rng(0)
    difficulty = rng.normal(size=RECORDS)
    owners = np.stack([deal(rng, RECORDS, nodes=NODES) for _ in range(TARGETS + REFERENCES)])
    trained = owners[:, None, None, :] == np.arange(NODES)[:, None]  # [F, 1, N, M]
    noise = rng.normal(size=(len(owners), CYCLES, NODES, RECORDS))
    phi = (difficulty + 2 * trained + 0.7 * noise).astype(np.float32).reshape(len(owners), CYCLES * NODES, RECORDS)
    schedules = draw_orders(rng, len(owners))
    moved = np.stack([each[np.argsort(federations.to_visits(s))] for each, s in zip(phi, schedules, strict=True)])

    def make(phi, targets, references):
        scores = evidence.ModelScores(scores=phi[:TARGETS], thresholds=np.zeros(phi[:TARGETS].shape[:2], np.float32))
        of_targets, of_known = ({"phi@2.0": part / 2} for part in (phi[:TARGETS], phi[TARGETS:]))
        known = evidence.References(phi=phi[TARGETS:], owners=owners[TARGETS:], schedule=references, signals=of_known)
        return evidence.Evidence(
            phi=phi[:TARGETS],
            owners=owners[:TARGETS],
            schedule=targets,
            references=known,
            model_scores={"loss": scores},
            signals=of_targets,
        )

    orders = [Schedule.stack(some) for some in (schedules[:TARGETS], schedules[TARGETS:])]
    return make(phi, CYCLIC, None), make(moved, *orders)


def test_by_visit_the_order_makes_no_difference(twins):
    """What is said of the visit to a node in a cycle is the same wherever in the cycle it was."""
    regular, shuffled = (api.audit(arrays, ("lira_online", "calibration"), ("coordinator",)) for arrays in twins)
    first = regular.rows.filter(view="snapshot").sort("attack", "attacked", "replicate", "snapshot")
    second = shuffled.rows.filter(view="snapshot").sort("attack", "attacked", "replicate", "snapshot")
    assert first["snapshot"].equals(second["snapshot"])
    for name in ("auc", "accuracy", "tpr_at_fpr_0.01", "threshold"):
        np.testing.assert_allclose(first[name].to_numpy(), second[name].to_numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


def test_attacks_on_all_that_is_seen_read_by_visit(twins, monkeypatch):
    monkeypatch.setattr(trajectory, "NUM_UPDATES", 20)
    names = ("sequence_lira", "trajectory")
    regular, shuffled = (api.audit(arrays, names, ("coordinator",)).intervals for arrays in twins)
    np.testing.assert_allclose(regular["auc"].to_numpy(), shuffled["auc"].to_numpy(), rtol=1e-3)


def test_every_attack_takes_federations_in_their_own_orders(twins, short_fits):
    _, shuffled = twins
    views = ("outsider", "insider", "bracket", "coordinator", "bracket:2@2", "all_coalitions:3")
    tables = api.audit(shuffled, NAMES, views)
    assert set(tables.intervals["attack"]) == set(NAMES)
    best = dict(tables.intervals.filter(attacked="node").group_by("attack").agg(pl.col("auc").max()).rows())
    assert min(best.values()) > 0.7, best
    assert tables.intervals["auc"].null_count() == 0
    assert set(tables.coalitions["attack"]) == {"delta_phi", "peers", "sequence_lira", "trajectory"}
    named = tables.attribution.filter(way="sequence_lira", view="coordinator")
    assert named.filter(named["true"] == named["named"])["count"].sum() / named["count"].sum() > 0.6


def test_snapshots_are_named_by_their_own_order(twins):
    """What an attack on one snapshot reads of a bracket is the model just after the visit, at every target."""
    _, shuffled = twins
    table = api.audit(shuffled, ("loss", "calibration"), ("bracket",)).rows
    table = table.filter(table["view"] != "snapshot")
    for row in table.iter_rows(named=True):
        assert row["snapshot"] == f"C{CYCLES}{row['attacked']}"
    trained = [shuffled.schedule.at(replicate).trainer[-NODES:] for replicate in range(TARGETS)]
    assert len({tuple(order) for order in trained}) > 1


def test_a_visit_that_some_do_not_make_is_refused(twins):
    _, shuffled = twins
    order = np.array([[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]])
    regular = Schedule.sequential(order)
    trainer = np.where(regular.trainer == NODES - 1, -1, regular.trainer)  # as if the last node only averaged
    other = Schedule(trainer, regular.parents, regular.cycle, regular.receivers)
    known = dataclasses.replace(shuffled.references, schedule=other)
    with pytest.raises(ValueError, match="not the same nodes train in the same cycles"):
        api.audit(dataclasses.replace(shuffled, references=known), ("sequence_lira",), ("coordinator",))


def naive_places(schedule, insiders):
    """What each insider received and trained, cycle by cycle; what it trained where nothing came before."""
    places = []
    for cycle, node in itertools.product(range(schedule.cycles), insiders):
        (own,) = [t for t in range(len(schedule)) if (schedule.cycle[t], schedule.trainer[t]) == (cycle, node)]
        places += [max(own - 1, 0), own]
    return places


@pytest.mark.parametrize("insiders", [(), (1,), (0, 2)], ids=str)
def test_who_does_not_know_the_order_sees_each_snapshot_once_and_nobody_in_it(insiders):
    rng = np.random.default_rng(1)
    for schedule in draw_orders(rng, 5):
        layout = views.Layout(False, insiders)
        places = federations.without_order(schedule, layout)
        assert places.tolist() == (naive_places(schedule, insiders) if insiders else list(range(len(schedule))))
        mask = views.handled(schedule, insiders) if insiders else np.ones(len(schedule), bool)
        sight = federations.make_unordered_sight(schedule, mask, places)
        seen = places[np.asarray(sight.mask)]
        assert sorted(seen.tolist()) == np.flatnonzero(mask).tolist()
        assert (np.asarray(sight.before) == -1).all()
        assert (np.asarray(sight.visits) == -1).all()
        assert sight.visits.shape == (CYCLES, NODES)


@pytest.fixture(scope="module")
def both_readings(twins):
    """The same federations, read by who knows the order and by who does not."""
    _, shuffled = twins
    names = ("outsider_unordered", "insider", "insider_unordered", "coordinator", "coordinator_unordered")
    return api.audit(shuffled, ("loss", "calibration", "delta_phi", "sequence_lira"), names)


def test_who_does_not_know_the_order_learns_less_of_a_node(both_readings):
    """The same records, members and non-members; no attack that asks who trained what."""
    table = both_readings.intervals.filter(attacked="node")
    auc = {(attack, view): value for attack, view, value in table.select("attack", "view", "auc").rows()}
    assert auc["sequence_lira", "coordinator"] > auc["sequence_lira", "coordinator_unordered"] + 0.02
    assert auc["sequence_lira", "coordinator_unordered"] > 0.6  # the law of a member is a mixture
    assert {view for attack, view in auc if attack == "delta_phi"} == {"coordinator"}
    assert len(auc) == 3 * 5 + 1
    assert table["auc"].null_count() == 0
    pairs = both_readings.comparisons.filter(attack="sequence_lira", other_attack="sequence_lira")
    by_order = pairs.filter(sees="order").select("view", "other_view").rows()
    assert set(by_order) == {("insider", "insider_unordered"), ("coordinator", "coordinator_unordered")}
    more = pairs.filter(pl.col("view").str.ends_with("_unordered"))["other_view"]
    assert more.str.ends_with("_unordered").all()


def test_who_does_not_know_the_order_reads_the_last_snapshot(both_readings, twins):
    _, shuffled = twins
    read = both_readings.rows.filter(attack="loss", view="coordinator_unordered")
    for row in read.iter_rows(named=True):
        assert row["snapshot"] == shuffled.schedule.at(row["replicate"]).label(NODES * CYCLES - 1)


def test_without_the_order_nobody_names_the_node(both_readings):
    """Nodes are exchangeable: 1 in 4 by chance for who sees everything, 1 in 3 for an insider."""
    for view, candidates, parties in (("coordinator", 4, 1), ("insider", 3, 4)):
        named = both_readings.attribution.filter(way="sequence_lira", view=f"{view}_unordered")
        assert named["candidates"].unique().to_list() == [candidates]
        assert named["parties"].unique().to_list() == [parties]
        right = named.filter(named["true"] == named["named"])["count"].sum() / named["count"].sum()
        assert abs(right - 1 / candidates) < 0.1
    known = both_readings.attribution.filter(way="sequence_lira", view="coordinator")
    assert known.filter(known["true"] == known["named"])["count"].sum() / known["count"].sum() > 0.6
    ways = both_readings.attribution.filter(pl.col("view").str.ends_with("_unordered"))["way"].unique()
    assert set(ways) == {"sequence_lira"}


def test_references_in_the_order_of_the_targets_tell_it(twins):
    regular, _ = twins
    with pytest.raises(ValueError, match=r"references\.schedule: None, so that references go in the targets' order"):
        api.audit(regular, ("sequence_lira",), ("coordinator_unordered",))
