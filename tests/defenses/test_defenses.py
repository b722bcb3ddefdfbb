"""Defences by name, their options and levels, and what they do at a hand-off; covers `contract.py` too."""

import dataclasses

import jax
import numpy as np
import pytest

from fedmia_jax import defenses, errors, options
from fedmia_jax.defenses import contract


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """A level and a choice that decides the program."""

    scale: float = options.option(1.0, "factor", traced=True)
    twice: bool = options.option(False, "apply it twice")


def make_defense(settings):
    """Scales what a node has changed, once or twice."""

    def hand_off(received, trained, key, levels):
        for _ in range(1 + settings.twice):
            trained = jax.tree.map(lambda old, new: old + levels["scale"] * (new - old), received, trained)
        return trained

    return contract.Defense(hand_off=hand_off)


def make_noise(settings):
    """Adds noise to what is handed off."""
    del settings

    def hand_off(received, trained, key, levels):
        return jax.tree.map(lambda leaf: leaf + jax.random.normal(key, leaf.shape), trained)

    return contract.Defense(hand_off=hand_off)


SCALE, NOISE = contract.Factory(make_defense, Options), contract.Factory(make_noise)
NAMES = (f"{__name__}:SCALE", f"{__name__}:NOISE")


def test_options_are_picked_out_of_a_group():
    chosen = defenses.choose(NAMES, {"names": NAMES, "scale": 0.5, "twice": True, "other": 1})
    assert chosen.names == NAMES
    assert chosen.groups == (Options(scale=0.5, twice=True), options.NoOptions())
    assert chosen.levels == ({"scale": 0.5}, {})
    assert defenses.choose((), {}) == defenses.Chosen()


def test_levels_decide_no_program():
    chosen = [defenses.choose(NAMES[:1], {"scale": scale, "twice": twice}) for scale in (0.1, 0.2) for twice in (0, 1)]
    assert len(set(chosen)) == 4
    assert len({each.static for each in chosen}) == 2
    assert chosen[0].make().zero_levels == ({"scale": 0.0},)


def test_a_hand_off_goes_through_all_defences_in_their_order():
    received, trained = {"w": np.zeros(3)}, {"w": np.ones(3)}
    key = jax.random.key(0)
    values = {"scale": 0.5, "twice": True}
    ends = []
    for names in (NAMES, NAMES[::-1]):
        chosen = defenses.choose(names, values)
        ends.append(contract.make_hand_off(chosen.make())(received, trained, key, chosen.levels)["w"])
    noise = [jax.random.normal(contract.draw_key(key, place), 3) for place in (0, 1)]
    np.testing.assert_allclose(ends[0], 0.25 + noise[1], rtol=1e-6)
    np.testing.assert_allclose(ends[1], 0.25 * (1 + noise[0]), rtol=1e-6)
    assert contract.make_hand_off(contract.UNDEFENDED)(received, trained, key, ()) is trained


def test_keys_of_defences_lie_beyond_those_of_epochs_and_steps():
    key = jax.random.key(0)
    keys = [contract.draw_key(key, place) for place in range(4)]
    keys += [jax.random.fold_in(key, number) for number in range(100)]
    assert len({tuple(jax.random.key_data(each).tolist()) for each in keys}) == 104


def test_a_path_refuses_a_hook_that_it_cannot_honour():
    defended = defenses.choose(NAMES, {"scale": 0.5, "twice": False}).make()
    assert [place for place, _ in defended.hooks("hand_off")] == [0, 1]
    assert defended.hooks("answer") == []
    defended.refuse(["answer", "records"], path="a short cut")
    with pytest.raises(ValueError, match="a short cut cannot honour the hook 'hand_off' of a defence"):
        defended.refuse(["answer", "hand_off"], path="a short cut")


def test_an_unknown_defence_is_one_line():
    with pytest.raises(errors.InputError) as caught:
        defenses.find("noise")
    assert str(caught.value).startswith("defense.names='noise': must be one of ")
