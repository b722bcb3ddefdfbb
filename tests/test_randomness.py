"""Streams of random numbers: by purpose and index, and by nothing else."""

import jax
import numpy as np
import pytest

from fedmia_jax import randomness
from fedmia_jax.randomness import Purpose


def bits(key):
    """A key's content, to compare by."""
    return tuple(jax.random.key_data(key).tolist())


def test_a_key_is_folded_from_its_indices():
    expected = jax.random.key(3)
    for number in (1, int(Purpose.SHADOW), 5):
        expected = jax.random.fold_in(expected, number)
    assert bits(randomness.make_key(3, 1, Purpose.SHADOW, 5)) == bits(expected)


def test_every_index_counts():
    keys = {bits(randomness.make_key(seed, r, purpose)) for seed in (0, 1) for r in (0, 1) for purpose in Purpose}
    keys |= {bits(randomness.make_key(0, 0, Purpose.SHADOW, number)) for number in range(5)}
    keys |= {bits(randomness.make_key(0, 0, Purpose.SHADOW, 0, number)) for number in range(5)}
    assert len(keys) == 4 * len(Purpose) + 10


def test_purposes_keep_their_numbers():
    """What was computed before is found again only if they do."""
    assert {purpose.name: int(purpose) for purpose in Purpose} == {
        "POOLS": 0, "PARTITION": 1, "SHADOW": 2, "CENTRALISED": 3, "FEDERATED": 4, "ATTACK": 5, "REFERENCE": 6,
        "ORDER": 7,
    }  # fmt: skip


def test_a_generator_is_seeded_by_its_indices():
    drawn = randomness.make_generator(3, 1, Purpose.POOLS, 2).integers(2**32, size=8)
    np.testing.assert_array_equal(drawn, np.random.default_rng([3, 1, 0, 2]).integers(2**32, size=8))
    np.testing.assert_array_equal(drawn, randomness.make_generator(np.int64(3), 1, 0, 2).integers(2**32, size=8))


@pytest.mark.parametrize("other", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0, 1)])
def test_generators_of_other_indices_draw_other_numbers(other):
    """A zero at the end alone is no other index to NumPy, so that streams of one purpose all have equally many."""
    first, second = (randomness.make_generator(*numbers).random(8) for numbers in ((0, 0, 0), other))
    assert not np.isin(first, second).any()
