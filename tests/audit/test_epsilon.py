"""Bounds on epsilon against published code, naive sums, mechanisms with a known epsilon, and broken readings.

The long form is `python -m tests.audit.epsilon_coverage`. Values of `jax-privacy` 2.0.0 were made by the last test's
calls, which run where it is installed.
"""

import epsilon_coverage
import numpy as np
import pytest
from scipy import special, stats

from fedmia_jax.audit import correction, epsilon, evidence, roc, scorers
from fedmia_jax.schedule import Schedule

TIMES = 40
# (coins, guesses, correct), delta, `epsilon_one_run`, `epsilon_one_run_fdp` of jax-privacy at a significance of 0.05.
PUBLISHED = [
    ((1000, 500, 400), 1e-5, 1.197968599677, 2.076806928841),
    ((1000, 250, 250), 1e-5, 4.391223793667, 7.859760299040),
    ((1000, 250, 250), 1e-2, 0.0, 4.553217920028),
    ((10_000, 2500, 2300), 1e-5, 2.316807127608, 3.468260989333),
    ((2000, 2000, 1500), 1e-5, 1.012445193067, 1.820235102549),
    ((50_000, 12_500, 12_300), 1e-2, 0.0, 3.278687094543),
    ((200, 50, 24), 1e-5, 0.0, 0.0),
]


def bounds(counts, delta):
    """Both bounds for one number of guesses."""
    looks = [epsilon.Counts(*counts)]
    return epsilon.one_run(looks, delta=delta), epsilon.one_run_gaussian(looks, delta=delta)


@pytest.mark.parametrize(("counts", "delta", "one_run", "gaussian"), PUBLISHED)
def test_bounds_are_those_of_published_code(counts, delta, one_run, gaussian):
    assert bounds(counts, delta) == pytest.approx((one_run, gaussian), abs=2e-5)


def test_bounds_are_those_of_jax_privacy_where_it_is_installed():
    auditing = pytest.importorskip("jax_privacy.auditing")
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(1.5, 1, 300), rng.normal(0, 1, 300)
    auditor = auditing.CanaryScoreAuditor(inside, outside)
    for cut in (0.5, 1.5, 3.0):
        guesses, correct = int((inside >= cut).sum() + (outside >= cut).sum()), int((inside >= cut).sum())
        calls = {"significance": 0.05, "delta": 1e-5, "threshold_strategy": auditing.Explicit(cut)}
        expected = auditor.epsilon_one_run(**calls), auditor.epsilon_one_run_fdp(**calls)
        assert bounds((600, guesses, correct), 1e-5) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("counts", [(100, 40, 31), (100, 100, 100), (60, 20, 3), (5000, 4000, 3100)])
@pytest.mark.parametrize("delta", [0.0, 1e-3])
def test_the_p_value_is_the_naive_sum(counts, delta):
    coins, guesses, correct = counts
    for value in (0.0, 0.7, 2.0):
        chance = special.expit(value)
        tail = stats.binom.sf(np.arange(-1, correct), guesses, chance)
        slope = max([(tail[correct - fewer] - tail[correct]) / fewer for fewer in range(1, correct + 1)], default=0)
        expected = min(1.0, tail[correct] + 2 * coins * delta * slope)
        assert epsilon.p_value(epsilon.Counts(*counts), value, delta=delta) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("mu", [0.3, 1.0, 4.0])
def test_the_curve_of_a_gaussian_is_inverted(mu):
    value = epsilon.gaussian_epsilon(mu, 1e-5)
    grid = np.linspace(-30, 40, 700_001)
    inside, outside = stats.norm.pdf(grid, mu), stats.norm.pdf(grid)
    excess = np.maximum(inside - np.exp(value) * outside, 0).sum() * (grid[1] - grid[0])
    assert excess == pytest.approx(1e-5, rel=1e-3)
    assert epsilon.gaussian_epsilon(0.0, 1e-5) == 0


def test_guesses_are_counted_by_hand():
    rng = np.random.default_rng(0)
    members = rng.random(640) < 0.5
    scores = rng.permutation(640) + 300.0 * members
    highest = np.argsort(-scores)
    for (high, low), counts in zip(epsilon.LOOKS, epsilon.guess(scores, members), strict=True):
        inside, outside = highest[: int(640 * high)], highest[640 - int(640 * low) :]
        assert counts == (640, len(inside) + len(outside), members[inside].sum() + (~members[outside]).sum())


