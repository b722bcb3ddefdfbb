"""Schedules against arithmetic and naive walks: who trained what from what, and how long ago."""

import numpy as np
import pytest

from fedmia_jax.schedule import AGGREGATE, NOBODY, Schedule


def averaging(*, nodes=3, cycles=2):
    """Every node trains the last aggregate, then a server averages them and sends the mean to all."""
    trainer, parents, cycle, receivers = [], [], [], []
    aggregate = NOBODY
    for number in range(cycles):
        first = len(trainer)
        for node in range(nodes):
            trainer.append(node)
            parents.append([aggregate] + [NOBODY] * (nodes - 1))
            receivers.append([False] * nodes)
        trainer.append(AGGREGATE)
        parents.append(list(range(first, first + nodes)))
        receivers.append([True] * nodes)
        cycle += [number] * (nodes + 1)
        aggregate = first + nodes
    return Schedule(np.array(trainer), np.array(parents), np.array(cycle), np.array(receivers))


def naive_ages(schedule):
    """Hand-offs since each node trained, by a walk back over all parents, nearest first."""
    ages = np.full((len(schedule), schedule.nodes), len(schedule))
    for snapshot in range(len(schedule)):
        layer, seen, age = {snapshot}, set(), 0
        while layer:
            for ancestor in layer:
                trainer = schedule.trainer[ancestor]
                if trainer != AGGREGATE:
                    ages[snapshot, trainer] = min(ages[snapshot, trainer], age)
            seen |= layer
            layer = {parent for ancestor in layer for parent in schedule.parents[ancestor] if parent != NOBODY} - seen
            age += 1
    return ages


SCHEDULES = {
    "cyclic": Schedule.cyclic(nodes=3, cycles=4),
    "one node": Schedule.cyclic(nodes=1, cycles=3),
    "other orders": Schedule.sequential(np.array([[2, 0, 1], [1, 2, 0], [0, 2, 1]])),
    "some nodes a cycle": Schedule.sequential(np.array([[2, 0], [1, 3], [3, 0]])),
    "averaging": averaging(),
    "averaging of two": averaging(nodes=2, cycles=4),
    "nothing": Schedule.cyclic(nodes=3, cycles=0),
}


@pytest.fixture(params=SCHEDULES)
def schedule(request):
    """Each of `SCHEDULES`."""
    return SCHEDULES[request.param]


@pytest.mark.parametrize(("nodes", "cycles"), [(1, 1), (2, 5), (3, 4), (7, 2)])
def test_a_cyclic_schedule_is_its_arithmetic(nodes, cycles):
    """Snapshot cycle * nodes + node, made from the one before and sent to the next node."""
    schedule = Schedule.cyclic(nodes=nodes, cycles=cycles)
    assert (len(schedule), schedule.nodes, schedule.cycles, schedule.shared) == (nodes * cycles, nodes, cycles, True)
    for cycle, node in np.ndindex(cycles, nodes):
        snapshot = cycle * nodes + node
        assert schedule.trainer[snapshot] == node
        assert schedule.cycle[snapshot] == cycle
        assert schedule.parents[snapshot].tolist() == [snapshot - 1]
        assert schedule.before[snapshot] == snapshot - 1
        assert schedule.visits[cycle, node] == snapshot
        assert schedule.label(snapshot) == f"C{cycle + 1}N{node + 1}"
        assert schedule.node(snapshot) == node + 1
        last = snapshot == nodes * cycles - 1
        assert np.flatnonzero(schedule.receivers[snapshot]).tolist() == ([] if last else [(node + 1) % nodes])


def test_a_cyclic_schedule_ages_by_one_a_hand_off():
    schedule = Schedule.cyclic(nodes=3, cycles=4)
    for snapshot, node in np.ndindex(12, 3):
        age = (snapshot - node) % 3
        assert schedule.ages[snapshot, node] == (age if age <= snapshot - node else 12)


def test_an_order_is_read_cycle_by_cycle():
    order = np.array([[2, 0, 1], [1, 2, 0], [0, 2, 1]])
    schedule = Schedule.sequential(order)
    labels = [f"C{cycle + 1}N{node + 1}" for cycle in range(3) for node in order[cycle]]
    assert [schedule.label(snapshot) for snapshot in range(9)] == labels
    np.testing.assert_array_equal(schedule.visits, [[1, 2, 0], [5, 3, 4], [6, 8, 7]])
    np.testing.assert_array_equal(schedule.before, np.arange(9) - 1)
    np.testing.assert_array_equal(schedule.receivers.argmax(axis=1)[:-1], schedule.trainer[1:])
    np.testing.assert_array_equal(schedule.receivers.sum(axis=1), [1] * 8 + [0])


def test_a_node_may_miss_a_cycle():
    schedule = Schedule.sequential(np.array([[2, 0], [1, 2]]), nodes=5)
    assert (schedule.nodes, schedule.cycles, len(schedule)) == (5, 2, 4)
    np.testing.assert_array_equal(schedule.visits, [[1, NOBODY, 0, NOBODY, NOBODY], [NOBODY, 2, 3, NOBODY, NOBODY]])
    assert Schedule.sequential(np.array([[2, 0], [1, 2]])).nodes == 3


