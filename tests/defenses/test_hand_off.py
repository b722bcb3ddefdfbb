"""Clipping and noise against NumPy, noise of its variance, and nothing where there is neither."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedmia_jax import defenses
from fedmia_jax.defenses import contract, hand_off

perturb = jax.jit(
    lambda before, after, key, clip, noise: hand_off.perturb(before, after, key, clip=clip, noise_multiplier=noise)
)


@pytest.fixture(scope="module")
def handed():
    """Parameters before and after."""
    rng = np.random.default_rng(0)
    shapes = {"a": {"kernel": (40, 30), "bias": (30,)}, "b": {"kernel": (30, 500)}}
    draw = lambda shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    before, change = (jax.tree.map(draw, shapes, is_leaf=lambda leaf: isinstance(leaf, tuple)) for _ in range(2))
    return jax.tree.map(jnp.asarray, (before, jax.tree.map(np.add, before, change)))


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64)


@pytest.mark.parametrize("clip", [0.5, 100.0, 1e30, np.inf])
def test_updates_are_clipped_to_their_norm(handed, equal, clip):
    before, after = handed
    end = perturb(before, after, jax.random.key(0), clip, 0.0)
    change = flat(after) - flat(before)
    norm = np.linalg.norm(change)
    np.testing.assert_allclose(flat(end), flat(before) + change * min(1.0, clip / norm), rtol=1e-4, atol=1e-6)
    if norm < clip:
        equal(end, after)  # bit by bit


def test_noise_has_its_variance_and_every_parameter_its_own(handed):
    before, after = handed
    clip, multiplier = 2.0, 1.5
    quiet = flat(perturb(before, after, jax.random.key(0), clip, 0.0))
    noise = flat(perturb(before, after, jax.random.key(0), clip, multiplier)) - quiet
    count = len(noise)
    assert abs(noise.mean()) < 5 * 3.0 / np.sqrt(count)
    assert abs(noise.var() / 9.0 - 1) < 5 * np.sqrt(2 / count)
    assert len(np.unique(noise)) > 0.99 * count
    other = flat(perturb(before, after, jax.random.key(1), clip, multiplier)) - quiet
    assert abs(np.corrcoef(noise, other)[0, 1]) < 5 / np.sqrt(count)


def test_hand_offs_are_perturbed_at_their_levels(handed, equal):
    """The two defences together are their composition; only the last model meets the second."""
    before, after = handed
    levels = ({"update_clip": 1.0, "update_noise": 0.3}, {"output_clip": 2.0, "output_noise": 0.1})
    values = {**levels[0], **levels[1], "delta": 1e-5}
    defended = defenses.choose(["update_noise", "output_perturbation"], values).make()
    key = jax.random.key(3)
    expected = hand_off.perturb(before, after, contract.draw_key(key, 0), clip=1.0, noise_multiplier=0.3)
    equal(contract.make_hand_off(defended)(before, after, key, levels), expected)
    published = contract.make_hand_off(defended, name="publish")(before, after, key, levels)
    expected = hand_off.perturb(before, after, contract.draw_key(key, 1), clip=2.0, noise_multiplier=0.1)
    equal(published, expected)


def test_what_is_no_number_stays_none(handed):
    before, after = handed
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), after)
    assert np.isnan(flat(perturb(before, broken, jax.random.key(0), 1.0, 0.1))).all()