def test_equal_scores_do_not_follow_the_order_of_the_records():
    members = np.arange(4000) < 2000
    for counts in epsilon.guess(np.zeros(4000), members):
        assert abs(counts.correct / counts.guesses - 0.5) < 4 * 0.5 / np.sqrt(counts.guesses)


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_coins_are_made_fair(rate):
    members = np.random.default_rng(0).random(20_000) < rate
    kept = epsilon.make_fair(members, rate)
    assert members[kept].mean() == pytest.approx(0.5, abs=0.02)
    assert kept.mean() == pytest.approx(2 * min(rate, 1 - rate), abs=0.02)


def may_be_wrong(bounds_of, truth):
    """Whether so many bounds exceed the truth as those that are right in 95% may, in 1 of 1,000 tests."""
    wrong = sum(value > truth + 1e-6 for value in bounds_of)
    return wrong <= stats.binom.ppf(0.999, len(bounds_of), 0.05)


@pytest.mark.parametrize("name", epsilon_coverage.MECHANISMS)
def test_bounds_of_coins_hold(name):
    mechanism = epsilon_coverage.MECHANISMS[name]
    truth = mechanism.truth(epsilon_coverage.DELTA)
    of_coins = epsilon_coverage.of_coins(mechanism, TIMES, 0)
    assert may_be_wrong(of_coins, truth)
    assert np.median(of_coins) > 0.2 * truth  # and say something
    if mechanism.mu:
        sharper = epsilon_coverage.of_gaussian(mechanism, TIMES, 0)
        assert may_be_wrong(sharper, truth)
        assert np.median(sharper) > np.median(of_coins)


def test_bounds_of_unfair_coins_and_of_halves_hold():
    mechanism = epsilon_coverage.MECHANISMS["Laplace, epsilon 1"]
    truth = mechanism.truth(0.0)
    assert may_be_wrong(epsilon_coverage.of_coins(mechanism, TIMES, 0, rate=0.8), truth)
    assert may_be_wrong(epsilon_coverage.of_halves(mechanism, TIMES, 0), truth)


def test_a_delta_is_no_zero():
    leak = epsilon_coverage.LEAK
    truth = epsilon_coverage.LEAKY.truth(leak)
    assert may_be_wrong(epsilon_coverage.of_coins(epsilon_coverage.LEAKY, TIMES, 0, delta=leak), truth)
    assert not may_be_wrong(epsilon_coverage.of_halves(epsilon_coverage.LEAKY, TIMES, 0), truth)


def test_records_that_share_a_coin_are_not_bounded_one_by_one():
    mechanism = epsilon_coverage.MECHANISMS["randomised response, epsilon 1"]
    truth = mechanism.truth(epsilon_coverage.DELTA)
    assert may_be_wrong(epsilon_coverage.alike(mechanism, TIMES, 0, shared=False), truth)
    assert not may_be_wrong(epsilon_coverage.alike(mechanism, TIMES, 0, shared=True), truth)


