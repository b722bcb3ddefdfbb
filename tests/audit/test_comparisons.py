"""Differences against weighted numbers, against the rows of what is compared, and how often their intervals hold."""

import coverage
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as references

from fedmia_jax.audit import coalitions, comparisons, intervals, pooling, resampling

TIMES = 40
WORLD = coverage.WORLDS[2]


@pytest.fixture(scope="module")
def simulated():
    """Who owned what, the scores of two attacks on four nodes, what is pooled of each, and their rows of draws."""
    arrays, *groups = coverage.simulate_two(WORLD, 6_000, seed=0)
    pooled = [pooling.pool(arrays, group, with_curve=False, with_influence=True) for group in groups]
    draws = [
        {"attack": attack, "view": "v"} | row
        for attack, each in zip("ab", pooled, strict=True)
        for row in comparisons.make_draws(each, arrays.nodes)
    ]
    return arrays, groups, pooled, draws


def test_a_difference_is_that_of_the_rows(simulated):
    _, _, pooled, draws = simulated
    (row,) = comparisons.between_attacks(draws, "a")
    assert (row["attack"], row["other_attack"], row["view"], row["nodes"]) == ("a", "b", "v", 4)
    for number in coalitions.NUMBERS:
        expected = pooled[0].row[number] - pooled[1].row[number]
        value, low, high = (row[column] for column in comparisons.number_columns(number))
        assert value == pytest.approx(expected, abs=1e-6)
        if number != "tpr_at_fpr_0.001":
            assert low < value < high
            alone = [each.row[f"{number}_high{coverage.ENDS[number]}"] - each.row[number] for each in pooled]
            assert high - value < 0.8 * np.hypot(*alone), "what both have in common is in neither"
    assert comparisons.between_attacks(draws, "c") == []


def test_draws_are_weighted_numbers(simulated):
    """An AUC under a weighting is scikit-learn's, to first order; a TPR is that of `resampling`."""
    arrays, groups, pooled, draws = simulated
    row, scored = draws[1], groups[0][1]
    numbers = [np.reshape(row[name], (3, -1)) for name in comparisons.DRAWS]
    weights = resampling.draw(*arrays.owners.shape)
    kept = [np.flatnonzero(np.isin(arrays.owners[s], (-1, 1))) for s in range(5)]
    for part, places in ((numbers[2], weights.records), (numbers[3], weights.places[:, 6:])):
        found, expected = part[0, :20], []
        by_replicate = (
            np.broadcast_to(places, (5, *places.shape)) if len(places) == 6_000 else places.reshape(5, 6_000, -1)
        )
        for draw in range(20):
            aucs = [
                references.roc_auc_score(
                    arrays.owners[s, at] == 1, scored.scores[s, at], sample_weight=by_replicate[s, at, draw]
                )
                for s, at in enumerate(kept)
            ]
            expected.append(np.mean(aucs))
        assert np.abs(found - expected).max() < 0.15 * np.std(expected)
    np.testing.assert_allclose(numbers[1][0], pooled[0].measured[1].without()[0], rtol=1e-6)
    np.testing.assert_allclose(numbers[2][1:], pooled[0].measured[1].rates.tpr.records, rtol=1e-6)


def test_what_is_not_resolved_or_not_alike_is_left_out(simulated):
    _, _, _, draws = simulated
    few = [row | {"alarms": [np.inf, 3.0, np.nan]} if row["attack"] == "b" else row for row in draws]
    (row,) = comparisons.between_attacks(few, "a")
    resolved = [[row[column] is not None for column in comparisons.number_columns(name)] for name in coalitions.NUMBERS]
    assert resolved == [[True] * 3, [True, False, False], [False] * 3]
    more = [row | {"parties": 2} if (row["attack"], row["attacked"]) == ("b", "N1") else row for row in draws]
    assert [row["nodes"] for row in comparisons.between_attacks(more, "a")] == [3]
    assert comparisons.between_attacks([row for row in draws if row["attack"] == "a"], "a") == []


def test_views_are_compared_on_the_nodes_of_both(simulated):
    _, _, pooled, draws = simulated
    narrow = [row | {"attack": "a", "view": "w"} for row in draws if row["attack"] == "b" and row["attacked"] != "N1"]
    wide = [row for row in draws if row["attack"] == "a"]
    pairs = [comparisons.Wider("v", "w", comparisons.ALL), comparisons.Wider("v", "x", comparisons.ALL)]
    (row,) = comparisons.between_views([*wide, *narrow], pairs)
    assert (row["view"], row["other_view"], row["sees"], row["nodes"]) == ("v", "w", "all", 3)
    apart = [
        first.auc.mean() - second.auc.mean() for first, second in zip(*(p.measured[1:] for p in pooled), strict=True)
    ]
    assert row["auc_difference"] == pytest.approx(np.mean(apart), abs=1e-6)


