"""Who sees what, on small federations by hand and against the arithmetic of a model that goes round."""

import itertools

import numpy as np
import pytest

from fedmia_jax import errors, options
from fedmia_jax.audit import views
from fedmia_jax.schedule import Schedule

AVERAGED = Schedule(  # three nodes train the same model side by side, then their models are averaged; two cycles
    trainer=[0, 1, 2, -1, 0, 1, 2, -1],
    parents=[[-1, -1, -1]] * 3 + [[0, 1, 2]] + [[3, -1, -1]] * 3 + [[4, 5, 6]],
    cycle=[0] * 4 + [1] * 4,
    receivers=[[False] * 3] * 3 + [[True] * 3] + [[False] * 3] * 3 + [[True] * 3],
)


def cyclic(*, nodes=4, cycles=2):
    return Schedule.cyclic(nodes=nodes, cycles=cycles)


def seen(name, schedule=None):
    """Names of the snapshots that each party of a view sees."""
    schedule = cyclic() if schedule is None else schedule
    parties = views.make_view(name, schedule)
    return {party.name: [schedule.label(t) for t in np.flatnonzero(party.mask)] for party in parties}


def test_views_by_hand():
    assert seen("outsider") == {"outsider": ["C2N4"]}
    assert seen("coordinator_p2p") == {"coordinator_p2p": ["C2N4"]}
    assert len(seen("coordinator")["coordinator"]) == 8
    assert seen("insider:3") == {"insider:3": ["C1N2", "C1N3", "C2N2", "C2N3"]}
    assert seen("insider:1") == {"insider:1": ["C1N1", "C1N4", "C2N1"]}  # what it first received is no snapshot
    assert seen("bracket:2") == {"bracket:2": ["C1N1", "C1N2", "C2N1", "C2N2"]}
    assert seen("bracket:2@1") == {"bracket:2@1": ["C1N1", "C1N2"]}
    assert seen("bracket:1@2") == {"bracket:1@2": ["C1N4", "C2N1"]}
    assert seen("coalition:{4,2}") == {
        "coalition:{2,4}": ["C1N1", "C1N2", "C1N3", "C1N4", "C2N1", "C2N2", "C2N3", "C2N4"]
    }
    assert list(seen("insider")) == [f"insider:{node}" for node in (1, 2, 3, 4)]
    assert list(seen("bracket")) == [f"bracket:{node}" for node in (1, 2, 3, 4)]
    assert len(seen("all_coalitions:2")) == 6
    assert seen("all_coalitions:1") == seen("insider")


def test_views_of_models_that_are_averaged():
    assert seen("outsider", AVERAGED) == {"outsider": ["C2"]}
    assert seen("insider:2", AVERAGED) == {"insider:2": ["C1N2", "C1", "C2N2", "C2"]}
    assert seen("bracket:3", AVERAGED) == {"bracket:3": ["C1N3", "C1", "C2N3"]}
    assert seen("bracket:3@2", AVERAGED) == {"bracket:3@2": ["C1", "C2N3"]}
    assert seen("bracket:3@1", AVERAGED) == {"bracket:3@1": ["C1N3"]}  # the initial model is no snapshot


def test_views_of_another_order():
    schedule = Schedule.sequential(np.array([[2, 0, 1], [1, 2, 0]]))
    assert seen("insider:1", schedule) == {"insider:1": ["C1N3", "C1N1", "C2N3", "C2N1"]}
    assert seen("bracket:2", schedule) == {"bracket:2": ["C1N1", "C1N2", "C2N2"]}  # twice in a row


def test_whom_they_attack():
    def attacked(name):
        return {party.name: party.attacked for party in views.make_view(name, cyclic(nodes=3, cycles=1))}

    assert attacked("outsider") == {"outsider": (0, 1, 2, 3)}
    assert attacked("insider:2") == {"insider:2": (0, 2)}
    assert attacked("bracket:2") == {"bracket:2": (1,)}
    assert attacked("bracket:2@1") == {"bracket:2@1": (1,)}
    assert attacked("all_coalitions:2") == {
        "coalition:{1,2}": (2,),
        "coalition:{1,3}": (1,),
        "coalition:{2,3}": (0,),
    }


def arithmetic(name, *, nodes, cycles):
    """Masks of a model that goes round, by the numbers of nodes and cycles alone."""
    kind, _, text = name.partition(":")
    snapshots = np.arange(nodes * cycles)

    def handled(members):
        mask = np.zeros(nodes * cycles, bool)
        for node in members:
            received = np.arange(cycles) * nodes + node - 1
            mask[received[received >= 0]] = mask[np.arange(cycles) * nodes + node] = True
        return mask

    if kind in ("outsider", "coordinator_p2p"):
        return [snapshots == nodes * cycles - 1]
    if kind == "coordinator":
        return [np.ones(nodes * cycles, bool)]
    if kind == "all_coalitions":
        return [handled(members) for members in itertools.combinations(range(nodes), int(text))]
    if text:
        return [handled([int(number) - 1 for number in text.strip("{}").split(",")])]
    return [handled([node]) for node in range(nodes)]


