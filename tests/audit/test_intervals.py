"""Intervals against SciPy, scikit-learn and plain resampling."""

import numpy as np
import pytest
from scipy import stats
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


def test_the_bootstrap_is_plain_resampling():
    members, others = draw()
    scores = np.concatenate([members, others])
    inside = np.arange(len(scores)) < len(members)
    wins = np.concatenate(roc.placements(members, others))
    records, both = intervals.auc_interval(wins[None, None], inside[None, None], ~inside[None, None], seed=0)
    assert records == both  # a single replicate
    rng, result = np.random.default_rng(1), []
    for _ in range(600):
        again = roc.placements(rng.choice(members, len(members)), rng.choice(others, len(others)))
        result.append(again[0].mean())
    np.testing.assert_allclose(records, np.percentile(result, [2.5, 97.5]), atol=0.008)


def test_replicates_that_differ_widen_the_interval():
    parts = [draw(seed, shift=shift) for seed, shift in enumerate((0.5, 1.0, 1.5, 2.0))]
    inside = np.arange(800) < 200
    wins = np.stack([np.concatenate(roc.placements(*part)) for part in parts])[None]
    groups = np.broadcast_to(inside, (1, 4, 800))
    records, both = intervals.auc_interval(wins, groups, ~groups, seed=0)
    assert both.high - both.low > 2 * (records.high - records.low)


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