def test_points_are_compared_attack_by_attack_as_attacks_are(simulated):
    _, _, _, draws = simulated
    point, first = ([row | {"attack": "a"} for row in draws if row["attack"] == name] for name in "ab")
    (row,) = comparisons.between_points(point, [*first, *(row | {"attack": "c"} for row in first)])
    (expected,) = comparisons.between_attacks(draws, "a")
    assert row == {name: expected[name] for name in comparisons.CHANGES_SCHEMA}
    assert comparisons.between_points(point, []) == []


def test_points_with_other_numbers_of_nodes_are_compared_by_all_of_their_own(simulated):
    """A node of many is not the node of the same name among few."""
    _, _, (one, other), draws = simulated
    point = [row | {"attack": "a"} for row in draws if row["attack"] == "a" and row["attacked"] != "N1"]
    first = [row | {"attack": "a"} for row in draws if row["attack"] == "b"]
    (row,) = comparisons.between_points(point, first)
    means = [np.mean([each.auc for each in measured]) for measured in (one.measured[1:], other.measured)]
    assert row["nodes"] == len(one.measured) - 1
    assert row["auc_difference"] == pytest.approx(means[0] - means[1], abs=1e-6)


@pytest.mark.parametrize("ending", ["_unordered", "_secure"])
def test_a_view_that_the_first_point_lacks_is_compared_with_the_same_without_protection(simulated, ending):
    _, _, _, draws = simulated
    first = [row | {"attack": "a", "view": "v"} for row in draws if row["attack"] == "b"]
    point = [row | {"view": f"v{ending}"} for row in draws if row["attack"] == "a"]
    (row,) = comparisons.between_points(point, first)
    assert (row["view"], row["other_view"]) == (f"v{ending}", "v")
    (expected,) = comparisons.between_attacks(draws, "a")
    column = comparisons.number_columns(coalitions.NUMBERS[0])[0]
    assert row[column] == expected[column]
    assert comparisons.between_points([row | {"view": "w"} for row in point], first) == []


def test_numbers_of_the_same_scores_do_not_differ(simulated):
    _, _, _, draws = simulated
    same = [row | {"attack": attack} for row in draws if row["attack"] == "a" for attack in "ab"]
    (row,) = comparisons.between_attacks(same, "a")
    assert {row[column] for name in coalitions.NUMBERS[:2] for column in comparisons.number_columns(name)} == {0.0}
    variance = intervals.Variance(0.0, 0.0, 0.0, 5)
    both_one = intervals.difference_interval(0.0, variance, share=1.0, trials=100)
    assert both_one == pytest.approx((-both_one.high, intervals.clopper_pearson(0, 100).high))


def test_an_interval_of_a_difference_is_as_wide_as_a_t_interval():
    alike = intervals.difference_interval(-0.2, intervals.Variance(1e-4, 2e-4, 3e-4, 5), share=0.5, trials=9)
    np.testing.assert_allclose(alike, stats.norm.interval(0.95, -0.2, 0.01))
    apart = intervals.difference_interval(0.2, intervals.Variance(1e-9, 1e-2, 0.0, 5), share=0.5, trials=9)
    np.testing.assert_allclose(apart, stats.t.interval(0.95, 4, 0.2, 0.1), rtol=1e-4)


@pytest.mark.parametrize("world", [coverage.WORLDS[0], coverage.WORLDS[3]], ids=lambda world: world.name)
def test_intervals_of_differences_cover(world):
    """The short form of `python -m tests.audit.coverage --paired`."""
    estimates = np.stack([coverage.estimate_difference(world, 1_000, seed) for seed in range(TIMES)])
    measured = coverage.measure(coverage.true_differences(world), estimates)
    least, most = stats.binom.ppf([0.002, 0.998], TIMES, [0.92, 0.99]) / TIMES
    for name in ("auc", "tpr_at_fpr_0.01"):
        if measured[name].resolved > 0.9:
            assert least <= measured[name].covered <= most, name
            assert measured[name].width < 1.9, name  # of an oracle that saw few simulations