def test_the_largest_of_many_bounds_is_one_only_after_correction():
    mechanism = epsilon_coverage.MECHANISMS["randomised response, epsilon 1"]
    truth = mechanism.truth(epsilon_coverage.DELTA)
    claim = correction.Claim(cell=(), delta=0.0, num_cells=epsilon_coverage.CELLS, strongest="stacked")
    corrected = claim.level("any", "view", "node")
    assert may_be_wrong(epsilon_coverage.largest(mechanism, TIMES // 3, 0, level=corrected), truth)
    assert not may_be_wrong(epsilon_coverage.largest(mechanism, TIMES // 3, 0, level=correction.LEVEL), truth)


def make_evidence(rng, *, num_targets=2, num_records=600, rate=0.5, tossed=True):
    """Two nodes, a third of the records assigned to nobody, and scores that tell every member."""
    assigned = rng.integers(-1, 2, size=(num_targets, num_records))
    owners = np.where(rng.random(assigned.shape) < rate, assigned, -1)
    phi = np.zeros((num_targets, 2, num_records), np.float32)
    coins = {"assigned": assigned, "coin_rate": rate} if tossed else {}
    return evidence.Evidence(phi=phi, owners=owners, schedule=Schedule.cyclic(nodes=2, cycles=1), **coins)


def scored(arrays, node, scores):
    """One party's scores of a node, or of the union."""
    last = np.ones(len(scores), int)
    return scorers.Scored("any", "view", f"party {node}", node, None, last, scores, np.zeros(len(scores)))


@pytest.mark.parametrize("rate", [0.5, 0.8])
def test_only_coins_are_guessed_and_each_once(rate):
    rng = np.random.default_rng(0)
    arrays = make_evidence(rng, rate=rate)
    truth = np.where(arrays.owners >= 0, 1.0, 0.0) + 0.1 * rng.random(arrays.owners.shape)
    group = [scored(arrays, node, truth) for node in (0, 1, 0, 1)]  # two parties a node
    claim = correction.Claim(cell=("any", "view"), delta=1e-5, num_cells=10, strongest="stacked")
    row = epsilon.measure(arrays, group, claim, attacked="node")
    members = np.concatenate([(arrays.owners == node)[arrays.assigned == node] for node in (0, 1)])
    kept = int(epsilon.make_fair(members, rate).sum())
    half = int(kept / 8)
    perfect = [epsilon.Counts(kept, n, n) for n in (int(kept / 4), int(kept / 16), int(kept / 64), 2 * half)]
    least = epsilon.one_run([*perfect, perfect[0], perfect[0]], delta=1e-5)  # the two others are as good, or better
    assert row["epsilon"] >= least > 2
    assert row["epsilon_gaussian"] > row["epsilon"]
    assert (row["epsilon_adjacency"], row["epsilon_delta"], row["epsilon_level"]) == ("add or remove one", 1e-5, 0.95)
    union = epsilon.measure(arrays, [scored(arrays, 2, truth)], claim, attacked="union")
    assert union["epsilon_level"] == 1 - 0.05 / 10
    assert union["epsilon"] < row["epsilon"]


def test_without_coins_the_bound_is_that_of_an_exact_share():
    rng = np.random.default_rng(0)
    arrays = make_evidence(rng, tossed=False)
    truth = np.where(arrays.owners >= 0, 1.0, 0.0) + rng.random(arrays.owners.shape)
    claim = correction.Claim(cell=(), delta=1e-5, num_cells=1, strongest="stacked")
    row = epsilon.measure(arrays, [scored(arrays, 2, truth)], claim, attacked="union")
    assert row["epsilon"] > 1
    assert (row["epsilon_gaussian"], row["epsilon_adjacency"], row["epsilon_delta"]) == (None, "replace one", 0.0)


def half(members, others, *, weights=None, trials=None):
    weights = np.ones(len(others)) if weights is None else weights
    return epsilon.Pooled(members, others, weights, trials or (len(members), len(others)))


def test_an_exact_share_of_randomized_response_is_below_and_near_the_truth():
    rng = np.random.default_rng(0)
    truth = np.log(0.75 / 0.25)

    def answers(chance):
        return (rng.random(40_000) < chance).astype(float)

    result = epsilon.exact_share(*(half(answers(0.75), answers(0.25)) for _ in range(2)))
    assert truth - 0.1 < result <= truth


def test_an_exact_share_of_noise_is_nothing():
    rng = np.random.default_rng(0)
    halves = [[half(rng.normal(size=500), rng.normal(size=500)) for _ in range(2)] for _ in range(40)]
    assert may_be_wrong([epsilon.exact_share(*two) for two in halves], 0.0)


def test_a_record_that_is_scored_often_is_one_trial():
    rng = np.random.default_rng(0)
    members, others = rng.normal(2, 1, 500), rng.normal(0, 1, 500)
    once = epsilon.exact_share(half(members, others), half(members, others))
    again = half(members, np.tile(others, 10), trials=(500, 500))
    assert epsilon.exact_share(again, again) == pytest.approx(once, abs=0.05)


def test_weights_make_unequal_groups_alike():
    # Nothing is known of either node's members, but one node's scores are higher, and it has more of them.
    rng = np.random.default_rng(0)
    members = np.concatenate([rng.normal(2, 1, 8000), rng.normal(0, 1, 1000)])
    others = np.concatenate([rng.normal(2, 1, 5000), rng.normal(0, 1, 5000)])
    weights = np.repeat([8 / 4.5, 1 / 4.5], 5000)
    fair, unfair = half(members, others, weights=weights), half(members, others)
    assert epsilon.exact_share(fair, fair) < 0.1 < epsilon.exact_share(unfair, unfair)
    assert roc.at_rate(roc.make_roc(members, others, weights), 0.1).tpr == pytest.approx(0.1, abs=0.02)
    assert roc.at_rate(roc.make_roc(members, others), 0.1).tpr > 0.15
