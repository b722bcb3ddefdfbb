"""The attack network on signals whose best possible attack is known in closed form.

Also how shadows are held out and weighted (`shadows`, `contract`); `network_per_class` is in `test_attacks.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics

from fedmia_jax import types
from fedmia_jax.attacks import contract, network, shadows

NUM_SHADOWS, NUM_RECORDS, NUM_CLASSES, SHIFT = 10, 400, 4, 2.0
# Members have SHIFT on the logit of their label, under unit noise. Softmax hides the mean of the logits, which leaves
# the label's logit minus that mean: its shift is DISTANCE standard deviations, and it is all that there is to know.
DISTANCE = SHIFT * np.sqrt(1 - 1 / NUM_CLASSES)
BAYES_AUC = scipy.stats.norm.cdf(DISTANCE / np.sqrt(2))
BAYES_ACCURACY = scipy.stats.norm.cdf(DISTANCE / 2)


def draw(rng, shape, membership):
    """Signals of models that know their members by `SHIFT`."""
    logits = rng.normal(size=(*shape, NUM_CLASSES)).astype(np.float32)
    labels = rng.integers(NUM_CLASSES, size=shape).astype(np.int32)
    logits += SHIFT * np.eye(NUM_CLASSES, dtype=np.float32)[labels] * membership[..., None]
    return types.Signals(jnp.asarray(logits), jnp.asarray(labels))


@pytest.fixture(scope="module")
def attack():
    settings = network.Options(hidden=16, epochs=200, batch_size=128, learning_rate=0.02)
    plain = network.make_attack(settings, NUM_CLASSES)
    return plain._replace(fit=jax.jit(plain.fit), score=jax.jit(plain.score))


@pytest.fixture(scope="module")
def known():
    membership = np.broadcast_to(np.arange(NUM_RECORDS) % 2 == 0, (NUM_SHADOWS, NUM_RECORDS))
    return (
        draw(np.random.default_rng(0), membership.shape, membership),
        membership,
        np.ones(membership.shape, np.float32),
    )


@pytest.fixture(scope="module")
def fitted(attack, known):
    return attack.fit(jax.random.key(0), *known)


@pytest.fixture(scope="module")
def fresh():
    membership = np.arange(6000) % 2 == 0
    return draw(np.random.default_rng(1), membership.shape, membership), membership


def test_inputs_are_probabilities_and_one_hot_label():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 5, 3)).astype(np.float32) * 30
    signals = types.Signals(jnp.asarray(logits), jnp.asarray(rng.integers(3, size=(2, 5))))
    inputs = np.asarray(network.make_inputs(signals))
    assert inputs.shape == (2, 5, 6)
    np.testing.assert_allclose(inputs[..., :3], scipy.special.softmax(signals.logits, axis=-1), rtol=1e-5, atol=1e-30)
    np.testing.assert_array_equal(inputs[..., 3:], np.eye(3)[signals.labels])


def test_fresh_records_are_told_apart_nearly_as_well_as_is_possible(attack, fitted, fresh):
    signals, membership = fresh
    scores = np.asarray(attack.score(fitted, signals))
    auc = sklearn.metrics.roc_auc_score(membership, scores)
    assert BAYES_AUC - 0.015 < auc < BAYES_AUC + 0.015
    right = (scores > attack.threshold(fitted)) == membership
    assert abs(right.mean() - BAYES_ACCURACY) < 0.02


def test_the_curve_ends_at_the_accuracy_on_the_held_out_shadow(attack, known, fitted):
    signals, membership, _ = known
    curve = np.asarray(attack.curve(fitted))
    assert curve.shape == (network.NUM_CHECKS,)
    assert abs(contract.gain_at_end(curve)) < 0.02
    scores = attack.score(fitted, jax.tree.map(lambda leaf: leaf[-1], signals))
    np.testing.assert_allclose(curve[-1], ((scores > 0) == membership[-1]).mean(), atol=1e-6)
    assert abs(curve[-1] - BAYES_ACCURACY) < 4 * 0.5 / np.sqrt(NUM_RECORDS)


def test_the_held_out_shadow_only_checks(attack, known, fitted, equal):
    """Other membership of the last shadow changes the curve, not the network."""
    signals, membership, weights = known
    other = membership.copy()
    other[-1] = ~other[-1]
    again = attack.fit(jax.random.key(0), signals, other, weights)
    equal(again["params"], fitted["params"])
    np.testing.assert_allclose(again["curve"], 1 - fitted["curve"], atol=1e-6)


def test_shuffled_membership_teaches_nothing(attack, known):
    """The accuracy on the held-out shadow is that of a coin: 0.5 within four standard errors."""
    signals, membership, weights = known
    shuffled = np.random.default_rng(2).permuted(membership, axis=1)
    curve = np.asarray(attack.curve(attack.fit(jax.random.key(0), signals, shuffled, weights)))
    assert abs(curve[-1] - 0.5) < 4 * 0.5 / np.sqrt(NUM_RECORDS)


def test_padding_has_no_influence(attack, known, equal, differ):
    """What the records of weight 0 hold is never read, in fitting or in checking."""
    signals, membership, weights = known
    padding = np.zeros(weights.shape, bool)
    padding[:, -80:] = True
    outcomes = []
    for rubbish in (0.0, 1e4):
        logits = np.where(padding[..., None], np.float32(rubbish) * signals.labels[..., None], signals.logits)
        labels = np.where(padding, 0, signals.labels) if rubbish else signals.labels
        changed = membership if rubbish else membership & ~padding
        outcomes.append(
            attack.fit(
                jax.random.key(0),
                types.Signals(jnp.asarray(logits), jnp.asarray(labels)),
                changed,
                np.where(padding, np.float32(0), weights),
            )
        )
    equal(outcomes[0], outcomes[1])
    assert differ(outcomes[0], attack.fit(jax.random.key(0), *known))


def test_more_padding_changes_nothing(known, equal, monkeypatch):
    """A run gives the same network beside runs of more records, whose shape it shares."""
    monkeypatch.setattr(network, "NUM_UPDATES", 200)
    few = network.Options(hidden=8, epochs=None, batch_size=16, learning_rate=0.05)
    attack = network.make_attack(few, NUM_CLASSES)
    signals, membership, weights = jax.tree.map(lambda leaf: leaf[:3, :60], known)

    def pad(leaf):
        return jnp.pad(leaf, [(0, 0), (0, 23)] + [(0, 0)] * (leaf.ndim - 2))

    plain = jax.jit(attack.fit)(jax.random.key(0), signals, membership, weights)
    padded = jax.jit(attack.fit)(jax.random.key(0), jax.tree.map(pad, signals), pad(membership), pad(weights))
    equal(padded["params"], plain["params"])
    equal(padded["curve"], plain["curve"], atol=1e-6)


def test_a_minibatch_is_half_members_and_never_padding():
    membership = np.array([True, False, False, True, False, False, True])
    weights = np.array([1, 1, 0, 1, 1, 1, 0], np.float32)
    draw = jax.jit(network.make_draw(jnp.asarray(membership), jnp.asarray(weights), batch_size=3999))
    members, others = np.split(np.asarray(draw(jax.random.key(0))), 2)
    slots, counts = np.unique(members, return_counts=True)
    np.testing.assert_array_equal(slots, [0, 3])
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    slots, counts = np.unique(others, return_counts=True)
    np.testing.assert_array_equal(slots, [1, 4, 5])
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_vmapped_equals_one_by_one(known, equal):
    """Runs fitted together are those fitted alone."""
    attack = network.make_attack(network.Options(hidden=8, epochs=2, batch_size=64), NUM_CLASSES)
    keys = jax.random.split(jax.random.key(3), 2)
    runs = jax.tree.map(lambda leaf: jnp.stack([leaf[:5], leaf[5:]]), known)
    together, fit = jax.jit(jax.vmap(attack.fit))(keys, *runs), jax.jit(attack.fit)
    for index in range(2):
        alone = fit(keys[index], *jax.tree.map(lambda leaf, i=index: leaf[i], runs))
        equal(jax.tree.map(lambda leaf, i=index: leaf[i], together), alone, rtol=1e-3, atol=1e-3)


def test_unequal_numbers_of_in_and_out_are_balanced(attack, known, fresh):
    """Seven in eight non-members are missing: probability one half still errs alike on both sides."""
    signals, membership, weights = known
    kept = membership | (np.arange(NUM_RECORDS) % 16 == 1)
    fitted = attack.fit(jax.random.key(0), signals, membership, np.where(kept, weights, np.float32(0)))
    guess = np.asarray(attack.score(fitted, fresh[0])) > 0
    recall, specificity = guess[fresh[1]].mean(), (~guess[~fresh[1]]).mean()
    assert abs(recall - BAYES_ACCURACY) < 0.06
    assert abs(specificity - BAYES_ACCURACY) < 0.06
    assert abs(np.asarray(attack.curve(fitted))[-1] - BAYES_ACCURACY) < 0.12


def test_the_key_decides(attack, known, fitted, equal, differ):
    equal(attack.fit(jax.random.key(0), *known), fitted)
    assert differ(attack.fit(jax.random.key(1), *known)["params"], fitted["params"])


def test_balance_gives_each_group_half():
    membership = np.array([[True, True, True, False], [True, False, True, True]])
    weights = np.array([[1, 1, 0, 1], [1, 1, 1, 0]], np.float32)
    balanced = np.asarray(contract.balance(jnp.asarray(membership), jnp.asarray(weights)))
    assert (balanced[weights == 0] == 0).all()
    np.testing.assert_allclose([balanced[membership].sum(), balanced[~membership].sum()], [4.0, 4.0])
    np.testing.assert_allclose(balanced.mean(), 1.0)


@pytest.mark.parametrize(("num_shadows", "expected"), [(2, 1), (9, 1), (10, 1), (19, 1), (20, 2), (100, 10)])
def test_one_shadow_in_ten_is_held_out(num_shadows, expected):
    assert contract.num_held_out(num_shadows) == expected


def test_the_last_shadows_only_check_and_the_others_are_joined(known):
    signals, membership, weights = known
    learnt, checked = shadows.hold_out(signals, jnp.asarray(membership), jnp.asarray(weights))
    np.testing.assert_array_equal(checked.signals.logits, signals.logits[-1:])
    np.testing.assert_array_equal(checked.membership, membership[-1:])
    np.testing.assert_array_equal(learnt.weights, weights[:-1])
    joined = learnt.joined
    assert joined.signals.logits.shape == ((NUM_SHADOWS - 1) * NUM_RECORDS, NUM_CLASSES)
    np.testing.assert_array_equal(joined.signals.labels, np.asarray(signals.labels)[:-1].reshape(-1))
    np.testing.assert_array_equal(joined.membership, membership[:-1].reshape(-1))


def test_an_attack_that_is_still_improving_is_noticed():
    rising, settled = np.linspace(0.5, 0.7, 50), np.r_[np.linspace(0.5, 0.7, 10), np.full(40, 0.7)]
    assert contract.gain_at_end(rising) > 0.08
    assert abs(contract.gain_at_end(settled)) < 1e-9
    assert contract.gain_at_end(np.stack([settled, rising])) == contract.gain_at_end(rising)
    assert contract.gain_at_end(np.array([0.6])) == 0


def test_a_checked_fit_keeps_what_was_best_and_says_how_it_went():
    tx = optax.sgd(1.0)
    update = network.make_update(lambda params, number: -params["at"] + 0 * number, lambda number: (number,), tx)
    check, start = lambda params: jnp.abs(params["at"] - 4.0), {"at": jnp.zeros(())}
    params, curve = network.fit_checked(update, check, start, tx, num_updates=8, num_checks=4)
    np.testing.assert_array_equal(curve, [4, 2, 0, 2, 4])
    assert params["at"] == 4
    params, _ = network.fit_checked(update, lambda params: params["at"], start, tx, num_updates=8, num_checks=4)
    assert params["at"] == 0, "nothing was better than the start"
