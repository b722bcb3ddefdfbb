"""Thresholds on one number, of shadows and of any scores, against brute force; all kinds are in `test_attacks.py`."""

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
import worlds

from fedmia_jax import types
from fedmia_jax.attacks import thresholds


@pytest.mark.parametrize("ties", [False, True])
def test_the_best_threshold_of_each_class_is_brute_force(ties):
    rng = np.random.default_rng(0)
    values, labels, members = rng.normal(size=300), rng.integers(4, size=300), rng.random(300) < 0.4
    values = values + members * labels / 2
    values = (values.round(0) if ties else values).astype(np.float32)
    padding = rng.random(300) < 0.1
    weights = (~padding).astype(np.float32)
    arrays = map(jnp.asarray, (values, labels, weights * members, weights * ~members))
    best = np.asarray(thresholds.best(*arrays, num_classes=5))
    assert np.isnan(best[4])  # no record has this class
    for label in range(4):
        counted = (labels == label) & ~padding
        gain = 0.0
        if not np.isnan(best[label]):
            above = values[counted] > best[label]
            gain = above[members[counted]].mean() - above[~members[counted]].mean()
        expected = float(naive.best_gain(values[counted], members[counted]))
        assert gain == pytest.approx(max(0.0, expected), abs=1e-6)


@pytest.mark.parametrize("decimals", [None, 1, 0])
@pytest.mark.parametrize(("num_members", "num_others"), [(33, 71), (40, 40), (12, 200)])
def test_the_best_threshold_overall_is_one_of_the_best_of_all_midpoints(num_members, num_others, decimals):
    rng = np.random.default_rng(num_members)
    members = np.arange(num_members + num_others + 9) < num_members
    others = ~members & (np.arange(len(members)) < num_members + num_others)  # the last nine count for nothing
    counted = members | others
    for shift in (0.1, 1.0):
        values = rng.normal(size=len(members)) + shift * members
        values = (values if decimals is None else values.round(decimals)).astype(np.float32)
        values[~counted] = 9.0
        best = naive.best_thresholds(values[counted], members[counted])
        assert thresholds.best_overall(values, members, others) in np.float32(best).tolist()
        weights = thresholds.best_overall(values, 1.0 * members, 1.0 * others)
        assert weights == thresholds.best_overall(values, members, others)


def test_where_no_threshold_helps_it_says_no_to_all():
    values = np.array([0.0, 1.0, 2.0, 3.0, 7.0], np.float32)
    members = np.array([1, 1, 0, 0, 0], bool)
    others = np.array([0, 0, 1, 1, 0], bool)
    assert thresholds.best_overall(values, members, others) == 3.0
    assert thresholds.best_overall(np.ones(5, np.float32), members, others) == 1.0


def test_the_loss_threshold_is_the_mean_training_loss():
    rng, membership = np.random.default_rng(0), np.broadcast_to(np.arange(50) % 2 == 0, (3, 50))
    labels = rng.integers(3, size=(3, 50))
    logits = rng.normal(size=(3, 50, 3)) + np.eye(3)[labels] * membership[..., None]
    seen = types.Signals(jnp.asarray(logits, jnp.float32), jnp.asarray(labels, jnp.int32))
    attack = worlds.make_on_one_model("loss", num_classes=3)
    fitted = attack.fit(jax.random.key(0), seen, jnp.asarray(membership), jnp.ones((3, 50)))
    losses = -jax.nn.log_softmax(seen.logits)[:2]
    own = np.take_along_axis(np.asarray(losses), np.asarray(seen.labels)[:2, :, None], axis=2)[..., 0]
    np.testing.assert_allclose(fitted["thresholds"], -own[membership[:2]].mean(), rtol=1e-5)