def test_some_cycles_by_themselves_keep_their_numbers_and_know_no_other_parents():
    whole = Schedule.cyclic(nodes=3, cycles=6)
    some = whole.of_cycles([1, 4, 5])
    assert [some.label(at) for at in range(9)] == [f"C{cycle}N{node}" for cycle in (2, 5, 6) for node in (1, 2, 3)]
    np.testing.assert_array_equal(some.before, [NOBODY, 0, 1, NOBODY, 3, 4, 5, 6, 7])
    np.testing.assert_array_equal(some.visits, np.arange(9).reshape(3, 3))
    np.testing.assert_array_equal(some.receivers, whole.receivers[whole.cycle % 3 != 0][[0, 1, 2, 6, 7, 8, 9, 10, 11]])
    assert some.cycles == 6
    stacked = Schedule.stack([whole, Schedule.sequential([[2, 1, 0]] * 6)]).of_cycles([1, 4, 5])
    np.testing.assert_array_equal(stacked.at(0).parents, some.parents)
    assert all(np.array_equal(getattr(whole.of_cycles(range(6)), name), getattr(whole, name)) for name in vars(some))


def test_averages_of_some_cycles():
    some = averaging().of_cycles([1])
    assert some.parents.tolist() == [[-1, -1, -1]] * 3 + [[0, 1, 2]]
    assert [some.label(at) for at in range(4)] == ["C2N1", "C2N2", "C2N3", "C2"]


def test_an_aggregate_has_no_node_and_many_parents():
    schedule = averaging()
    labels = [schedule.label(snapshot) for snapshot in range(len(schedule))]
    assert labels == ["C1N1", "C1N2", "C1N3", "C1", "C2N1", "C2N2", "C2N3", "C2"]
    assert [schedule.node(snapshot) for snapshot in range(8)] == [1, 2, 3, None, 1, 2, 3, None]
    assert schedule.parents[7].tolist() == [4, 5, 6]
    np.testing.assert_array_equal(schedule.before, [-1, -1, -1, -1, 3, 3, 3, -1])
    np.testing.assert_array_equal(schedule.visits, [[0, 1, 2], [4, 5, 6]])
    # An aggregate is one hand-off after each of its nodes; what a node trains then is two after the others.
    np.testing.assert_array_equal(
        schedule.ages,
        [[0, 8, 8], [8, 0, 8], [8, 8, 0], [1, 1, 1], [0, 2, 2], [2, 0, 2], [2, 2, 0], [1, 1, 1]],
    )


def test_ages_equal_a_walk_over_all_ancestors(schedule):
    np.testing.assert_array_equal(schedule.ages, naive_ages(schedule))


def test_visits_lead_back_to_trainer_and_cycle(schedule):
    for cycle, node in np.ndindex(*schedule.visits.shape):
        at = np.flatnonzero((schedule.cycle == cycle) & (schedule.trainer == node))
        assert schedule.visits[cycle, node] == (at[0] if at.size else NOBODY)


@pytest.mark.parametrize("seed", range(4))
def test_bracketed_visits_are_seen_on_both_ends(schedule, seed):
    mask = np.random.default_rng(seed).random(len(schedule)) < 0.6
    for node in range(schedule.nodes):
        expected = [
            snapshot
            for snapshot in range(len(schedule))
            if schedule.trainer[snapshot] == node
            and mask[snapshot]
            and schedule.before[snapshot] != NOBODY  # the initial model is no snapshot
            and mask[schedule.before[snapshot]]
        ]
        assert schedule.bracketed(mask, node).tolist() == expected


@pytest.mark.parametrize("seed", range(4))
def test_the_freshest_has_the_fewest_hand_offs_and_is_the_latest_of_those(schedule, seed):
    mask = np.random.default_rng(seed).random(len(schedule)) < 0.5
    if not mask.any():
        mask[-1:] = True
    ages = naive_ages(schedule)
    for node in range(schedule.nodes if mask.any() else 0):
        best = min((ages[snapshot, node], -snapshot) for snapshot in np.flatnonzero(mask))
        assert schedule.freshest(mask, node) == -best[1]
    if mask.any():
        assert schedule.freshest(mask, schedule.nodes) == np.flatnonzero(mask)[-1]


def test_what_was_seen_before_a_nodes_first_visit_is_as_fresh_as_it_gets():
    """All are as old as can be, so that the last one counts."""
    schedule = Schedule.cyclic(nodes=3, cycles=2)
    mask = np.array([True, True, False, False, False, False])
    assert schedule.freshest(mask, 2) == 1
    assert schedule.bracketed(mask, 2).tolist() == []


def test_equal_schedules_stack_to_one():
    schedule = Schedule.cyclic(nodes=2, cycles=2)
    assert Schedule.stack([schedule, Schedule.cyclic(nodes=2, cycles=2)]) is schedule
    assert schedule.at(1) is schedule


