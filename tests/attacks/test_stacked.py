"""The stacked attack: folds that share nothing, ratios by SciPy, gains over sequence LiRA where its law is wrong."""

import jax
import jax.numpy as jnp
import laws
import numpy as np
import scipy.stats
import worlds

from fedmia_jax.attacks import contract, stacked, trajectories


def test_no_reference_is_read_by_a_law_that_was_fitted_on_it():
    known, read = stacked.split(14)
    for of_law, of_network in zip(known, read, strict=True):
        assert not set(of_law) & set(of_network)
    assert sorted(read.reshape(-1)) == list(range(12))  # those beyond equal folds are left out


def make_law(rng, snapshots, records):
    """Some law of trajectories."""
    roots = [rng.normal(size=(snapshots, snapshots)) for _ in range(2)]
    scatters = [root @ root.T + np.eye(snapshots) for root in roots]
    means = rng.normal(size=(2, snapshots, records))
    scale = rng.uniform(0.5, 2, size=records)
    arrays = (*means, *scatters, scale, 5.0, np.zeros(records))
    return trajectories.Law(*(jnp.asarray(array) for array in arrays))


def test_ratios_are_scipys(double):
    rng = np.random.default_rng(0)
    law, values = make_law(rng, 4, 9), rng.normal(size=(4, 9))
    seen = np.array([True, False, True, True])
    residuals = stacked.Residuals(values - law.inside, values - law.outside, law.scale, jnp.ones((2, 9)))
    ratios = stacked._ratios(law, residuals, jnp.asarray(seen))

    def ratio(log_density):
        each = zip((law.of_inside, law.of_outside), (residuals.inside, residuals.outside), strict=True)
        inside, outside = (
            [
                log_density(value, scatter[np.ix_(seen, seen)] * scale)
                for value, scale in zip(errors[seen].T, law.scale, strict=True)
            ]
            for scatter, errors in each
        )
        return np.subtract(inside, outside)

    by_t = ratio(lambda value, shape: scipy.stats.multivariate_t.logpdf(value, shape=shape, df=5))
    by_normal = ratio(lambda value, cov: scipy.stats.multivariate_normal.logpdf(value, cov=cov))

    def by_component(value, cov):
        root = np.linalg.cholesky(cov)
        return scipy.stats.t.logpdf(np.linalg.solve(root, value), 3).sum() - np.log(np.diag(root)).sum()

    for got, expected in zip(ratios, (by_t, by_normal, ratio(by_component)), strict=False):
        np.testing.assert_allclose(got, expected, atol=1e-8)


def test_it_finds_more_than_sequence_lira_where_every_component_has_a_tail(monkeypatch):
    monkeypatch.setattr(stacked, "NUM_UPDATES", 600)
    monkeypatch.setattr(stacked, "NUM_EXAMPLES", 60_000)
    known, phi, members, best = laws.draw("t4 each", records=1000, targets=12)
    optimum, plain, found = (
        laws.rates(scores, members)
        for scores in (best, laws.score("sequence_lira", known, phi), laws.score("stacked", known, phi))
    )
    assert plain[0] + 0.02 < found[0] < optimum[0] + 0.02, (optimum, plain, found)
    assert found[0] > optimum[0] - 0.08, (optimum, found)


def test_what_is_kept_is_no_worse_on_unseen_references_than_the_ratio_alone(short_fits):
    known, _, _ = worlds.draw_world()
    fitted = jax.jit(worlds.make("stacked").fit)(jax.random.key(0), known)
    assert np.isfinite(fitted["curve"]).all()
    assert fitted["curve"].min() <= fitted["curve"][0]
    if fitted["curve"][0] == fitted["curve"].min():
        assert not np.any(fitted["params"]["Dense_2"]["kernel"])


def test_places_outside_count_for_nothing():
    marked = stacked._places(jnp.array([2, -1]), jnp.zeros(4, bool))
    np.testing.assert_array_equal(marked, [False, False, True, False])
    setup = contract.Setup.of(worlds.CYCLIC, [worlds.EVERYTHING, worlds.EVERYTHING, ~worlds.EVERYTHING])
    assert len(stacked.distinct(setup)) == 2
