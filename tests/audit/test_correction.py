"""Which bound stands by itself, and how the error is shared among the others."""

import pytest

from fedmia_jax import attacks, errors
from fedmia_jax.audit import correction

VIEWS = ("outsider", "coordinator", "bracket")


def test_one_cell_stands_by_itself_and_the_others_share_the_error():
    claim = correction.make_claim(correction.Options(), ("loss", "sequence_lira"), VIEWS)
    assert claim.level("sequence_lira", "coordinator", "node") == 0.95
    others = {("sequence_lira", "coordinator", "union"), ("loss", "coordinator", "node")}
    assert {claim.level(*cell) for cell in others} == {1 - 0.05 / (2 * 3 * len(attacks.ATTACKS))}


def test_attacks_that_are_not_named_count_too():
    names = tuple(attacks.ATTACKS)
    one, every = (correction.make_claim(correction.Options(), some, VIEWS) for some in (names[:1], names))
    assert one == every
    more = correction.make_claim(correction.Options(), (*names, "own:A", "own:B"), VIEWS)
    assert more.num_cells == 2 * 3 * (len(names) + 2)


def test_no_cell_may_be_chosen():
    claim = correction.make_claim(correction.Options(epsilon_cell=()), ("sequence_lira",), VIEWS)
    assert claim.level("sequence_lira", "coordinator", "node") > 0.95


def test_a_cell_that_is_none_is_one_line():
    with pytest.raises(errors.InputError, match=r"attack.epsilon_cell=\('loss',\): give an attack and a view"):
        correction.check(correction.Options(epsilon_cell=("loss",)))
    with pytest.raises(errors.InputError, match=r"attack.strongest='loss': must be one of lira_online, "):
        correction.check(correction.Options(strongest="loss"))
