"""Metrics against scikit-learn on a thousand tied samples, and what scores of any size may do."""

import numpy as np
import pytest
import scipy.stats
import sklearn
import sklearn.metrics

from fedmia_jax.audit import metrics

NUM_CASES, PARTIES, SLOTS = 1000, 3, 200
RATES = (0.01, 0.1)


def measure(scores, members, non_members, thresholds):
    """Metrics of every party of many snapshots, f64[cases, parties, 7], see `numbers`."""
    cases = zip(scores, members, non_members, thresholds, strict=True)
    return np.array(
        [[numbers(row, party, outside, limit) for party in parties] for row, parties, outside, limit in cases]
    )


def numbers(*case):
    """Accuracy, precision, recall, F1, AUC and TPR at the rates."""
    *fields, tpr = metrics.measure(*case, rates=RATES)
    return [*fields, *tpr]


def measure_one(inside, outside, threshold=0.0):
    """Metrics of one party, from scores of members and of non-members."""
    scores = np.full(SLOTS, 5.0, np.float32)  # what belongs to nobody scores in the middle of things
    scores[: len(inside)], scores[100 : 100 + len(outside)] = inside, outside
    members = np.arange(SLOTS) < len(inside)
    non_members = (np.arange(SLOTS) >= 100) & (np.arange(SLOTS) < 100 + len(outside))
    return metrics.measure(scores, members, non_members, np.float32(threshold), rates=RATES)


@pytest.fixture(scope="module")
def cases():
    """Random scores with many ties, parties of random size, and records that belong to nobody."""
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(size=(NUM_CASES, SLOTS)) * rng.choice([0.5, 2, 10], size=(NUM_CASES, 1)))
    owners = np.empty((NUM_CASES, SLOTS), int)
    for row in owners:
        sizes = [*rng.integers(1, 61, size=PARTIES), rng.choice([1, 9, 10, 50, 99, 100, 110])]  # the last: non-members
        order = np.repeat(np.arange(PARTIES + 1), sizes)[:SLOTS]
        order = np.concatenate([order, np.full(SLOTS - len(order), -1)])
        order[:4] = np.arange(4)  # each has a record, even where the cut above left none
        row[:] = rng.permutation(order)
    scores += rng.integers(0, 3, size=(NUM_CASES, 1)) * (owners < PARTIES)  # some are good attacks
    thresholds = scores[:, 0] + rng.choice([0, 0.5], size=NUM_CASES)
    members = owners[:, None] == np.arange(PARTIES)[:, None]
    return scores.astype(np.float32), members, owners == PARTIES, thresholds.astype(np.float32)


def reference(scores, members, non_members, threshold):
    """Accuracy, precision, recall, F1, AUC and TPR at the rates, by scikit-learn."""
    used = members | non_members
    truth, scores = members[used], scores[used]
    weights = np.where(truth, 1 / members.sum(), 1 / non_members.sum())
    guess = scores > threshold
    accuracy = sklearn.metrics.balanced_accuracy_score(truth, guess)
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
        truth, guess, sample_weight=weights, average="binary", zero_division=0.0
    )
    auc = sklearn.metrics.roc_auc_score(truth, scores)
    fpr, tpr, _ = sklearn.metrics.roc_curve(truth, scores, drop_intermediate=False)
    resolved = [rate * non_members.sum() >= 1 - 1e-9 for rate in RATES]
    at_rates = [tpr[fpr <= rate + 1e-9].max() if ok else np.nan for rate, ok in zip(RATES, resolved, strict=True)]
    return [accuracy, precision, recall, f1, auc, *at_rates]


def test_a_thousand_cases_against_scikit_learn(cases):
    """One of the parties of each case, in turn."""
    got = measure(*cases)
    assert got.shape == (NUM_CASES, PARTIES, 7)
    expected = np.empty((NUM_CASES, 7))
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        for case, (scores, members, non_members, threshold) in enumerate(zip(*cases, strict=True)):
            expected[case] = reference(scores, members[case % PARTIES], non_members, threshold)
    np.testing.assert_allclose(
        got[np.arange(NUM_CASES), np.arange(NUM_CASES) % PARTIES], expected, rtol=1e-5, atol=1e-6
    )
    assert 0.2 < np.isnan(expected[:, 5]).mean() < 0.9, "rates with and without enough non-members"


def test_records_of_nobody_have_no_influence(cases):
    scores, members, non_members, thresholds = cases
    nobody = ~(members.any(axis=1) | non_members)
    assert nobody.any(axis=1).mean() > 0.3
    other = np.where(nobody, np.random.default_rng(1).normal(size=scores.shape) * 20, scores).astype(np.float32)
    np.testing.assert_allclose(measure(*cases), measure(other, members, non_members, thresholds), rtol=1e-6)


