"""Streams of random numbers: by purpose and index, and by nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

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
        "ORDER": 7, "RECORDS": 8, "AUDITED": 9, "CANARY": 10,
    }  # fmt: skip


def test_a_generator_is_seeded_by_its_indices():
    drawn = randomness.make_generator(3, 1, Purpose.SHADOW, 2).integers(2**32, size=8)
    expected = np.random.default_rng(np.random.SeedSequence(3, spawn_key=(1, 2, 2))).integers(2**32, size=8)
    np.testing.assert_array_equal(drawn, expected)
    again = randomness.make_generator(np.int64(3), np.int32(1), Purpose.SHADOW, np.int64(2))
    np.testing.assert_array_equal(drawn, again.integers(2**32, size=8))


def test_no_two_generators_draw_the_same_numbers():
    """Every index counts, a zero at the end and the number of indices too."""
    seeds, replicates = (0, 1, 2**33), (0, 1, 6)
    drawn = [
        randomness.make_generator(seed, replicate, purpose, *numbers).random(4)
        for seed in seeds
        for replicate in replicates
        for purpose in Purpose
        for numbers in ((), (0,), (1,), (0, 0), (0, 1))
    ]
    assert len(np.unique(np.concatenate(drawn))) == 4 * len(drawn)


def test_normals_are_normal_and_each_its_own():
    """Odd and even shapes; a scale of zero leaves every bit."""
    for shape in ((), (7,), (3, 5)):
        values = jnp.ones(shape)
        assert randomness.add_normals(jax.random.key(0), values, 0.0).tobytes() == values.tobytes()
        noisy = np.ravel(randomness.add_normals(jax.random.key(0), values, 2.0))
        assert len(np.unique(noisy)) > 0.99 * noisy.size
    noise = np.ravel(randomness.add_normals(jax.random.key(1), jnp.zeros((401, 300)), 2.0)).astype(np.float64) / 2.0
    assert stats.kstest(noise, "norm").pvalue > 1e-3
    assert abs(stats.kurtosis(noise)) < 5 * np.sqrt(24 / noise.size)
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 5 / np.sqrt(noise.size)
    assert abs(np.corrcoef(noise[: 200 * 300], noise[201 * 300 :])[0, 1]) < 5 / np.sqrt(200 * 300)
