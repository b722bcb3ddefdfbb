"""Laws of a signal at one snapshot (`scales`): known scales, densities by SciPy, LiRA beside the best test."""

import jax
import jax.numpy as jnp
import laws
import numpy as np
import pytest
import scipy.stats
import worlds

from fedmia_jax.attacks import contract, moments, scales


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_scales_are_shrunk_as_far_as_records_do_not_differ(spread):
    rng = np.random.default_rng(0)
    truth = np.exp(spread * rng.normal(size=2000))
    squares = truth * rng.chisquare(1, size=(24, 2000))
    find = jax.jit(scales.find_scales)
    found = find(jnp.asarray(squares, jnp.float32), jnp.full(2000, 24.0), jnp.asarray(1000.0))
    # A log-normal around a log chi-squared of 24 degrees: the best linear guess leaves this variance.
    chance = scipy.special.polygamma(1, 12)
    left = spread**2 * chance / (spread**2 + chance)
    errors = np.log(found.scale) - np.log(truth)
    assert errors.std() == pytest.approx(np.sqrt(left), abs=0.03)
    # Leaving one out is the same as never having had it.
    squares[0] = 0
    again = find(jnp.asarray(squares, jnp.float32), jnp.full(2000, 23.0), jnp.asarray(1000.0))
    np.testing.assert_allclose(np.log(found.without[0]), np.log(again.scale), atol=0.1)


def test_the_density_is_scipys(double):
    rng = np.random.default_rng(0)
    values, mean, variance = rng.normal(size=(3, 2, 9))
    law = moments.Moments(jnp.asarray(mean), jnp.asarray(variance**2))
    found = scales.log_density(jnp.asarray(values), law, jnp.array([4.0, 30.0]))
    expected = scipy.stats.t.logpdf(values, np.array([[4.0], [30.0]]), loc=mean, scale=np.abs(variance))
    differences = np.asarray(found) - expected  # a constant of the degrees of freedom is left out
    np.testing.assert_allclose(differences, differences[:, :1] + np.zeros(9), atol=1e-9)


def score(known, phi, **values):
    """The law that `lira_online` finds, and what it says of one snapshot of all targets, f32[S, M]."""
    fit, prepare, say = worlds.compiled(worlds.make("lira_online", **values))
    law = prepare(fit(jax.random.key(0), known), jnp.int32(0))
    return law, np.stack([say(law, target)[0] for target in phi])


def test_means_levels_and_tails_of_a_known_law_are_found():
    rng = np.random.default_rng(0)
    means, truth = 2 * rng.normal(size=1500), np.exp(rng.normal(size=1500))
    members = rng.random((48, 1500)) < 0.5
    noise = rng.standard_t(4, size=members.shape) * np.where(members, 1.5, 1.0) * np.sqrt(truth)
    phi = jnp.asarray(means + 2 * members + noise, jnp.float32)[:, None]
    law, _ = score(contract.KnownRecords(phi, jnp.asarray(np.where(members, 0, -1), jnp.int32)), phi[:1])
    assert 3 < float(law.freedom[0]) < 6
    outside, inside = law.groups
    for found, level in ((outside, 1.0), (inside, 1.5**2)):
        ratio = np.log(found.variance[0] / (level * truth))
        assert abs(np.median(ratio)) < 0.15
        assert np.std(ratio) < 0.5  # of 1.0 between records
    assert abs(np.mean(inside.mean - outside.mean) - 2) < 0.1


@pytest.mark.parametrize("law", ["gaussian", "both"])
def test_lira_online_is_near_the_best_test_where_pooled_variances_are_not(law):
    known, phi, members, best = laws.draw(law, snapshots=1, records=1500, targets=12)
    optimum, found, pooled = (
        laws.rates(scores, members) for scores in (best, score(known, phi)[1], score(known, phi, variance="pooled")[1])
    )
    assert found[0] > optimum[0] - 0.05, (optimum, found)
    assert found[1] > optimum[1] - 0.06, (optimum, found)
    if law == "gaussian":
        assert found[0] > pooled[0] - 0.005, (pooled, found)
    else:
        assert found[0] > 2 * pooled[0], (pooled, found)
