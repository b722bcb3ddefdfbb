"""The federation against a plain loop over nodes, and what a hand-off may depend on."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedmia_jax import federation, training, types

CYCLES, NODES, EPOCHS = 2, 3, 2
SIZES = (16, 25, 20)  # two, four and three batches: the second node's last one holds a single record
KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def shards(toy):
    parts = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])
    return jax.tree.map(lambda *leaves: np.stack(leaves), *(toy.shard(part, slots=max(SIZES)) for part in parts))


@pytest.fixture(scope="module")
def federate(toy):
    """`federate(state, shards, first_cycle=0, *, carry, num_cycles)`, compiled once for each choice."""

    @functools.cache
    def compiled(carry, num_cycles):
        run = federation.make_cycles(toy.fit_fn(skip_empty=True), optimizer="adam", carry_optimizer_state=carry)
        return jax.jit(functools.partial(run, num_cycles=num_cycles))

    def call(state, shards, first_cycle=0, *, carry=False, num_cycles=CYCLES):
        hyper = toy.hyper(dropout_rate=0.4)
        return compiled(carry, num_cycles)(state, toy.records, shards, hyper, KEY, EPOCHS, first_cycle)

    return call


@pytest.fixture(scope="module")
def start(toy):
    return toy.start(jax.random.key(0))


@pytest.fixture(scope="module")
def snapshots(federate, start, shards):
    return federate(start, shards)[1]


def naive_federation(toy, state, shards, *, carry):
    """One visit after the other; only parameters travel, or the optimizer's state too."""
    snapshots = []
    for cycle, node in itertools.product(range(CYCLES), range(NODES)):
        if not carry:
            state = types.TrainState(state.params, training.fresh_opt_state(state.params, optimizer="adam"))
        key = jax.random.fold_in(jax.random.fold_in(KEY, cycle), node)
        shard = types.Shard(shards.indices[node], shards.mask[node])
        hyper = toy.hyper(dropout_rate=0.4)
        state = toy.fit(skip_empty=True)(state, toy.records, shard, hyper, key, (0, EPOCHS))
        snapshots.append(state.params)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves).reshape(CYCLES, NODES, *leaves[0].shape), *snapshots)
    return state, stacked


@pytest.mark.parametrize("carry", [False, True])
def test_the_scan_equals_a_plain_loop(toy, federate, start, shards, equal, carry):
    equal(federate(start, shards, carry=carry), naive_federation(toy, start, shards, carry=carry), rtol=1e-5, atol=1e-6)


def test_carrying_the_optimizer_state_matters_from_the_second_visit(federate, start, shards, snapshots, equal, differ):
    carried = federate(start, shards, carry=True)[1]
    equal(first_visit(carried), first_visit(snapshots))
    assert differ(visit(carried, 0, 1), visit(snapshots, 0, 1))


def test_cycles_one_by_one_equal_one_call(federate, start, shards, snapshots, equal):
    state, parts = start, []
    for cycle in range(CYCLES):
        state, part = federate(state, shards, cycle, num_cycles=1)
        parts.append(part)
    equal(jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts), snapshots)


def test_snapshots_are_stacked_by_cycle_and_node(federate, start, shards, snapshots, equal):
    for leaf, own in zip(jax.tree.leaves(snapshots), jax.tree.leaves(start.params), strict=True):
        assert leaf.shape == (CYCLES, NODES, *own.shape)
    equal(visit(snapshots, CYCLES - 1, NODES - 1), federate(start, shards)[0].params)


def test_a_snapshot_depends_on_the_nodes_before_it_only(toy, federate, start, shards, snapshots, equal, differ):
    """Node 3 gets other records: its own hand-off is the first that differs."""
    indices = shards.indices.copy()
    indices[2] = np.where(shards.mask[2], indices[2] + 60, indices[2])
    other = federate(start, types.Shard(indices, shards.mask))[1]
    for node, same in enumerate((True, True, False)):
        assert differ(visit(other, 0, node), visit(snapshots, 0, node)) is not same
    assert differ(visit(other, 1, 0), visit(snapshots, 1, 0))


def test_a_visit_has_its_own_randomness(federate, start, shards, equal, differ):
    """The same node with the same records from the same parameters trains otherwise in another cycle."""
    now, later = (first_visit(federate(start, shards, cycle, num_cycles=1)[1]) for cycle in (0, 1))
    assert differ(now, later)


def visit(snapshots, cycle, node):
    return jax.tree.map(lambda leaf: leaf[cycle, node], snapshots)


def first_visit(snapshots):
    return visit(snapshots, 0, 0)
