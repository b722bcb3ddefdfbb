"""ROC and AUC against scikit-learn and by hand; points at a rate under weights are in `test_intervals.py`."""

import numpy as np
import pytest
from sklearn import metrics as references

from fedmia_jax.audit import roc


def draw(seed, *, ties):
    rng = np.random.default_rng(seed)
    members, others = rng.normal(1, 1, 80), rng.normal(0, 1, 150)
    return (members.round(), others.round()) if ties else (members, others)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_rates_are_scikit_learns(ties, weighted):
    members, others = draw(0, ties=ties)
    weights = np.random.default_rng(1).uniform(0.5, 2, len(others)) if weighted else None
    sample = np.concatenate([np.ones(len(members)), np.ones(len(others)) if weights is None else weights])
    truth = np.repeat([1, 0], [len(members), len(others)])
    fpr, tpr, thresholds = references.roc_curve(
        truth, np.concatenate([members, others]), sample_weight=sample, drop_intermediate=False
    )
    made = roc.make_roc(members, others, weights)
    below = np.nextafter(thresholds[1:], -np.inf)  # scikit-learn counts what is at a threshold too
    got_tpr, got_fpr = roc.rates_above(made, below)
    np.testing.assert_allclose(got_tpr, tpr[1:], atol=1e-12)
    np.testing.assert_allclose(got_fpr, fpr[1:], atol=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_beaten_averages_to_the_auc(ties):
    members, others = draw(2, ties=ties)
    truth = np.repeat([1, 0], [len(members), len(others)])
    expected = references.roc_auc_score(truth, np.concatenate([members, others]))
    assert roc.beaten(members, np.sort(others)).mean() == pytest.approx(expected, abs=1e-12)


def test_a_rate_allows_whole_false_alarms():
    assert [roc.allowed_alarms(0.01, number) for number in (99, 100, 199, 200, 1200)] == [0, 1, 1, 2, 12]
    assert roc.allowed_alarms(0.001, 3000) == 3  # 3000 * 0.001 is a little more or less than 3


def test_nothing_is_above_an_infinite_threshold_and_everything_above_the_other():
    made = roc.make_roc(np.array([1.0, 2.0]), np.array([0.0, 1.0]))
    tpr, fpr = roc.rates_above(made, np.array([-np.inf, np.inf]))
    assert tpr.tolist() == [1.0, 0.0]
    assert fpr.tolist() == [1.0, 0.0]
