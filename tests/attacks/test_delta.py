"""What a visit does to a record (`delta`, `peers`), along schedules of all kinds, against naive loops in float64."""

import jax.numpy as jnp
import naive
import numpy as np
import pytest
import worlds

from fedmia_jax.attacks import delta, peers, signals
from fedmia_jax.audit import attribution
from fedmia_jax.schedule import Schedule

# Three nodes start from one model; each cycle ends with an aggregate, from which the next one starts.
AVERAGED = Schedule(
    trainer=[0, 1, 2, -1, 2, 0, 1, -1],
    parents=[[-1] * 3, [-1] * 3, [-1] * 3, [0, 1, 2], [3, -1, -1], [3, -1, -1], [3, -1, -1], [4, 5, 6]],
    cycle=[0, 0, 0, 0, 1, 1, 1, 1],
    receivers=np.ones((8, 3), bool),
)
# In the last cycle node 2 is not there.
SPARSE = Schedule(
    trainer=[2, 0, 1, 1, 2, 0, 1, 0],
    parents=[[t - 1] for t in range(8)],
    cycle=[0, 0, 0, 1, 1, 1, 2, 2],
    receivers=np.ones((8, 3), bool),
)
# By hand: schedule, who trained each snapshot, and which snapshot it started from.
CASES = {
    "cyclic": (worlds.CYCLIC, [0, 1, 2, 0, 1, 2], [None, 0, 1, 2, 3, 4]),
    "shuffled": (worlds.SHUFFLED, [2, 0, 1, 1, 2, 0], [None, 0, 1, 2, 3, 4]),
    "averaged": (AVERAGED, [0, 1, 2, None, 2, 0, 1, None], [None, None, None, None, 3, 3, 3, None]),
    "sparse": (SPARSE, [2, 0, 1, 1, 2, 0, 1, 0], [None, 0, 1, 2, 3, 4, 5, 6]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("node", [0, 1, 2])
def test_steps_are_the_formulas(double, case, node):
    schedule, trainer, before = CASES[case]
    phi = np.random.default_rng(node).normal(size=(len(schedule), 40))
    for mask in (np.ones(len(schedule), bool), np.arange(len(schedule)) >= 2, np.arange(len(schedule)) != 4):
        sight = worlds.look(mask, schedule)
        expected = naive.delta(phi, mask, trainer, before, node)
        scores = delta.by_node(jnp.asarray(phi), sight)[node]
        np.testing.assert_allclose(np.where(scores == -np.inf, np.nan, scores), expected, atol=1e-8)
        expected = naive.peers(phi, mask, trainer, before, schedule.cycle.tolist(), node)
        scores = peers.by_node(jnp.asarray(phi), sight)[node]
        np.testing.assert_allclose(np.where(scores == -np.inf, np.nan, scores), expected, atol=1e-8)
    assert np.isfinite(naive.delta(phi, np.ones(len(schedule), bool), trainer, before, node)).all()


@pytest.mark.parametrize("node", [0, 1, 2])
def test_attacks_score_the_steps_of_the_node(double, node):
    references, target, _ = worlds.draw_world()
    values = {
        "delta_phi": np.asarray(target),
        "delta_loss": -np.asarray(signals.loss(target)),
        "delta_ratio": -np.log(np.asarray(signals.loss(target)) + 1e-12),
    }
    _, trainer, before = CASES["cyclic"]
    for mask in (worlds.EVERYTHING, np.arange(worlds.SNAPSHOTS) >= 2):
        for name, value in values.items():
            scores = worlds.score(worlds.make(name), references, target, node=node, sight=worlds.look(mask))
            np.testing.assert_allclose(scores, naive.delta(value, mask, trainer, before, node), atol=1e-8)
    mask, sight = worlds.EVERYTHING, worlds.look(worlds.EVERYTHING)
    scores = worlds.score(worlds.make("peers"), references, target, node=node, sight=sight)
    expected = naive.peers(np.asarray(target), mask, trainer, before, [0, 0, 0, 1, 1, 1], node)
    np.testing.assert_allclose(scores, expected, atol=1e-8)


def test_a_step_needs_both_of_its_ends():
    step, schedule = worlds.make("delta_loss"), worlds.CYCLIC
    assert step.suffices(schedule, np.array([1, 1, 0, 0, 0, 0], bool), 1)
    assert not step.suffices(schedule, np.array([1, 0, 1, 1, 0, 0], bool), 1)
    among = worlds.make("peers")
    assert among.suffices(schedule, worlds.EVERYTHING, 0)
    assert not among.suffices(schedule, np.arange(worlds.SNAPSHOTS) < 3, 0)  # in the first cycle nothing is before N1
    assert not among.suffices(schedule, np.array([0, 0, 1, 1, 1, 0], bool), 1)  # a single other node


def test_a_step_starts_where_the_schedule_says():
    step, among = worlds.make("delta_loss"), worlds.make("peers")
    assert step.suffices(AVERAGED, np.arange(8) >= 3, 2)
    assert not step.suffices(AVERAGED, np.arange(8) >= 4, 2)  # without the aggregate that it started from
    assert not step.suffices(AVERAGED, np.arange(8) < 4, 2)  # only the initial model is before the first cycle
    assert among.suffices(AVERAGED, np.arange(8) >= 3, 2)
    assert not among.suffices(AVERAGED, np.array([0, 0, 0, 1, 1, 1, 0, 0], bool), 2)
    assert not among.suffices(worlds.SHUFFLED, np.arange(worlds.SNAPSHOTS) < 3, 1)
    assert among.suffices(worlds.SHUFFLED, np.arange(worlds.SNAPSHOTS) >= 2, 1)
    assert not among.suffices(SPARSE, np.arange(8) >= 5, 0)  # one other node in the last cycle


@pytest.mark.parametrize("schedule", [worlds.CYCLIC, worlds.SHUFFLED], ids=["cyclic", "shuffled"])
def test_the_only_node_that_moves_is_named(schedule):
    phi = np.zeros((worlds.SNAPSHOTS, 90), np.float32)
    owners = np.repeat(np.arange(worlds.NODES), 30)
    for node in range(worlds.NODES):
        phi[schedule.visits[1, node], owners == node] += 5.0  # only the second visit to the owner moves anything
    sight = worlds.look(worlds.EVERYTHING, schedule)
    for scores in (
        delta.by_node(jnp.asarray(phi), sight),
        attribution.source_losses(jnp.asarray(phi), sight.mask, sight.visits),
    ):
        counts = attribution.confusion(scores, jnp.asarray(owners), nodes=worlds.NODES)
        np.testing.assert_array_equal(counts, 30 * np.eye(worlds.NODES))


def test_exchangeable_nodes_are_named_by_chance():
    rng = np.random.default_rng(0)
    owners = jnp.asarray(rng.integers(-1, worlds.NODES, size=20_000))
    scores = jnp.asarray(rng.normal(size=(worlds.NODES, 20_000)))
    counts = attribution.confusion(scores, owners, nodes=worlds.NODES)
    assert counts.sum() == (owners >= 0).sum()
    assert np.trace(counts) / counts.sum() == pytest.approx(1 / worlds.NODES, abs=0.015)