def test_auc_is_the_mann_whitney_statistic():
    rng = np.random.default_rng(2)
    inside, outside = np.round(rng.normal(size=70) + 0.5, 1), np.round(rng.normal(size=90), 1)
    expected = scipy.stats.mannwhitneyu(inside, outside).statistic / (70 * 90)
    np.testing.assert_allclose(measure_one(inside, outside).auc, expected, rtol=1e-6)


def test_a_perfect_a_constant_and_an_inverted_attack():
    high, low = np.full(50, 3.0), np.full(100, -3.0)
    perfect = measure_one(high, low)
    for name in ("accuracy", "precision", "recall", "f1", "auc"):
        np.testing.assert_allclose(getattr(perfect, name), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(perfect.tpr_at_fpr, [1.0, 1.0])
    inverted = measure_one(low[:50], np.full(100, 3.0))
    for name in ("accuracy", "precision", "recall", "f1", "auc"):
        np.testing.assert_allclose(getattr(inverted, name), 0.0, atol=1e-6)
    np.testing.assert_array_equal(inverted.tpr_at_fpr, [0.0, 0.0])
    for value, recall, precision in ((3.0, 1.0, 0.5), (-3.0, 0.0, 0.0), (0.0, 0.0, 0.0)):  # a score of 0 is not above 0
        same = measure_one(np.full(50, value), np.full(100, value))
        np.testing.assert_allclose([same.accuracy, same.auc, same.recall], [0.5, 0.5, recall], rtol=1e-6)
        np.testing.assert_allclose(same.precision, precision, rtol=1e-6)
        np.testing.assert_array_equal(same.tpr_at_fpr, [0.0, 0.0])


@pytest.mark.parametrize(
    ("num_non_members", "resolved"),
    [(9, (False, False)), (10, (False, True)), (99, (False, True)), (100, (True, True))],
)
def test_a_rate_needs_enough_non_members(num_non_members, resolved):
    """A false-positive rate of one in n takes n non-members; with fewer it is unknown, not zero."""
    result = measure_one(np.full(50, 3.0), np.full(num_non_members, -3.0))
    np.testing.assert_array_equal(result.tpr_at_fpr, [1.0 if ok else np.nan for ok in resolved])


def test_the_threshold_falls_between_distinct_scores():
    """One false positive in a hundred is allowed; two that tie are not, nor the members that tie with them."""
    inside = np.repeat([9.0, 8.0, 7.0], [10, 10, 10])
    for outside, expected in (
        ([8.0] + [0.0] * 99, 30 / 30),
        ([8.0, 7.0] + [0.0] * 98, 20 / 30),
        ([8.0, 8.0] + [0.0] * 98, 10 / 30),
        ([9.5, 9.5] + [0.0] * 98, 0.0),
    ):
        np.testing.assert_allclose(measure_one(inside, outside).tpr_at_fpr[0], expected, rtol=1e-6)


def test_extreme_scores_are_ranked_as_any_other():
    """Infinities tie with themselves; huge, tiny and signed zeros order and tie as numbers do."""
    largest, tiny = np.finfo(np.float32).max, np.finfo(np.float32).tiny
    inside = np.array([np.inf, np.inf, largest, 1.0, 0.0, tiny, -np.inf], np.float32)
    outside = np.array([np.inf, -largest, -1.0, -0.0, -tiny, -np.inf, -np.inf, largest, 0.0, 2.0], np.float32)
    ranks = np.unique(np.concatenate([inside, outside]), return_inverse=True)[1]
    truth = np.arange(17) < 7
    result = measure_one(inside, outside)
    np.testing.assert_allclose(result.auc, sklearn.metrics.roc_auc_score(truth, ranks), rtol=1e-6)
    np.testing.assert_allclose(result.recall, 5 / 7, rtol=1e-6)
    np.testing.assert_allclose(result.tpr_at_fpr[1], 2 / 7, rtol=1e-6)  # up to one of ten: the infinite ones


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_an_impossible_rate_is_refused(rate):
    with pytest.raises(ValueError, match="a false-positive rate lies between 0 and 1"):
        metrics.measure(np.zeros(4), np.arange(4) < 2, np.arange(4) >= 2, 0.0, rates=(rate,))


def test_scores_that_are_no_numbers_do_not_look_like_an_attack():
    """NaN sorts somewhere; every metric says NaN instead of AUC 1."""
    members = np.arange(8) < 4
    for broken in (members, ~members, np.arange(8) == 7):
        scores = np.where(broken, np.nan, 0.0).astype(np.float32)
        result = metrics.measure(scores, members, ~members, 0.0, rates=(0.5,))
        assert all(np.isnan(leaf).all() for leaf in result)


def test_without_members_or_non_members_nothing_is_known():
    scores, everybody = np.arange(8, dtype=np.float32), np.ones(8, bool)
    for members, others in ((everybody, ~everybody), (~everybody, everybody)):
        assert all(np.isnan(leaf).all() for leaf in metrics.measure(scores, members, others, 0.0, rates=(0.5,)))
