"""Federated averaging against a plain loop and a weighted mean in NumPy, and one node against the travelling model."""

import jax
import numpy as np
import pytest

from fedmia_jax import errors, types
from fedmia_jax.audit import views
from fedmia_jax.learning import training
from fedmia_jax.protocols import contract, fedavg, sequential

CYCLES, EPOCHS = 2, 2
SIZES = (16, 25, 20)


@pytest.fixture(scope="module")
def make_shards(toy):
    def make(sizes):
        rows = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
        return jax.tree.map(lambda *leaves: np.stack(leaves), *(toy.shard(own, slots=max(sizes)) for own in rows))

    return make


@pytest.fixture(scope="module")
def federate(toy):
    """`federate(make_protocol, options, start, shards)`: (state, snapshots) of all cycles."""

    def visit(state, records, shard, hyper, key, local_epochs):
        return toy.fit_fn(skip_empty=True)(state, records, shard, hyper, key, (0, local_epochs))

    node = contract.Node(toy.start, fresh, visit)

    def call(make_protocol, options, start, shards):
        run = jax.jit(contract.make_cycles(make_protocol(options, node)))
        federation = contract.Federation(
            toy.records, shards, toy.hyper(dropout_rate=0.4), jax.random.key(7), np.array(EPOCHS)
        )
        order = np.tile(np.arange(len(shards.mask), dtype=np.int32), (CYCLES, 1))
        return run(start.params, federation, order, 0)

    return call


def fresh(params):
    return types.TrainState(params, training.fresh_opt_state(params, optimizer="adam"))


def test_rounds_equal_a_plain_loop(toy, federate, make_shards, equal):
    """Each node by itself from the last aggregate; then the mean over nodes, weighted by their records, in 64 bits."""
    start, shards = toy.start(jax.random.key(0)), make_shards(SIZES)
    aggregate, kept = start.params, []
    for cycle in range(CYCLES):
        trained = []
        for node in range(len(SIZES)):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), cycle), node)
            shard = types.Shard(shards.indices[node], shards.mask[node])
            fit = toy.fit(skip_empty=True)
            state = fit(fresh(aggregate), toy.records, shard, toy.hyper(dropout_rate=0.4), key, (0, EPOCHS))
            trained.append(state.params)
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves).astype(np.float64), *trained)
        aggregate = jax.tree.map(lambda leaf: np.average(leaf, axis=0, weights=SIZES).astype(np.float32), stacked)
        kept.append(jax.tree.map(lambda leaf, mean: np.concatenate([leaf, mean[None]]), stacked, aggregate))
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *kept)
    state, snapshots = federate(fedavg.make_protocol, fedavg.FEDAVG.options(), start, shards)
    equal(snapshots, expected, rtol=1e-5, atol=1e-6)
    equal(state, jax.tree.map(lambda leaf: leaf[-1, -1], snapshots))


def test_one_node_is_the_travelling_model(toy, federate, make_shards, equal):
    start, shards = toy.start(jax.random.key(0)), make_shards((25,))
    _, averaged = federate(fedavg.make_protocol, fedavg.FEDAVG.options(), start, shards)
    _, travelled = federate(sequential.make_protocol, sequential.Options(), start, shards)
    for place in (0, 1):  # what the node hands off, and the aggregate
        equal(
            jax.tree.map(lambda leaf, at=place: leaf[:, at], averaged), jax.tree.map(lambda leaf: leaf[:, 0], travelled)
        )


def test_the_schedule_by_hand():
    schedule = fedavg.FEDAVG.schedule(np.array([[0, 1], [0, 1]]))
    assert [schedule.label(snapshot) for snapshot in range(6)] == ["C1N1", "C1N2", "C1", "C2N1", "C2N2", "C2"]
    np.testing.assert_array_equal(schedule.parents, [[-1, -1], [-1, -1], [0, 1], [2, -1], [2, -1], [3, 4]])
    np.testing.assert_array_equal(schedule.receivers.all(axis=1), [False, False, True] * 2)
    assert not schedule.receivers[[0, 1, 3, 4]].any()


def test_who_sees_what():
    schedule = fedavg.FEDAVG.schedule(np.array([[0, 1], [0, 1]]))

    def seen(name):
        (party,) = views.make_view(name, schedule)
        return [schedule.label(snapshot) for snapshot in np.flatnonzero(party.mask)]

    assert seen("coordinator_secure") == ["C1", "C2"]
    assert len(seen("coordinator")) == 6
    assert seen("insider:1") == ["C1N1", "C1", "C2N1", "C2"]
    assert seen("outsider") == ["C2"]


def test_an_optimizer_state_cannot_be_carried(toy):
    with pytest.raises(errors.InputError, match=r"federation\.carry_optimizer_state=True: .* set it to False"):
        fedavg.make_protocol(sequential.Options(carry_optimizer_state=True), contract.Node(*[toy.start] * 3))