def test_different_schedules_stack_and_come_apart_again():
    orders = np.array([[[0, 1], [1, 0]], [[1, 0], [1, 0]], [[0, 1], [0, 1]]])
    several = [Schedule.sequential(order) for order in orders]
    stacked = Schedule.stack(several)
    assert not stacked.shared
    assert stacked.trainer.shape == (3, 4)
    assert (len(stacked), stacked.nodes, stacked.cycles) == (4, 2, 2)
    for replicate, schedule in enumerate(several):
        for name in ("trainer", "parents", "cycle", "receivers"):
            np.testing.assert_array_equal(getattr(stacked.at(replicate), name), getattr(schedule, name))
        assert stacked.at(replicate).shared


def test_different_schedules_are_asked_one_by_one():
    stacked = Schedule.stack([Schedule.sequential(np.array([order])) for order in ([0, 1], [1, 0])])
    questions = [
        lambda: stacked.ages,
        lambda: stacked.before,
        lambda: stacked.visits,
        lambda: stacked.label(0),
        lambda: stacked.node(0),
        lambda: stacked.freshest(np.ones(2, bool), 0),
        lambda: stacked.bracketed(np.ones(2, bool), 0),
    ]
    for question in questions:
        with pytest.raises(ValueError, match="replicates go in different orders"):
            question()


@pytest.mark.parametrize(
    "other",
    [Schedule.cyclic(nodes=3, cycles=2), Schedule.cyclic(nodes=2, cycles=3), averaging(nodes=2, cycles=2)],
    ids=["nodes", "cycles", "snapshots"],
)
def test_schedules_of_other_federations_do_not_stack(other):
    with pytest.raises(ValueError, match="schedules of replicates must have the same cycles, snapshots and nodes"):
        Schedule.stack([Schedule.cyclic(nodes=2, cycles=2), other])


VALID = {
    "trainer": [0, 1, 0, 1],
    "parents": [[-1], [0], [1], [2]],
    "cycle": [0, 0, 1, 1],
    "receivers": [[False, True], [True, False], [False, True], [False, False]],
}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"trainer": [0, 1, 0]}, "do not belong together"),
        ({"trainer": 0}, "do not belong together"),
        ({"trainer": [[[0, 1, 0, 1]]]}, "do not belong together"),
        ({"parents": [[-1], [0], [1]]}, "do not belong together"),
        ({"parents": [-1, 0, 1, 2]}, "do not belong together"),
        ({"receivers": [[False, True]] * 3}, "do not belong together"),
        ({"trainer": [[0, 1, 0, 1]] * 2}, "do not belong together"),
        ({"cycle": [0, 0, 1]}, "cycle .* must rise from 0"),
        ({"cycle": [0, 1, 0, 1]}, "cycle .* must rise from 0"),
        ({"cycle": [-1, 0, 1, 1]}, "cycle .* must rise from 0"),
        ({"trainer": [0, 2, 0, 1]}, r"trainer must lie between -1 and 1, got \[0, 2, 0, 1\]"),
        ({"trainer": [0, -2, 0, 1]}, "trainer must lie between -1 and 1"),
        ({"parents": [[-1], [1], [1], [2]]}, "a parent must be an earlier snapshot, or -1"),
        ({"parents": [[-1], [3], [1], [2]]}, "a parent must be an earlier snapshot, or -1"),
        ({"parents": [[-2], [0], [1], [2]]}, "a parent must be an earlier snapshot, or -1"),
        ({"cycle": [0, 0, 0, 1]}, "a node may train once in a cycle; split the cycle in two"),
        ({"trainer": [0, 0, 0, 1]}, "a node may train once in a cycle; split the cycle in two"),
    ],
)
def test_what_is_no_schedule_is_refused(changes, line):
    Schedule(**VALID)
    with pytest.raises(ValueError, match=line):
        Schedule(**{**VALID, **changes})


def test_aggregates_may_be_many_in_a_cycle():
    schedule = Schedule(**{**VALID, "trainer": [0, -1, -1, 1]})
    assert [schedule.label(snapshot) for snapshot in range(4)] == ["C1N1", "C1", "C2", "C2N2"]


def test_nobody_is_found_in_an_anonymous_schedule():
    schedule = Schedule.cyclic(nodes=3, cycles=2)
    hidden = schedule.anonymous
    np.testing.assert_array_equal(hidden.cycle, schedule.cycle)
    np.testing.assert_array_equal(hidden.parents, schedule.parents)
    assert (hidden.visits == NOBODY).all()
    assert (hidden.before == NOBODY).all()
    assert not hidden.receivers.any()
    mask = np.array([True, True, False, True, True, False])
    assert [hidden.freshest(mask, node) for node in range(4)] == [4] * 4
    assert not len(hidden.bracketed(np.ones(6, bool), 1))


def test_the_last_snapshot_by_itself():
    schedule = Schedule.sequential(np.array([[2, 0, 1], [1, 2, 0]]))
    last = schedule.last
    assert (len(last), last.label(0), last.before.tolist()) == (1, "C2N1", [NOBODY])
    both = Schedule.stack([schedule, Schedule.cyclic(nodes=3, cycles=2)]).last
    assert [both.at(index).label(0) for index in (0, 1)] == ["C2N1", "C2N3"]
