"""Who sees what, on small federations by hand."""

import numpy as np
import pytest

from fedmia_jax import adversary, errors


def seen(name, *, nodes=4, cycles=2):
    """Names of the snapshots that each party of a view sees."""
    parties = adversary.make_view(name, nodes=nodes, cycles=cycles)
    return {party.name: [f"C{t // nodes + 1}N{t % nodes + 1}" for t in np.flatnonzero(party.mask)] for party in parties}


def test_views_by_hand():
    assert seen("outsider") == {"outsider": ["C2N4"]}
    assert seen("coordinator_p2p") == {"coordinator_p2p": ["C2N4"]}
    assert len(seen("coordinator")["coordinator"]) == 8
    assert seen("insider:3") == {"insider:3": ["C1N2", "C1N3", "C2N2", "C2N3"]}
    assert seen("insider:1") == {"insider:1": ["C1N1", "C1N4", "C2N1"]}  # what it first received is no snapshot
    assert seen("bracket:2") == {"bracket:2": ["C1N1", "C1N2", "C2N1", "C2N2"]}
    assert seen("coalition:{4,2}") == {
        "coalition:{2,4}": ["C1N1", "C1N2", "C1N3", "C1N4", "C2N1", "C2N2", "C2N3", "C2N4"]
    }
    assert list(seen("insider")) == [f"insider:{node}" for node in (1, 2, 3, 4)]
    assert list(seen("bracket")) == [f"bracket:{node}" for node in (1, 2, 3, 4)]
    assert len(seen("all_coalitions:2")) == 6
    assert seen("all_coalitions:1") == seen("insider")


def test_whom_they_attack():
    def attacked(name):
        return {party.name: party.attacked for party in adversary.make_view(name, nodes=3, cycles=1)}

    assert attacked("outsider") == {"outsider": (0, 1, 2, 3)}
    assert attacked("insider:2") == {"insider:2": (0, 2)}
    assert attacked("bracket:2") == {"bracket:2": (1,)}
    assert attacked("all_coalitions:2") == {
        "coalition:{1,2}": (2,),
        "coalition:{1,3}": (1,),
        "coalition:{2,3}": (0,),
    }


def test_a_neighbouring_pair_brackets_the_node_between():
    (pair,) = adversary.make_view("coalition:{1,3}", nodes=4, cycles=3)
    (bracket,) = adversary.make_view("bracket:2", nodes=4, cycles=3)
    assert (pair.mask | ~bracket.mask).all()
    assert adversary.visits(pair.mask, 1, nodes=4).tolist() == [1, 5, 9]
    (alone,) = adversary.make_view("insider:1", nodes=4, cycles=3)
    assert not len(adversary.visits(alone.mask, 1, nodes=4))
    assert adversary.visits(np.ones(8, bool), 0, nodes=4).tolist() == [4]  # before C1N1 there is no snapshot


def test_the_freshest_snapshot_by_hand():
    everything = np.ones(8, bool)
    assert adversary.freshest(everything, 2, nodes=4) == 6  # C2N3
    assert adversary.freshest(everything, 4, nodes=4) == 7  # the union: the last
    only = np.zeros(8, bool)
    only[[0, 3]] = True  # C1N1, C1N4
    assert adversary.freshest(only, 1, nodes=4) == 3
    assert adversary.freshest(only, 0, nodes=4) == 0
    early = np.zeros(8, bool)
    early[0] = True  # before N3 ever trained
    assert adversary.freshest(early, 2, nodes=4) == 0


@pytest.mark.parametrize(
    "name",
    ["nobody", "insider:0", "insider:5", "insider:1,2", "coalition:{}", "coalition:{1,2,3,4}", "coalition:{1,x}",
     "bracket:", "all_coalitions:4", "all_coalitions:0", "all_coalitions"],
)  # fmt: skip
def test_a_view_that_does_not_exist(name):
    with pytest.raises(errors.InputError, match=r"attack\.views="):
        adversary.make_view(name, nodes=4, cycles=2)
