"""Thresholds of shadows, and a network for each class, on signals by hand."""

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest

from fedmia_jax import attacks, config, types
from fedmia_jax.attacks import thresholds


@pytest.mark.parametrize("ties", [False, True])
def test_the_best_threshold_of_each_class_is_brute_force(ties):
    rng = np.random.default_rng(0)
    values, labels, members = rng.normal(size=300), rng.integers(4, size=300), rng.random(300) < 0.4
    values = values + members * labels / 2
    values = (values.round(0) if ties else values).astype(np.float32)
    padding = rng.random(300) < 0.1
    weights = (~padding).astype(np.float32)
    found = thresholds.best(values, labels, weights * members, weights * ~members, num_classes=5)
    assert np.isnan(found[4])  # no record has this class
    for label in range(4):
        mine = (labels == label) & ~padding
        gain = 0.0
        if not np.isnan(found[label]):
            above = values[mine] > found[label]
            gain = above[members[mine]].mean() - above[~members[mine]].mean()
        assert gain == pytest.approx(max(0.0, naive.best_threshold(values[mine], members[mine])), abs=1e-6)


def draw(seed, shape, membership, *, shift):
    """Logits of models that know members by a shift of the label's logit, larger in later classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=shape).astype(np.int32)
    logits = rng.normal(size=(*shape, 3)) + (labels / 2)[..., None] * np.eye(3)[labels]
    logits += shift * np.eye(3)[labels] * membership[..., None]
    return types.Signals(jnp.asarray(logits, jnp.float32), jnp.asarray(labels))


SINGLE = [name for name in attacks.ATTACKS if name != "network"]


@pytest.mark.parametrize("name", SINGLE)
def test_every_attack_on_one_model_tells_members(name):
    membership = np.broadcast_to(np.arange(400) % 2 == 0, (10, 400))
    attack = attacks.make_attacks(config.Attack(names=(name,)), num_classes=3)[name]
    fitted = attack.fit(
        jax.random.key(0), draw(0, (10, 400), membership, shift=3.0), jnp.asarray(membership), jnp.ones((10, 400))
    )
    scores = np.asarray(attack.score(fitted, draw(1, (400,), membership[0], shift=3.0)))
    accuracy = ((scores > float(attack.threshold(fitted))) == membership[0]).mean()
    assert naive.auc(scores[membership[0]], scores[~membership[0]]) > 0.7
    assert accuracy > 0.65
    assert abs(float(attack.curve(fitted)[-1]) - accuracy) < 0.1


def test_the_loss_threshold_is_the_mean_training_loss():
    membership = np.broadcast_to(np.arange(50) % 2 == 0, (3, 50))
    seen = draw(0, (3, 50), membership, shift=1.0)
    attack = attacks.make_attacks(config.Attack(names=("loss",)), num_classes=3)["loss"]
    fitted = attack.fit(jax.random.key(0), seen, jnp.asarray(membership), jnp.ones((3, 50)))
    losses = -jax.nn.log_softmax(seen.logits)[:2]
    own = np.take_along_axis(np.asarray(losses), np.asarray(seen.labels)[:2, :, None], axis=2)[..., 0]
    np.testing.assert_allclose(fitted["thresholds"], -own[membership[:2]].mean(), rtol=1e-5)
