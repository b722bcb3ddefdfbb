"""Resampled rates against repeated records, and what the weights are."""

import numpy as np
import pytest

from fedmia_jax.audit import intervals, resampling

RATES = np.array([0.01, 0.002])


def draw(seed=0, *, replicates=3, num_records=800, ties=False):
    """Scores f32[S, M], members and non-members; some records are neither."""
    rng = np.random.default_rng(seed)
    role = rng.integers(0, 5, (replicates, num_records))
    members, others = role == 0, role > 1
    scores = (rng.normal(size=num_records) + rng.normal(size=role.shape) + members).astype(np.float32)
    return scores.round(1) if ties else scores, members, others


def by_hand(scores, members, others, weights, rate):
    """The TPR when every score is repeated as often as its weight says."""
    weights = weights.astype(int).reshape(scores.shape)
    inside, outside = (np.repeat(scores[group], weights[group]) for group in (members, others))
    cuts = [np.inf, *np.unique(outside)[::-1], -np.inf]
    return max((inside > cut).mean() for cut in cuts if (outside > cut).mean() <= rate + 1e-9)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("replicates", [1, 3])
def test_every_weighting_takes_its_threshold_anew(ties, replicates):
    scores, members, others = draw(replicates=replicates, ties=ties)
    rates = resampling.at_rates(scores, members, others, RATES)
    draws = resampling.draw(*scores.shape)
    for place, rate in enumerate(RATES):
        for column in (0, 7, 31):
            weights = np.broadcast_to(draws.records[:, column], scores.shape)
            expected = by_hand(scores, members, others, weights, rate)
            assert rates.tpr.records[place, column] == pytest.approx(expected, abs=1e-9)
        assert rates.tpr.value[place] == pytest.approx(by_hand(scores, members, others, np.ones(scores.shape), rate))
        for column in range(0, draws.places.shape[1], 9) if replicates > 1 else ():
            expected = by_hand(scores, members, others, draws.places[:, column], rate)
            columns = np.concatenate([rates.tpr.value[:, None], rates.tpr.without, rates.tpr.within], axis=1)
            assert columns[place, column] == pytest.approx(expected, abs=1e-9)


def test_what_is_realised_and_who_is_behind_it():
    scores, members, others = draw()
    rates = resampling.at_rates(scores, members, others, RATES)
    for place, rate in enumerate(RATES):
        above = (scores > rates.thresholds[place]) & others
        assert rates.fpr[place] == pytest.approx(above.sum() / others.sum())
        assert rate - 1 / others.sum() < rates.fpr[place] <= rate
        assert rates.tpr.value[place] == (scores > rates.thresholds[place])[members].mean()
    few = (scores > rates.thresholds[1]) & others
    assert rates.alarms[1] == few.any(axis=0).sum() < intervals.LEAST_ALARMS


def test_the_weights():
    draws = resampling.draw(3, 500)
    assert draws.records.shape == (500, resampling.RESAMPLES)
    assert draws.records.mean() == pytest.approx(1, abs=0.02)
    assert draws.records.var() == pytest.approx(1, abs=0.03)
    whole, without, within = np.split(draws.places.reshape(3, 500, -1), [1, 4], axis=2)
    assert (whole == 1).all()
    assert (without == 1 - np.eye(3)[:, None, :]).all()
    assert (within.sum(axis=0) == 3).all()
    assert within.var() == pytest.approx(2 / 3, abs=0.02)  # of a binomial with three trials of chance a third
    again = resampling.draw.__wrapped__(3, 500)
    np.testing.assert_array_equal(draws.places, again.places)


def test_parts_of_a_variance():
    """A mean of effects of records, replicates and both, against the variances that they are drawn with."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(1, 6))  # of replicates
    resampled = resampling.Resampled(
        np.array([means.mean()]),
        np.array([[np.delete(means, left).mean() for left in range(6)]]),
        0.3 * rng.normal(size=(1, 4000)),
        0.2 * rng.normal(size=(1, 4000)),
    )
    (variance,) = resampling.variances(resampled)
    assert variance.records == pytest.approx(0.09, rel=0.1)
    assert variance.replicates == pytest.approx(means.var(ddof=1) / 6)
    assert variance.within == pytest.approx(6 / 5 * 0.04, rel=0.1)
    assert variance.num_replicates == 6
    alone = resampled._replace(without=np.zeros((1, 0)), within=np.zeros((1, 0)))
    assert resampling.variances(alone) == [intervals.Variance(variance.records)]