@pytest.mark.parametrize("nodes", [1, 2, 3, 5])
@pytest.mark.parametrize("cycles", [1, 2, 3, 4])
def test_a_model_that_goes_round_is_seen_as_the_numbers_say(nodes, cycles):
    schedule = cyclic(nodes=nodes, cycles=cycles)
    names = ["outsider", "coordinator", "coordinator_p2p", "insider", "bracket"]
    names += [f"{kind}:{node + 1}" for kind in ("insider", "bracket") for node in range(nodes)]
    names += [f"all_coalitions:{size}" for size in range(1, nodes)]
    names += [f"coalition:{{{first},{first + 1}}}" for first in range(1, nodes) if nodes > 2]
    for name in names:
        masks = np.stack([party.mask for party in views.make_view(name, schedule)])
        np.testing.assert_array_equal(masks, arithmetic(name, nodes=nodes, cycles=cycles), err_msg=name)
    for node, cycle in itertools.product(range(nodes), range(cycles)):
        (party,) = views.make_view(f"bracket:{node + 1}@{cycle + 1}", schedule)
        after = cycle * nodes + node
        assert np.flatnonzero(party.mask).tolist() == [t for t in (after - 1, after) if t >= 0]


def test_a_neighbouring_pair_brackets_the_node_between():
    schedule = cyclic(nodes=4, cycles=3)
    (pair,) = views.make_view("coalition:{1,3}", schedule)
    (bracket,) = views.make_view("bracket:2", schedule)
    assert (pair.mask | ~bracket.mask).all()
    assert schedule.bracketed(pair.mask, 1).tolist() == [1, 5, 9]
    (alone,) = views.make_view("insider:1", schedule)
    assert not len(schedule.bracketed(alone.mask, 1))
    assert cyclic().bracketed(np.ones(8, bool), 0).tolist() == [4]  # before C1N1 there is no snapshot


def test_the_freshest_snapshot_by_hand():
    schedule, everything = cyclic(), np.ones(8, bool)
    assert schedule.freshest(everything, 2) == 6  # C2N3
    assert schedule.freshest(everything, 4) == 7  # the union: the last
    only = np.zeros(8, bool)
    only[[0, 3]] = True  # C1N1, C1N4
    assert schedule.freshest(only, 1) == 3
    assert schedule.freshest(only, 0) == 0
    early = np.zeros(8, bool)
    early[0] = True  # before N3 ever trained
    assert schedule.freshest(early, 2) == 0


@pytest.mark.parametrize(
    "name",
    ["nobody", "insider:0", "insider:5", "insider:1,2", "coalition:{}", "coalition:{1,2,3,4}", "coalition:{1,x}",
     "bracket:", "bracket:2@", "bracket:2@0", "bracket:2@3", "bracket:@1", "bracket:5@1", "bracket:2@1@2",
     "all_coalitions:4", "all_coalitions:0", "all_coalitions"],
)  # fmt: skip
def test_a_view_that_does_not_exist(name):
    with pytest.raises(errors.InputError, match=r"attack\.views="):
        views.make_view(name, cyclic())


UNORDERED = ("outsider", "insider:2", "coalition:{1,3}", "coordinator")


@pytest.mark.parametrize("name", UNORDERED)
def test_without_the_order_a_party_sees_and_attacks_the_same(name):
    (known,), (party,) = views.make_view(name, cyclic()), views.make_view(name + views.UNORDERED, cyclic())
    np.testing.assert_array_equal(known.mask, party.mask)
    assert (party.name, party.attacked) == (f"{name}_unordered", known.attacked)
    assert known.layout == views.BY_VISIT
    insiders = {"insider:2": (1,), "coalition:{1,3}": (0, 2)}.get(name, ())
    assert party.layout == views.Layout(False, insiders)
    assert views.needs_drawn_order(party.name)
    assert not views.needs_drawn_order(name)


@pytest.mark.parametrize("name", ["bracket:1", "all_coalitions:2", "coordinator_secure", "bracket", "coordinator_p2p"])
def test_a_view_that_is_made_of_the_order(name):
    with pytest.raises(errors.InputError, match="there is no such view without knowledge of the order; only of outsid"):
        views.make_view(name + views.UNORDERED, cyclic())


def test_nodes_that_train_side_by_side_have_no_order():
    schedule = Schedule([0, 1, -1], [[-1, -1], [-1, -1], [0, 1]], [0, 0, 0], np.ones((3, 2), bool))
    with pytest.raises(errors.InputError, match="'coordinator_unordered': nodes do not train one after the other here"):
        views.make_view("coordinator_unordered", schedule)


def test_a_party_that_sees_nothing_is_refused():
    schedule = Schedule.sequential(np.array([[0, 1]]), nodes=3)
    with pytest.raises(errors.InputError, match=r"attack\.views='insider:3': insider:3 sees no snapshot"):
        views.make_view("insider:3", schedule)


def test_some_view_must_be_named():
    with pytest.raises(errors.InputError, match=r"attack\.views=\(\): name a view; outsider, insider"):
        views.make_views((), cyclic())
    assert list(views.make_views(("outsider", "bracket"), cyclic())) == ["outsider", "bracket"]


def test_every_alias_stands_for_a_view_of_the_same_mask():
    for alias, name in views.ALIASES.items():
        (party,), (same,) = views.make_view(alias, cyclic()), views.make_view(name, cyclic())
        np.testing.assert_array_equal(party.mask, same.mask)
        assert (party.name, party.attacked) == (alias, same.attacked)


def test_the_option():
    declared = options.declared(views.Options)["views"]
    assert (declared.kind, declared.default) == (tuple, ("outsider", "coordinator"))
