"""Attacks with references: against naive formulas in float64, on toys whose best attack is known, and their laws."""

import functools

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from fedmia_jax import attacks, config, signals, types
from fedmia_jax.attacks import (
    attribution,
    calibration,
    contract,
    delta,
    lira,
    moments,
    peers,
    rmia,
    sequence,
)

pytestmark = pytest.mark.usefixtures("short_fits")
NODES, CYCLES, REFERENCES, RECORDS = 3, 2, 24, 60
SNAPSHOTS = NODES * CYCLES


@pytest.fixture
def double():
    """Double precision, as the naive formulas have it."""
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", False)


def draw_world(seed=0, *, records=RECORDS, references=REFERENCES, shift=2.0, noise=1.0):
    """References and one target where a visit to node j lifts its members by `shift`, which halves at each hand-off."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(size=records)

    def say(owners):
        age = np.arange(SNAPSHOTS)[:, None] - owners
        known = np.where((owners >= 0) & (age >= 0), 0.5 ** (age % NODES), 0.0)
        return difficulty + shift * known + noise * rng.normal(size=(SNAPSHOTS, records))

    def deal():
        owners = rng.integers(NODES, size=records)
        owners[rng.permutation(records)[: records // 2]] = -1
        return owners

    owners = np.stack([deal() for _ in range(references)])
    phi, target = np.stack([say(each) for each in owners]), deal()
    return contract.References(jnp.asarray(phi), jnp.asarray(owners, jnp.int32)), jnp.asarray(say(target)), target


def score(attack, references, phi, *, node=-1, mask=None):
    """What an attack says of a target."""
    ready = attack.prepare(attack.fit(jax.random.key(0), references), jnp.int32(node))
    return np.asarray(attack.score(ready, phi) if mask is None else attack.score(ready, phi, jnp.asarray(mask)))


def score_all(attack, references, phi, mask=None):
    """What an attack says of several targets."""
    ready = attack.prepare(attack.fit(jax.random.key(0), references), jnp.int32(0))
    seen = () if mask is None else (jnp.asarray(mask),)
    return np.asarray(jax.jit(jax.vmap(lambda one: attack.score(ready, one, *seen)))(phi))


def auc(scores, members):
    """Area under the ROC of a boolean mask."""
    return sklearn.metrics.roc_auc_score(members.reshape(-1), scores.reshape(-1))


def test_signals_are_the_formulas(double):
    rng = np.random.default_rng(0)
    logits, labels = 4 * rng.normal(size=(50, 6)), rng.integers(6, size=50)
    seen = types.Signals(jnp.asarray(logits), jnp.asarray(labels))
    np.testing.assert_allclose(signals.phi(seen), naive.phi(logits, labels), atol=1e-8)
    np.testing.assert_allclose(signals.entropy(seen), naive.entropy(logits), atol=1e-8)
    np.testing.assert_allclose(signals.modified_entropy(seen), naive.modified_entropy(logits, labels), atol=1e-8)


def test_signals_do_not_saturate():
    for gap in (30.0, 60.0, 200.0):
        right = types.Signals(jnp.array([[gap, 0.0, -1.0]]), jnp.array([0]))
        wrong = types.Signals(right.logits, jnp.array([1]))
        for seen in (right, wrong):
            found = [signals.phi(seen), signals.entropy(seen), signals.modified_entropy(seen)]
            assert np.isfinite(np.array(found)).all()
        assert signals.phi(right)[0] == pytest.approx(gap - np.logaddexp(0, -1), rel=1e-5)
        assert signals.modified_entropy(wrong)[0] > gap  # -log(1 - p) of the wrong class that it is sure of


@pytest.mark.parametrize("per_record", [False, True])
def test_lira_is_the_formula(double, per_record):
    references, target, _ = draw_world()
    phi, owners = np.asarray(references.phi)[:, 3], np.asarray(references.owners)

    def plain(weights):  # the plain mean and variance, as published
        weights = jnp.asarray(weights, float)
        count = weights.sum(axis=0)
        mean = (references.phi[:, 3] * weights).sum(axis=0) / count
        around = ((references.phi[:, 3] - mean) ** 2 * weights).sum(axis=0)
        return moments.Moments(mean, around / (count - 1) if per_record else around.sum() / (count - 1).sum())

    found = lira.likelihood_ratio(target[3], plain(owners >= 0), plain(owners < 0))
    expected = naive.lira_online(np.asarray(target)[3], phi, owners, per_record)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    offline = scipy.stats.norm.cdf(np.asarray(lira.deviation(target[3], plain(owners < 0))))
    np.testing.assert_allclose(offline, naive.lira_offline(np.asarray(target)[3], phi, owners, per_record), atol=1e-5)


def test_with_many_references_the_attack_is_published_lira(double):
    references, target, _ = draw_world(records=20, references=2000)
    made = lira.make_attack(config.Attack(), online=True)
    phi, owners = np.asarray(references.phi)[:, 5], np.asarray(references.owners)
    expected = naive.lira_online(np.asarray(target)[5], phi, owners, False)
    # The prior helps even here: the plain mean of 1,000 observations is off by .03 deviations.
    np.testing.assert_allclose(score(made, references, target)[5], expected, atol=0.2)


def test_moments_are_random_effects(double):
    references, _, _ = draw_world()
    weights = jnp.asarray(references.owners == 1, float)
    prior = jnp.asarray(np.random.default_rng(1).normal(size=(SNAPSHOTS, RECORDS)))
    found = moments.estimate(references.phi, weights, prior)
    for t in range(SNAPSHOTS):
        told = [np.asarray(references.phi)[np.asarray(weights)[:, m] > 0, t, m].tolist() for m in range(RECORDS)]
        mean, variance = naive.random_effects(told, np.asarray(prior[t]))
        np.testing.assert_allclose(found.mean[t], mean, atol=1e-8)
        np.testing.assert_allclose(found.variance[t], variance, atol=1e-8)


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_rmia_is_the_formula(double, online, gamma):
    references, target, _ = draw_world()
    made = rmia.make_attack(config.Attack(gamma=gamma), online=online)
    found = score(made, references, target)
    for t in (0, 4):
        expected = naive.rmia(
            np.asarray(target)[t], np.asarray(references.phi)[:, t], np.asarray(references.owners),
            np.arange(RECORDS), gamma, None if online else 0.3,
        )  # fmt: skip
        np.testing.assert_allclose(found[t], expected, atol=1e-5)


def test_calibration_is_the_formula(double):
    references, target, _ = draw_world()
    found = score(calibration.make_attack(config.Attack()), references, target)
    expected = naive.calibration(np.asarray(target)[2], np.asarray(references.phi)[:, 2], np.asarray(references.owners))
    np.testing.assert_allclose(found[2], expected, atol=1e-5)


@pytest.mark.parametrize("node", [0, 1, 2])
def test_steps_are_the_formulas(double, node):
    references, target, _ = draw_world()
    for mask in (np.ones(SNAPSHOTS, bool), np.arange(SNAPSHOTS) >= 2):
        made = delta.make_attack(config.Attack(), kind="delta_phi", nodes=NODES)
        expected = naive.delta(np.asarray(target), mask, NODES, node)
        np.testing.assert_allclose(score(made, references, target, node=node, mask=mask), expected, atol=1e-8)
    made = peers.make_attack(config.Attack(), nodes=NODES)
    found = score(made, references, target, node=node, mask=np.ones(SNAPSHOTS, bool))
    np.testing.assert_allclose(found, naive.peers(np.asarray(target), NODES, node), atol=1e-8)


def test_a_step_needs_both_of_its_ends():
    made = delta.make_attack(config.Attack(), kind="delta_loss", nodes=NODES)
    assert made.suffices(np.array([1, 1, 0, 0, 0, 0], bool), 1)
    assert not made.suffices(np.array([1, 0, 1, 1, 0, 0], bool), 1)
    among = peers.make_attack(config.Attack(), nodes=NODES)
    assert among.suffices(np.ones(SNAPSHOTS, bool), 0)
    assert not among.suffices(np.arange(SNAPSHOTS) < 3, 0)  # in the first cycle nothing is before N1
    assert not among.suffices(np.array([0, 0, 1, 1, 1, 0], bool), 1)  # a single other node


def test_the_sequence_density_is_scipys(double):
    rng = np.random.default_rng(0)
    values, root = rng.normal(size=(4, 9)), rng.normal(size=(4, 4))
    covariance = root @ root.T + np.eye(4)
    for mask in ([1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 0, 0]):
        seen = np.array(mask, bool)
        found = sequence.log_density(jnp.asarray(values), jnp.asarray(covariance), jnp.asarray(seen))
        expected = naive.gaussian_sequence(values, np.zeros((4, 9)), covariance, seen)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def gaussian_toy(seed=0, *, records=800, references=128):
    """Trajectories with a known law: record means, one covariance, a shift of every snapshot with membership."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(4, 4)) / 2
    covariance, shift = root @ root.T + 0.5 * np.eye(4), np.array([0.5, 1.0, 0.2, 0.8])
    means = 2 * rng.normal(size=(4, records))

    def say(members):
        noise = rng.multivariate_normal(np.zeros(4), covariance, size=records).T
        return means + shift[:, None] * members + noise

    members = rng.random((references, records)) < 0.5
    phi = np.stack([say(each) for each in members])
    told = contract.References(jnp.asarray(phi, jnp.float32), jnp.asarray(np.where(members, 0, -1), jnp.int32))
    targets = rng.random((60, records)) < 0.5
    return told, np.stack([say(each) for each in targets]).astype(np.float32), targets, covariance, shift


