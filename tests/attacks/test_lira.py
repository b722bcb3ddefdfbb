"""LiRA, LiRA of a sequence and the moments of a signal (`lira`, `sequence`, `moments`): formulas and best tests."""

import jax.numpy as jnp
import naive
import numpy as np
import pytest
import scipy.stats
import worlds

from fedmia_jax.attacks import contract, lira, moments


@pytest.mark.parametrize("per_record", [False, True])
def test_lira_is_the_formula(double, per_record):
    references, target, _ = worlds.draw_world()
    phi, owners = np.asarray(references.phi)[:, 3], np.asarray(references.owners)

    def plain(weights):  # the plain mean and variance, as published
        weights = jnp.asarray(weights, float)
        count = weights.sum(axis=0)
        mean = (references.phi[:, 3] * weights).sum(axis=0) / count
        around = ((references.phi[:, 3] - mean) ** 2 * weights).sum(axis=0)
        variance = around / (count - 1) if per_record else around.sum() / (count - 1).sum()
        return moments.Moments(mean, jnp.broadcast_to(variance, mean.shape))

    ratio = lira.likelihood_ratio(target[3], plain(owners >= 0), plain(owners < 0))
    expected = naive.lira_online(np.asarray(target)[3], phi, owners, per_record)
    np.testing.assert_allclose(ratio, expected, atol=1e-5)
    offline = scipy.stats.norm.cdf(np.asarray(lira.deviation(target[3], plain(owners < 0))))
    expected = naive.lira_offline(np.asarray(target)[3], phi, owners, per_record)
    np.testing.assert_allclose(offline, expected, atol=1e-5)


def test_with_many_references_the_attack_is_published_lira(double):
    references, target, _ = worlds.draw_world(records=20, references=2000)
    phi, owners = np.asarray(references.phi)[:, 5], np.asarray(references.owners)
    expected = naive.lira_online(np.asarray(target)[5], phi, owners, False)
    # The prior helps even here: the plain mean of 1,000 observations is off by .03 deviations.
    scores = worlds.score(worlds.make("lira_online", variance="pooled"), references, target)
    np.testing.assert_allclose(scores[5], expected, atol=0.2)


def test_moments_are_random_effects(double):
    references, _, _ = worlds.draw_world()
    weights = jnp.asarray(references.owners == 1, float)
    prior = jnp.asarray(np.random.default_rng(1).normal(size=(worlds.SNAPSHOTS, worlds.RECORDS)))
    estimate = moments.estimate(references.phi, weights, prior)
    phi, counted = np.asarray(references.phi), np.asarray(weights) > 0
    for t in range(worlds.SNAPSHOTS):
        observations = [phi[counted[:, m], t, m].tolist() for m in range(worlds.RECORDS)]
        mean, variance = naive.random_effects(observations, np.asarray(prior[t]))
        np.testing.assert_allclose(estimate.mean[t], mean, atol=1e-8)
        np.testing.assert_allclose(estimate.variance[t], variance, atol=1e-8)


def test_the_union_is_the_node_behind_the_last():
    references, _, _ = worlds.draw_world()
    phi, owners = references.phi.astype(jnp.float32), references.owners
    for node in range(worlds.NODES):
        held = moments.membership(owners, jnp.int32(node), nodes=worlds.NODES)
        np.testing.assert_array_equal(held, np.asarray(owners) == node)
    union = jnp.int32(worlds.NODES)
    np.testing.assert_array_equal(moments.membership(owners, union, nodes=worlds.NODES), np.asarray(owners) >= 0)
    out = moments.outside(phi, owners)
    inside = moments.inside(phi, owners, union, out.mean, nodes=worlds.NODES)
    of_one_node = moments.inside(phi, jnp.minimum(owners, 0), jnp.int32(0), out.mean, nodes=1)
    np.testing.assert_array_equal(inside.mean, of_one_node.mean)
    np.testing.assert_array_equal(inside.variance, of_one_node.variance)


def test_lira_and_sequence_lira_reach_neyman_and_pearson():
    references, phi, members, covariance, shift = worlds.gaussian_toy()
    # Equal covariances: the best test is linear, and its AUC that of two normals so many deviations apart.
    single = scipy.stats.norm.cdf(shift / np.sqrt(np.diag(covariance)) / np.sqrt(2))
    scores = worlds.score_all(worlds.make("lira_online"), references, phi)
    for t in range(4):
        assert worlds.auc(scores[:, t], members) == pytest.approx(single[t], abs=0.01)
    for mask in ([1, 1, 1, 1], [1, 0, 0, 1]):
        seen = np.array(mask, bool)
        distance = shift[seen] @ np.linalg.solve(covariance[np.ix_(seen, seen)], shift[seen])
        best = scipy.stats.norm.cdf(np.sqrt(distance / 2))
        scores = worlds.score_all(worlds.make("sequence_lira"), references, phi, worlds.look(seen, worlds.FOUR))
        assert worlds.auc(scores, members) == pytest.approx(best, abs=0.01)


def test_the_order_of_snapshots_does_not_matter_to_sequence_lira():
    references, phi, *_ = worlds.gaussian_toy(references=16)
    order = np.array([2, 0, 3, 1])
    again = contract.KnownRecords(references.phi[:, order], references.owners)
    attack, mask = worlds.make("sequence_lira"), np.array([1, 1, 0, 1], bool)
    scores = worlds.score(attack, references, phi[0], node=0, sight=worlds.look(mask, worlds.FOUR))
    permuted = worlds.score(attack, again, phi[0][order], node=0, sight=worlds.look(mask[order], worlds.FOUR))
    np.testing.assert_allclose(permuted, scores, rtol=1e-3, atol=1e-3)


def test_relabelled_nodes_permute_the_scores():
    references, target, _ = worlds.draw_world(records=200)
    order = np.array([2, 0, 1])
    owners = jnp.where(references.owners < 0, -1, jnp.asarray(np.argsort(order))[references.owners])
    again = contract.KnownRecords(references.phi, owners.astype(jnp.int32))
    for name in ("lira_online", "sequence_lira"):
        attack = worlds.make(name)
        sight = None if attack.combine is None else worlds.look(worlds.EVERYTHING)
        for node in range(worlds.NODES):
            scores = worlds.score(attack, again, target, node=node, sight=sight)
            same = worlds.score(attack, references, target, node=int(order[node]), sight=sight)
            np.testing.assert_allclose(scores, same)
