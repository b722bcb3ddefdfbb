"""The travelling model against a plain loop over nodes, what a hand-off may depend on, and orders as arguments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedmia_jax import types
from fedmia_jax.learning import training
from fedmia_jax.protocols import contract, sequential
from fedmia_jax.schedule import Schedule

CYCLES, NODES, EPOCHS = 2, 3, 2
SIZES = (16, 25, 20)  # two, four and three batches: the second node's last one holds a single record
FIXED = np.array([[0, 1, 2]] * CYCLES, np.int32)
OTHER = np.array([[2, 0, 1], [1, 0, 2]], np.int32)


@pytest.fixture(scope="module")
def shards(toy):
    rows = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])
    return jax.tree.map(lambda *leaves: np.stack(leaves), *(toy.shard(own, slots=max(SIZES)) for own in rows))


@pytest.fixture(scope="module")
def make_protocol(toy):
    """`make_protocol(carry)` of nodes without a defence."""

    def fresh(params):
        return types.TrainState(params, training.fresh_opt_state(params, optimizer="adam"))

    def visit(state, records, shard, hyper, key, local_epochs):
        return toy.fit_fn(skip_empty=True)(state, records, shard, hyper, key, (0, local_epochs))

    node = contract.Node(toy.start, fresh, visit)
    return lambda carry: sequential.make_protocol(sequential.Options(carry_optimizer_state=carry), node)


@pytest.fixture(scope="module")
def federate(toy, make_protocol, as_launched):
    """`federate(start, shards, first_cycle=0, *, carry, order)`: (state, snapshots), compiled once for each shape."""

    @functools.cache
    def compiled(carry):
        return jax.jit(contract.make_cycles(make_protocol(carry)), **as_launched)

    def call(start, shards, first_cycle=0, *, carry=False, order=FIXED):
        hyper, key = toy.hyper(dropout_rate=0.4), jax.random.key(7)
        federation = contract.Federation(toy.records, shards, hyper, key, jnp.array(EPOCHS))
        return compiled(carry)(start if carry else start.params, federation, order, first_cycle)

    return call


@pytest.fixture(scope="module")
def start(toy):
    return toy.start(jax.random.key(0))


@pytest.fixture(scope="module")
def snapshots(federate, start, shards):
    return federate(start, shards)[1]


def naive_federation(toy, state, shards, *, carry, order):
    """One visit after the other; only parameters travel, or the optimizer's state too."""
    snapshots = []
    for cycle, place in np.ndindex(CYCLES, NODES):
        node = order[cycle, place]
        if not carry:
            state = types.TrainState(state.params, training.fresh_opt_state(state.params, optimizer="adam"))
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), cycle), node)
        shard = types.Shard(shards.indices[node], shards.mask[node])
        hyper = toy.hyper(dropout_rate=0.4)
        state = toy.fit(skip_empty=True)(state, toy.records, shard, hyper, key, (0, EPOCHS))
        snapshots.append(state.params)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves).reshape(CYCLES, NODES, *leaves[0].shape), *snapshots)
    return state if carry else state.params, stacked


@pytest.mark.parametrize("order", [FIXED, OTHER], ids=["fixed", "other"])
@pytest.mark.parametrize("carry", [False, True])
def test_the_scan_equals_a_plain_loop(toy, federate, start, shards, equal, carry, order):
    expected = naive_federation(toy, start, shards, carry=carry, order=order)
    equal(federate(start, shards, carry=carry, order=order), expected, rtol=1e-5, atol=1e-6)


def test_another_order_is_no_new_program(federate, start, shards, compilations):
    federate(start, shards)
    with compilations() as names:
        federate(start, shards, order=OTHER)
    assert names == []