def test_lira_and_sequence_lira_reach_neyman_and_pearson():
    references, phi, members, covariance, shift = gaussian_toy()
    # Equal covariances: the best test is linear, and its AUC that of two normals so many deviations apart.
    single = scipy.stats.norm.cdf(shift / np.sqrt(np.diag(covariance)) / np.sqrt(2))
    found = score_all(lira.make_attack(config.Attack(), online=True), references, phi)
    for t in range(4):
        assert auc(found[:, t], members) == pytest.approx(single[t], abs=0.01)
    made = sequence.make_attack(config.Attack())
    for mask in ([1, 1, 1, 1], [1, 0, 0, 1]):
        seen = np.array(mask, bool)
        distance = shift[seen] @ np.linalg.solve(covariance[np.ix_(seen, seen)], shift[seen])
        best = scipy.stats.norm.cdf(np.sqrt(distance / 2))
        assert auc(score_all(made, references, phi, seen), members) == pytest.approx(best, abs=0.01)


def test_the_order_of_snapshots_does_not_matter_to_sequence_lira():
    references, phi, *_ = gaussian_toy(references=16)
    order = np.array([2, 0, 3, 1])
    again = contract.References(references.phi[:, order], references.owners)
    made, mask = sequence.make_attack(config.Attack()), np.array([1, 1, 0, 1], bool)
    found = score(made, references, phi[0], mask=mask)
    np.testing.assert_allclose(score(made, again, phi[0][order], mask=mask[order]), found, rtol=1e-3, atol=1e-3)


