"""Intervals against SciPy, scikit-learn and plain resampling."""

import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics as references

from fedmia_jax.attacks import thresholds
from fedmia_jax.audit import intervals, roc


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (7, 5000)])
def test_clopper_pearson_is_scipys(successes, trials):
    expected = stats.binomtest(successes, trials).proportion_ci(0.95, method="exact")
    np.testing.assert_allclose(intervals.clopper_pearson(successes, trials), (expected.low, expected.high), atol=1e-9)


def draw(seed=0, *, size=200, ties=False, shift=1.0):
    """Scores of members and of non-members."""
    rng = np.random.default_rng(seed)
    members, others = rng.normal(shift, 1, size), rng.normal(0, 1, 3 * size)
    return (members.round(), others.round()) if ties else (members, others)


@pytest.mark.parametrize("ties", [False, True])
def test_placements_average_to_the_auc(ties):
    members, others = draw(ties=ties)
    labels = np.repeat([1, 0], [len(members), len(others)])
    expected = references.roc_auc_score(labels, np.concatenate([members, others]))
    for side in roc.placements(members, others):
        assert side.mean() == pytest.approx(expected, abs=1e-12)


def test_without_replicates_an_interval_is_that_of_its_resamples():
    rng = np.random.default_rng(0)
    resamples = np.clip(0.8 + 0.05 * rng.normal(size=500), 0, 1)
    made = intervals.share_interval(0.8, intervals.Variance(0.0025), trials=100, resamples=resamples)
    np.testing.assert_allclose(made, np.quantile(resamples, [0.025, 0.975]))
    normal = intervals.share_interval(0.8, intervals.Variance(0.0025), trials=100)
    np.testing.assert_allclose(special.logit(normal), special.logit(0.8) + np.array([-1, 1]) * 1.959964 * 0.05 / 0.16)


def test_replicates_that_differ_widen_the_interval():
    alike = intervals.share_interval(0.8, intervals.Variance(1e-4, 2e-4, 3e-4, 5), trials=100)
    np.testing.assert_allclose(alike, intervals.share_interval(0.8, intervals.Variance(1e-4), trials=100))
    # Next to the replicates their records are nothing: a t-interval with four degrees of freedom, in logits.
    apart = intervals.share_interval(0.8, intervals.Variance(1e-9, 1e-2, 0.0, 5), trials=100)
    expected = special.logit(0.8) + np.array(stats.t.interval(0.95, 4)) * 0.1 / 0.16
    np.testing.assert_allclose(special.logit(apart), expected, rtol=1e-4)
    between = intervals.share_interval(0.8, intervals.Variance(1e-2, 2e-2, 1e-2, 5), trials=100)
    freedom = 4 * (2e-2 / 2e-2) ** 2
    expected = special.logit(0.8) + np.array(stats.t.interval(0.95, freedom)) * np.sqrt(2e-2) / 0.16
    np.testing.assert_allclose(special.logit(between), expected)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_number_at_the_end_has_the_exact_interval(value):
    made = intervals.share_interval(value, intervals.Variance(0.0, 0.0, 0.0, 5), trials=80)
    assert made == intervals.clopper_pearson(80 * value, 80)


@pytest.mark.parametrize("ties", [False, True])
def test_the_point_at_a_rate_by_hand(ties):
    members, others = draw(ties=ties)
    for rate in (0.0, 0.01, 0.2):
        result = roc.at_rate(roc.make_roc(members, others), rate)
        assert result.fpr <= rate + 1e-12
        assert result.fpr == pytest.approx((others > result.threshold).mean())
        assert result.tpr == (members > result.threshold).mean()
        allowed = [t for t in np.concatenate([members, others]) if (others > t).mean() <= rate]
        assert result.tpr == max((members > t).mean() for t in allowed)


@pytest.mark.parametrize("ties", [False, True])
def test_the_best_threshold_by_hand(ties):
    members, others = draw(ties=ties)
    members, others = members.astype(np.float32), others.astype(np.float32)
    inside = np.arange(len(members) + len(others)) < len(members)
    result = thresholds.best_overall(np.concatenate([members, others]), inside, ~inside)
    cuts = np.concatenate([members, others, [-10.0]])
    best = max((members > cut).mean() - (others > cut).mean() for cut in cuts)
    assert (members > result).mean() - (others > result).mean() == pytest.approx(best, abs=1e-12)


def test_the_t_interval():
    values = np.array([0.1, 0.4, 0.3])
    expected = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    assert intervals.t_width(values) == pytest.approx((expected[1] - expected[0]) / 2)
    assert np.isnan(intervals.t_width(values[:1]))
