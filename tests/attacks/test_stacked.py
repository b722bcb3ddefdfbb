"""The stacked attack: folds that share nothing, ratios by SciPy, gains over sequence LiRA where its law is wrong."""

import jax
import jax.numpy as jnp
import laws
import numpy as np
import scipy.stats
import threadpoolctl
import worlds
from sklearn import ensemble

from fedmia_jax.attacks import contract, stacked, trajectories
from fedmia_jax.schedule import Schedule


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
    monkeypatch.setattr(stacked, "NUM_EXAMPLES", 30_000)
    known, phi, members, best = laws.draw("t4 each", records=1000, targets=12)
    optimum, plain, found = (
        laws.rates(scores, members)
        for scores in (best, laws.score("sequence_lira", known, phi), laws.score("stacked", known, phi))
    )
    assert plain[0] + 0.02 < found[0] < optimum[0] + 0.02, (optimum, plain, found)
    assert found[0] > optimum[0] - 0.08, (optimum, found)
    assert found[0] > laws.rates(boosted(known, phi), members)[0] - 0.02


def boosted(known, phi):
    """What gradient boosting by scikit-learn makes of the same inputs."""
    num_snapshots, node = phi.shape[1], jnp.int32(0)
    setup = contract.Setup.of(Schedule.cyclic(nodes=1, cycles=num_snapshots), [np.ones(num_snapshots, bool)])
    sight = contract.Sight(jnp.ones(num_snapshots, bool), jnp.asarray(setup.before), jnp.asarray(setup.visits))

    @jax.jit
    def find(phi, owners):
        counts = jnp.stack([(owners == 0).sum(axis=0), (owners < 0).sum(axis=0)]).astype(jnp.float32)
        return trajectories.find_law(phi, owners, node, most=None), counts

    @jax.jit
    def examples(number, of_others, others):
        return stacked.make_examples(jax.random.key(number), others, *of_others, node, setup)

    @jax.jit
    def inputs(law, counts, phi):
        residuals = stacked.Residuals(phi - law.inside, phi - law.outside, law.scale, counts)
        return stacked.make_inputs(law, residuals, sight, node)

    folds = enumerate(zip(*stacked.split(len(known.owners)), strict=True))
    drawn = [
        examples(
            number, find(known.phi[fit], known.owners[fit]), jax.tree.map(lambda leaf, read=read: leaf[read], known)
        )
        for number, (fit, read) in folds
    ]
    features, labels = (np.concatenate([np.asarray(fold[part]) for fold in drawn]) for part in (0, 1))
    law, counts = find(known.phi, known.owners)
    seen = np.concatenate([np.asarray(inputs(law, counts, each)) for each in phi])
    some = np.random.default_rng(0).permutation(len(labels))[:20_000]
    with threadpoolctl.threadpool_limits(1):  # threads of two workers would wait for each other
        model = ensemble.HistGradientBoostingClassifier(max_iter=50).fit(features[some], labels[some])
        return model.decision_function(seen).reshape(len(phi), -1)


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
