"""Orders and their draw, cycles cut anywhere, keys of visits, and protocols by name; covers `__init__.py` too."""

import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedmia_jax import errors, protocols, types
from fedmia_jax.protocols import contract, sequential


def draw(kind, seed, *, nodes=4, cycles=6):
    """An order by a generator of its own."""
    return contract.draw_order(kind, np.random.default_rng(seed), nodes=nodes, cycles=cycles)


def test_a_fixed_order_is_the_nodes_in_turn():
    np.testing.assert_array_equal(draw("fixed", 0), [[0, 1, 2, 3]] * 6)
    np.testing.assert_array_equal(draw("fixed", 1), draw("fixed", 0))
    assert draw("fixed", 0).dtype == np.int32
    assert draw("fixed", 0, cycles=0).shape == draw("random", 0, cycles=0).shape == (0, 4)


def test_a_random_order_lets_every_node_train_once_a_cycle():
    order = draw("random", 0, nodes=5, cycles=40)
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order, axis=1), [range(5)] * 40)
    assert len({row.tobytes() for row in order}) > 20


def test_a_random_order_depends_on_its_generator_only():
    np.testing.assert_array_equal(draw("random", 3), draw("random", 3))
    assert not np.array_equal(draw("random", 3), draw("random", 4))


def test_a_random_order_is_uniform():
    """All six orders of three nodes come equally often in 6,000 cycles (chi-square, 5 degrees, p = 1e-4: 25.7)."""
    counts = collections.Counter(row.tobytes() for row in draw("random", 0, nodes=3, cycles=6000))
    assert len(counts) == 6
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 25.7


def test_without_repetition_no_node_trains_twice_in_a_row():
    order = draw(contract.NO_REPEAT, 0, nodes=3, cycles=200)
    np.testing.assert_array_equal(np.sort(order, axis=1), [range(3)] * 200)
    assert (np.diff(order.reshape(-1)) != 0).all()
    assert draw(contract.NO_REPEAT, 0, cycles=0).shape == (0, 4)


def test_without_repetition_a_cycle_is_uniform_over_what_is_left():
    """Of three nodes four orders may follow each, all equally often (chi-square, 9 degrees, p = 1e-4: 33.7)."""
    order = draw(contract.NO_REPEAT, 1, nodes=3, cycles=6001)
    pairs = [(first[-1], second.tobytes()) for first, second in itertools.pairwise(order)]
    counts = collections.Counter(pairs)
    assert len(counts) == 12
    assert sum((count - 500) ** 2 / 500 for count in counts.values()) < 33.7 + 2.0  # ends are not independent


def test_two_nodes_without_repetition_go_in_turn_and_one_is_refused():
    np.testing.assert_array_equal(draw(contract.NO_REPEAT, 5, nodes=2), draw("fixed", 0, nodes=2))
    with pytest.raises(errors.InputError, match=r"federation\.order='random_no_repeat': federation\.nodes=1 would"):
        draw(contract.NO_REPEAT, 0, nodes=1)
    kinds = [contract.is_drawn(kind, nodes=nodes) for kind in contract.ORDERS for nodes in (1, 2, 3)]
    assert kinds == [False, False, False, False, True, True, False, False, True]


def counting_protocol():
    """A protocol whose model is a number: each visit adds a draw and the node's own number, in the order given."""

    def play_round(state, federation, order, cycle):
        def visit(total, node):
            drawn = jax.random.uniform(contract.visit_key(federation, cycle, node))
            total = 0.9 * total + federation.shards.indices[node, 0] + drawn
            return total, {"total": total}

        return jax.lax.scan(visit, state, order)

    return contract.Protocol(lambda key: jnp.zeros(()), play_round)


@pytest.fixture(scope="module")
def run_cycles():
    """`run_cycles(state, orders, first_cycle)`, compiled once for each number of cycles."""
    records = types.Records(jnp.zeros((1, 1)), jnp.zeros(1, jnp.int32))
    shards = types.Shard(jnp.arange(4)[:, None], jnp.ones((4, 1), bool))
    hyper = types.Hyper(np.float32(0.1), np.float32(0.0))
    federation = contract.Federation(records, shards, hyper, jax.random.key(1), jnp.array(1))
    compiled = jax.jit(contract.make_cycles(counting_protocol()))
    return lambda state, orders, first_cycle: compiled(state, federation, orders, first_cycle)


