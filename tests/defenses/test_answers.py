"""Answers of an outsider against loops over records, and levels that change nothing, bit by bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from fedmia_jax import defenses, errors, types
from fedmia_jax.attacks import signals
from fedmia_jax.config import parsing
from fedmia_jax.defenses import answers, contract

LOGITS = np.random.default_rng(0).normal(scale=3.0, size=(40, 7)).astype(np.float32)
LEVELS = {"temperature": "answer_temperature", "rounding": "answer_digits", "top_classes": "answer_classes"}


def answered(name, level):
    """`answer(logits)` of one defence, compiled with its level as an argument."""
    defended = defenses.Chosen((name,), (defenses.find(name).options(),)).make()
    answer = jax.jit(contract.make_answer(defended))
    return np.asarray(answer(LOGITS, ({LEVELS[name]: jnp.float32(level)},)))


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_rounding_by_hand(digits):
    for row, answer in zip(LOGITS, answered("rounding", digits), strict=True):
        probabilities = scipy.special.softmax(row.astype(np.float64))
        for probability, given in zip(probabilities, answer, strict=True):
            expected = np.log(max(round(probability, digits), 0.5 * 10.0**-digits))
            assert given == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("count", [1, 3, 7, 9])
def test_the_likeliest_classes_by_hand(count):
    """A top class keeps its probability; all others share what is left."""
    for row, answer in zip(LOGITS, answered("top_classes", count), strict=True):
        before, after = (scipy.special.softmax(each.astype(np.float64)) for each in (row, answer))
        top = sorted(range(7), key=lambda place, row=row: -row[place])[:count]
        rest = [place for place in range(7) if place not in top]
        np.testing.assert_allclose(after[top], before[top], rtol=1e-5)
        for place in rest:
            assert after[place] == pytest.approx(before[rest].sum() / len(rest), rel=1e-5)


def test_of_equal_classes_the_first_is_answered():
    given = np.asarray(answers.keep_top(jnp.zeros((1, 4)), jnp.float32(2)))
    np.testing.assert_allclose(given, 0.0, atol=1e-6)  # the others share as much each
    given = np.asarray(answers.keep_top(jnp.array([[1.0, 3.0, 3.0, 0.0]]), jnp.float32(1)))
    assert given[0, 1] == 3.0
    assert given[0, 2] == given[0, 0] == given[0, 3] < 3.0


def test_softening_by_hand():
    np.testing.assert_allclose(answered("temperature", 4.0), LOGITS / 4, rtol=1e-6)


@pytest.mark.parametrize(("name", "level"), [("temperature", 1.0), ("rounding", 0.0), ("top_classes", 0.0)])
def test_a_level_that_changes_nothing_leaves_every_bit(name, level):
    np.testing.assert_array_equal(answered(name, level), LOGITS)
    assert getattr(defenses.find(name).options(), LEVELS[name]) == level


def test_the_signal_of_a_rounded_answer_is_finite():
    """A label of probability 1 or 0 is told apart by the step alone."""
    logits = jnp.array([[40.0, 0.0, 0.0], [0.0, 40.0, 0.0]])
    labels = jnp.zeros(2, jnp.int32)
    phi = np.asarray(signals.phi(types.Signals(answers.round_probabilities(logits, jnp.float32(2)), labels)))
    assert phi.tolist() == pytest.approx([-np.log(0.01), np.log(0.005) - np.log(1.005)], abs=1e-4)


def test_two_defences_act_in_turn():
    names = ("temperature", "rounding")
    defended = defenses.Chosen(names, tuple(defenses.find(name).options() for name in names)).make()
    levels = ({"answer_temperature": 2.0}, {"answer_digits": 2.0})
    both = contract.make_answer(defended)(jnp.asarray(LOGITS), levels)
    np.testing.assert_allclose(both, answers.round_probabilities(jnp.asarray(LOGITS) / 2, 2.0), rtol=1e-6)


def test_a_grid_of_levels_is_one_program():
    defended = defenses.Chosen(("rounding",), (answers.Rounding(),)).make()
    answer = jax.jit(contract.make_answer(defended))
    for digits in np.linspace(0, 5, 20, dtype=np.float32):
        answer(LOGITS, ({"answer_digits": digits},))
    assert answer._cache_size() == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("answer_temperature", 0.0), ("answer_digits", -1.0), ("answer_digits", 9.0), ("answer_classes", -2.0)],
)
def test_levels_out_of_range_are_one_line(field, value):
    with pytest.raises(errors.InputError, match=f"^defense.{field}={value}: must be"):
        parsing.from_flat({f"defense.{field}": value})
