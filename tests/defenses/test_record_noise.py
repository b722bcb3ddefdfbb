"""Flips come at their rate, noise has its variance, each record has its own draw, and epsilon is what outcomes tell."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedmia_jax import defenses, errors, types
from fedmia_jax.defenses import record_noise

NUM_RECORDS, NUM_FEATURES = 150, 400
ROWS = jnp.arange(NUM_RECORDS)
FIELDS = {"randomised_response": "flip_probability", "feature_noise": "feature_noise"}


@functools.cache
def make_hook(name, fresh):
    """A defence's hook on records, compiled once for each shape."""
    level = FIELDS[name]
    ((_, hook),) = defenses.choose([name], {level: 0.0, "fresh_noise": fresh}).make().hooks("records")
    return jax.jit(hook)


def noisy(name, level, *, rows=ROWS, features=None, fresh=False, keys=(0, 1)):
    """Features after a defence on records."""
    if features is None:
        features = jnp.zeros((len(rows), NUM_FEATURES), jnp.uint8)
    labels = jnp.arange(len(rows))
    batch = types.Records(features, labels)
    levels = {FIELDS[name]: jnp.float32(level)}
    changed = make_hook(name, fresh)(batch, rows, *(jax.random.key(key) for key in keys), levels)
    np.testing.assert_array_equal(changed.labels, labels)
    return np.asarray(changed.features)


@pytest.mark.parametrize("chance", [0.01, 0.1, 0.5])
def test_bits_are_flipped_at_their_rate(chance):
    """In all, in every record and in every column, within five standard deviations; zeros and ones alike."""
    flips = noisy("randomised_response", chance)
    assert flips.dtype == np.uint8
    for axis, count in ((None, flips.size), (0, NUM_RECORDS), (1, NUM_FEATURES)):
        assert np.all(np.abs(flips.mean(axis=axis) - chance) < 5 * np.sqrt(chance * (1 - chance) / count))
    ones = noisy("randomised_response", chance, features=jnp.ones(flips.shape, jnp.uint8))
    np.testing.assert_array_equal(ones, 1 - flips)
    scaled = (flips - chance) / np.sqrt(chance * (1 - chance))
    pairs = (scaled.T @ scaled / NUM_RECORDS)[np.triu_indices(NUM_FEATURES, 1)]
    assert np.abs(pairs.mean()) < 5 / np.sqrt(len(pairs) * NUM_RECORDS)


@pytest.mark.parametrize("name", ["randomised_response", "feature_noise"])
def test_noise_is_drawn_once_for_a_record_or_afresh(name):
    once = noisy(name, 0.5)
    np.testing.assert_array_equal(noisy(name, 0.5, keys=(0, 2)), once)
    order = np.random.default_rng(0).permutation(NUM_RECORDS)
    np.testing.assert_array_equal(noisy(name, 0.5, rows=jnp.asarray(order), keys=(0, 3)), once[order])
    assert np.mean(noisy(name, 0.5, keys=(4, 1)) != once) > 0.4
    afresh = noisy(name, 0.5, fresh=True)
    np.testing.assert_array_equal(noisy(name, 0.5, fresh=True, keys=(4, 1)), afresh)
    assert np.mean(noisy(name, 0.5, fresh=True, keys=(0, 2)) != afresh) > 0.4


def test_features_get_noise_of_their_variance():
    features = np.random.default_rng(0).normal(size=(NUM_RECORDS, NUM_FEATURES)).astype(np.float32)
    noise = noisy("feature_noise", 0.7, features=jnp.asarray(features)) - features
    count = noise.size
    assert abs(noise.mean()) < 5 * 0.7 / np.sqrt(count)
    assert abs(noise.var() / 0.49 - 1) < 5 * np.sqrt(2 / count)
    assert abs(np.mean((noise / 0.7) ** 4) - 3) < 5 * np.sqrt(96 / count)
    np.testing.assert_array_equal(noisy("feature_noise", 0.7).dtype, np.float32)  # of bits too


@pytest.mark.parametrize("name", ["randomised_response", "feature_noise"])
def test_level_zero_changes_no_bit(name):
    features = jnp.asarray(np.random.default_rng(0).integers(2, size=(NUM_RECORDS, NUM_FEATURES)), jnp.uint8)
    np.testing.assert_array_equal(noisy(name, 0.0, features=features), features)


def test_epsilon_is_the_most_that_an_outcome_tells():
    """Of all outcomes of three bits, against any other record that differs in one bit or in all."""
    chance = 0.25
    for differing in (1, 3):
        first, second = np.zeros(3, int), np.arange(3) < differing
        ratios = [
            np.prod(np.where(np.array(outcome) == first, 1 - chance, chance))
            / np.prod(np.where(np.array(outcome) == second, 1 - chance, chance))
            for outcome in itertools.product((0, 1), repeat=3)
        ]
        np.testing.assert_allclose(np.log(max(ratios)), differing * record_noise.flip_epsilon(chance))
    assert record_noise.flip_epsilon(0.5) == 0.0
    assert record_noise.flip_epsilon(0.0) == record_noise.flip_epsilon(1e-6) == np.inf  # as it is realised


def test_flips_of_what_is_no_bit_are_refused():
    with pytest.raises(errors.InputError, match=r"defense\.names='randomised_response': flips bits, and the features"):
        noisy("randomised_response", 0.1, features=jnp.zeros((NUM_RECORDS, 3), jnp.float32))