def test_cycles_equal_a_plain_loop(run_cycles):
    orders, total, totals = draw("random", 0), 0.0, []
    for cycle, order in enumerate(orders):
        for node in order:
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), cycle), node)
            total = 0.9 * total + node + float(jax.random.uniform(key))
            totals.append(total)
    state, snapshots = run_cycles(jnp.zeros(()), orders, 0)
    assert snapshots["total"].shape == (6, 4)
    np.testing.assert_allclose(snapshots["total"].reshape(-1), totals, rtol=1e-5)
    np.testing.assert_array_equal(state, snapshots["total"][-1, -1])


@pytest.mark.parametrize("lengths", [[6], [1] * 6, [2, 4], [1, 3, 2]], ids=str)
def test_cycles_cut_anywhere_equal_one_call(run_cycles, lengths):
    orders, state, kept = draw("random", 0), jnp.zeros(()), []
    first = 0
    for length in lengths:
        state, snapshots = run_cycles(state, orders[first : first + length], first)
        kept.append(snapshots["total"])
        first += length
    whole_state, whole = run_cycles(jnp.zeros(()), orders, 0)
    np.testing.assert_array_equal(np.concatenate(kept), whole["total"])
    np.testing.assert_array_equal(state, whole_state)


@pytest.mark.parametrize(
    ("cycles", "wanted", "scored"),
    [
        (5, None, (0, 1, 2, 3, 4)),
        (200, 5, (39, 79, 119, 159, 199)),
        (7, 3, (1, 3, 6)),
        (3, 5, (0, 1, 2)),
        (0, None, ()),
        (0, 2, ()),
    ],
)
def test_scored_cycles_are_evenly_spaced_and_end_with_the_last(cycles, wanted, scored):
    assert contract.scored_cycles(contract.Options(cycles=cycles, scored_cycles=wanted)) == scored


def test_every_visit_has_a_key_of_its_own():
    records = types.Records(jnp.zeros((1, 1)), jnp.zeros(1, jnp.int32))
    shards, hyper = types.Shard(jnp.zeros((1, 1), int), jnp.ones((1, 1), bool)), types.Hyper(0.1, 0.0)
    keys = set()
    for seed in (0, 1):
        federation = contract.Federation(records, shards, hyper, jax.random.key(seed), jnp.array(1))
        for cycle, node in np.ndindex(3, 4):
            key = contract.visit_key(federation, jnp.array(cycle), jnp.array(node))
            keys.add(tuple(jax.random.key_data(key).tolist()))
    assert len(keys) == 2 * 3 * 4


def test_protocols_are_found_by_name():
    assert protocols.find("sequential") is sequential.SEQUENTIAL
    assert protocols.find("toys.protocol:MEAN").schedule(np.array([[0, 1]])).label(2) == "C1"
    for name, line in {
        "ring": "federation.kind='ring': must be one of sequential, fedavg, or package.module:name",
        "toys.defense:SHIFT": "federation.kind='toys.defense:SHIFT': defenses.contract.Factory, not protocols",
    }.items():
        with pytest.raises(errors.InputError) as caught:
            protocols.find(name)
        assert str(caught.value).startswith(line)


def test_a_round_must_leave_what_the_next_one_takes():
    start = types.TrainState({"w": jnp.zeros(3)}, None)

    def check(after, snapshots, num_snapshots=2):
        protocol = contract.Protocol(lambda key: start.params, lambda state, *_: (after, snapshots))
        return contract.check(protocol, start, nodes=2, num_snapshots=num_snapshots)

    two = {"w": jnp.zeros((2, 3))}
    assert check(start.params, two) is None
    assert "leaves another state" in check({"w": jnp.zeros(4)}, two)
    assert "gives snapshots of [2, 3], expected [3, 3]" in check(start.params, two, num_snapshots=3)
    assert "gives snapshots of" in check(start.params, {"v": two["w"]})
