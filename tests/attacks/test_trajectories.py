"""Laws of trajectories (`trajectories`): densities and tails by SciPy, attacks beside the best test of a known law."""

import jax.numpy as jnp
import laws
import numpy as np
import pytest
import scipy.stats

from fedmia_jax.attacks import trajectories


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