@functools.cache
def made(name):
    """A comparison by name."""
    settings = config.Attack(names=(name,))
    return attacks.make_comparisons(settings, nodes=NODES, masks=[np.ones(SNAPSHOTS, bool)])[name]


@pytest.mark.parametrize("name", attacks.COMPARISONS)
def test_every_comparison_tells_members_and_nothing_of_strangers(name):
    everything = None if made(name).combine is None else np.ones(SNAPSHOTS, bool)
    # A large effect under small noise: every attack must see it; without an effect none may.
    for shift, low, high in ((4.0, 0.85, 1.0), (0.0, 0.4, 0.6)):
        references, target, owners = draw_world(records=400, shift=shift, noise=0.5)
        found = score(made(name), references, target.astype(np.float32), node=1, mask=everything)
        found = found if everything is not None else found[4]  # C2N2
        some = (owners == 1) | (owners < 0)
        assert low <= auc(found[some], (owners == 1)[some]) <= high


def test_the_only_node_that_moves_is_named():
    phi = np.zeros((SNAPSHOTS, 90), np.float32)
    owners = np.repeat(np.arange(NODES), 30)
    for node in range(NODES):
        phi[NODES + node, owners == node] += 5.0  # only the second visit to the owner moves anything
    everything = jnp.ones(SNAPSHOTS, bool)
    for scores in (
        delta.by_node(jnp.asarray(phi), everything, nodes=NODES),
        attribution.source_losses(jnp.asarray(phi), everything, nodes=NODES),
    ):
        found = attribution.confusion(scores, jnp.asarray(owners), nodes=NODES)
        np.testing.assert_array_equal(found, 30 * np.eye(NODES))


def test_exchangeable_nodes_are_named_by_chance():
    rng = np.random.default_rng(0)
    owners = jnp.asarray(rng.integers(-1, NODES, size=20_000))
    found = attribution.confusion(jnp.asarray(rng.normal(size=(NODES, 20_000))), owners, nodes=NODES)
    assert found.sum() == (owners >= 0).sum()
    assert np.trace(found) / found.sum() == pytest.approx(1 / NODES, abs=0.015)


def test_relabelled_nodes_permute_the_scores():
    references, target, _ = draw_world(records=200)
    order = np.array([2, 0, 1])
    for name in ("lira_online", "sequence_lira"):
        owners = jnp.where(references.owners < 0, -1, jnp.asarray(np.argsort(order))[references.owners])
        again = contract.References(references.phi, owners)
        mask = None if made(name).combine is None else np.ones(SNAPSHOTS, bool)
        for node in range(NODES):
            found = score(made(name), again, target, node=node, mask=mask)
            np.testing.assert_allclose(found, score(made(name), references, target, node=order[node], mask=mask))
