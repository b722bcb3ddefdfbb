"""Laws of trajectories (`trajectories`): densities and tails by SciPy, attacks beside the best test of a known law."""

import jax
import jax.numpy as jnp
import laws
import numpy as np
import pytest
import scipy.stats

from fedmia_jax.attacks import contract, trajectories


def test_the_density_is_scipys(double):
    rng = np.random.default_rng(0)
    values, root, scale = rng.normal(size=(4, 9)), rng.normal(size=(4, 4)), rng.uniform(0.5, 2, size=9)
    scatter = root @ root.T + np.eye(4)
    for mask in ([1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 0, 0]):
        seen = np.array(mask, bool)
        arrays = (jnp.asarray(each) for each in (values, scatter, seen, scale))
        density = np.asarray(trajectories.log_density(*arrays, jnp.asarray(5.0)))
        part = scatter[np.ix_(seen, seen)]
        expected = [
            scipy.stats.multivariate_t.logpdf(value, shape=part * each, df=5)
            for value, each in zip(values[seen].T, scale, strict=True)
        ]
        np.testing.assert_allclose(density - density[0], np.array(expected) - expected[0], atol=1e-8)


@pytest.mark.parametrize("freedom", [3.0, 8.0])
def test_freedom_is_found(freedom):
    squares = 10 * scipy.stats.f(10, freedom).rvs(200_000, random_state=0)
    found = trajectories.find_freedom(jnp.asarray(np.log(squares).var(), jnp.float32), 10)
    assert float(found) == pytest.approx(freedom, rel=0.1)


def test_scales_of_records_are_found():
    rng = np.random.default_rng(0)
    truth = np.exp(rng.normal(size=500))
    logs = np.log(truth * rng.chisquare(10, size=(40, 500)) / 10)
    scale, spread = trajectories.find_scale(jnp.asarray(logs, jnp.float32), jnp.ones((40, 500)))
    assert float(spread) == pytest.approx(scipy.special.polygamma(1, 5), rel=0.05)
    errors = np.log(scale) - np.log(truth)
    assert np.std(errors) < 0.1


@pytest.mark.parametrize("law", ["gaussian", "both"])
def test_sequence_lira_is_near_the_best_test(law):
    known, phi, members, best = laws.draw(law, records=1000, targets=12)
    optimum, found = laws.rates(best, members), laws.rates(laws.score("sequence_lira", known, phi), members)
    assert found[0] > optimum[0] - 0.06, (optimum, found)
    assert found[1] > optimum[1] - 0.1, (optimum, found)


def test_who_sees_more_is_not_worse():
    known, phi, members, _ = laws.draw("both", records=1000, targets=12)
    rates = [
        laws.rates(laws.score("sequence_lira", known, phi, seen=np.arange(10) >= 10 - count), members)[0]
        for count in (1, 4, 10)
    ]
    assert rates == sorted(rates), rates


find_law = jax.jit(trajectories.find_law, static_argnames="most")


def some_references(held=(6, 9, 4), records=60, references=9):
    """Trajectories of three snapshots at references whose nodes hold unequally many records."""
    rng = np.random.default_rng(0)
    owners = np.full((references, records), -1, np.int32)
    for own in owners:
        own[rng.permutation(records)[: sum(held)]] = np.repeat(np.arange(len(held)), held)
    phi = rng.normal(size=(references, 3, records)) + 2 * rng.normal(size=records) + (owners == 1)[:, None]
    return jnp.asarray(phi, jnp.float32), owners


@pytest.mark.parametrize("node", [0, 1, 2])
def test_a_law_does_not_depend_on_the_room_for_its_observations(node, equal):
    phi, owners = some_references()
    most = contract.Most.of(owners)
    assert most == (9, 41)
    exact, roomy = (find_law(phi, jnp.asarray(owners), jnp.int32(node), most=room) for room in (most, None))
    equal(exact, roomy, rtol=1e-4, atol=1e-5)


def test_a_law_does_not_depend_on_records_of_other_nodes(equal):
    phi, owners = some_references()
    changed = jnp.where(((owners == 0) | (owners == 2))[:, None], 99.0, phi)
    most = contract.Most.of(owners)
    found = [find_law(values, jnp.asarray(owners), jnp.int32(1), most=most) for values in (phi, changed)]
    equal(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_a_covariance_is_that_of_weighted_observations(double):
    rng = np.random.default_rng(0)
    errors, weights = rng.normal(size=(200, 4)), rng.uniform(size=200)
    found = trajectories.shrunk_covariance(jnp.asarray(errors), jnp.asarray(weights), jnp.asarray(200.0))
    sample = sum(weight * np.outer(error, error) for error, weight in zip(errors, weights, strict=True)) / 200
    share = 4 / 204
    expected = (1 - share) * sample + share * np.diag(np.diag(sample))
    np.testing.assert_allclose(found, expected, atol=1e-5)