def test_a_node_trains_when_the_order_says(toy, federate, start, shards, snapshots, equal, differ):
    """The first node gets other records: what was handed off before its visit stays."""
    indices = shards.indices.copy()
    indices[0] = np.where(shards.mask[0], indices[0] + 60, indices[0])
    before, after = (federate(start, shards, order=OTHER)[1] for shards in (shards, types.Shard(indices, shards.mask)))
    equal(visit(before, 0, 0), visit(after, 0, 0))  # node 3 goes first
    assert all(differ(visit(before, *place), visit(after, *place)) for place in ((0, 1), (0, 2), (1, 0)))
    assert differ(visit(before, 0, 0), visit(snapshots, 0, 0))


def test_the_schedule_says_who_trained_the_snapshots(federate, start, shards, snapshots, equal, differ):
    """Trained alone from its parent, each snapshot's node gives that snapshot; P is N."""
    schedule = sequential.SEQUENTIAL.schedule(OTHER)
    assert isinstance(schedule, Schedule)
    np.testing.assert_array_equal(schedule.trainer.reshape(CYCLES, NODES), OTHER)
    made = federate(start, shards, order=OTHER)[1]
    for snapshot in (1, 3):
        cycle, place = divmod(snapshot, NODES)
        parent = visit(made, *divmod(int(schedule.before[snapshot]), NODES))
        order = np.full((CYCLES, NODES), schedule.trainer[snapshot], np.int32)
        again = federate(types.TrainState(parent, None), shards, cycle, order=order)[1]
        equal(visit(again, 0, 0), visit(made, cycle, place), rtol=1e-5, atol=1e-6)


def test_carrying_the_optimizer_state_matters_from_the_second_visit(federate, start, shards, snapshots, equal, differ):
    carried = federate(start, shards, carry=True)[1]
    equal(first_visit(carried), first_visit(snapshots))
    assert differ(visit(carried, 0, 1), visit(snapshots, 0, 1))


def test_cycles_one_by_one_equal_one_call(federate, start, shards, snapshots, equal):
    params, kept = start.params, []
    for cycle in range(CYCLES):
        state = types.TrainState(params, None)  # parameters are all that travels
        params, of_cycle = federate(state, shards, cycle, order=FIXED[cycle : cycle + 1])
        kept.append(of_cycle)
    equal(jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *kept), snapshots)


def test_snapshots_are_stacked_by_cycle_and_node(federate, start, shards, snapshots, equal):
    for leaf, own in zip(jax.tree.leaves(snapshots), jax.tree.leaves(start.params), strict=True):
        assert leaf.shape == (CYCLES, NODES, *own.shape)
    equal(visit(snapshots, CYCLES - 1, NODES - 1), federate(start, shards)[0])


def test_a_snapshot_depends_on_the_nodes_before_it_only(federate, start, shards, snapshots, differ):
    """Node 3 gets other records: its own hand-off is the first that differs."""
    indices = shards.indices.copy()
    indices[2] = np.where(shards.mask[2], indices[2] + 60, indices[2])
    other = federate(start, types.Shard(indices, shards.mask))[1]
    for node, same in enumerate((True, True, False)):
        assert differ(visit(other, 0, node), visit(snapshots, 0, node)) is not same
    assert differ(visit(other, 1, 0), visit(snapshots, 1, 0))


def test_a_visit_has_its_own_randomness(federate, start, shards, differ):
    """The same node with the same records from the same parameters trains otherwise in another cycle."""
    now, later = (first_visit(federate(start, shards, cycle)[1]) for cycle in (0, 1))
    assert differ(now, later)


def test_what_travels_before_the_first_cycle(make_protocol, toy, equal):
    """The initial model, with the optimizer's state only where that is handed on."""
    key = jax.random.key(0)
    equal(make_protocol(True).init(key), toy.start(key))
    equal(make_protocol(False).init(key), toy.start(key).params)


def visit(snapshots, cycle, node):
    return jax.tree.map(lambda leaf: leaf[cycle, node], snapshots)


def first_visit(snapshots):
    return visit(snapshots, 0, 0)
