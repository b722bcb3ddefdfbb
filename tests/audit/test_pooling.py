"""Pooled rows against loops over nodes, the same scores in different tables, and intervals that hold."""

import dataclasses

import coverage
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as references

from fedmia_jax.audit import coalitions, pooling, roc, rows

TIMES = 40
SHORT = coverage.World("short", replicates=4, shifts=(1.0, 2.0), shares=(0.7, 0.3), of_replicate=0.1)


@pytest.fixture(scope="module")
def pooled():
    """Scores of one attack on two nodes, and what is made of them."""
    arrays, group = coverage.simulate(SHORT, 2_400, seed=0)
    return arrays, group, pooling.pool(arrays, group)


def test_numbers_are_means_over_nodes_of_replicates_pooled(pooled):
    arrays, group, (row, curve, *_) = pooled
    points = {round(point["fpr"], 6): point["tpr"] for point in curve}
    for rate in (*rows.RATES, pooling.FALSE_POSITIVE_RATES[40]):
        expected = []
        for scored in group:
            inside, outside = scored.scores[arrays.members(scored.node)], scored.scores[arrays.others(scored.node)]
            cut = np.sort(outside)[::-1][int(rate * len(outside) + 1e-4)]
            expected.append((inside > cut).mean())
        number = row.get(f"tpr_at_fpr_{rate}", points.get(round(rate, 6)))
        assert number == pytest.approx(np.mean(expected), abs=1e-9)
    aucs = [
        references.roc_auc_score(arrays.owners[s, kept] >= 0, scored.scores[s, kept])
        for scored in group
        for s in range(4)
        for kept in [np.isin(arrays.owners[s], (-1, scored.node))]
    ]
    assert row["auc"] == pytest.approx(np.mean(aucs), abs=1e-6)
    assert row["worst_node"] == "N2"
    assert row["auc_worst_node"] == pytest.approx(np.mean(aucs[4:]), abs=1e-6)
    assert row["tpr_at_fpr_0.01_worst_node"] > row["tpr_at_fpr_0.01_high"]
    assert row["worst_party"] is None  # one party, which attacks both


def test_the_same_scores_say_the_same_in_every_table(pooled):
    arrays, group, (row, _, measured, _) = pooled
    named = [dataclasses.replace(scored, view="bracket", party=f"P{scored.node}") for scored in group]
    apart = pooling.pool(arrays, iter(named), with_curve=False)
    differing = {"parties", "worst_party", *pooling.worst_columns("party")}
    assert {name: apart.row[name] for name in apart.row if name not in differing} == {
        name: row[name] for name in row if name not in differing
    }
    table = coalitions.make_rows(apart.measured, arrays.nodes)
    assert [{**each, "party": "p"} for each in table] == coalitions.make_rows(measured, arrays.nodes)
    for number in coalitions.NUMBERS:
        assert row[number] == pytest.approx(np.mean([each[number] for each in table]))


def test_an_interval_needs_several_false_alarms(pooled):
    _, _, (row, curve, measured, _) = pooled
    behind = [each.rates.alarms[1] for each in measured]  # at 0.1%
    assert max(behind) < 5
    assert row["tpr_at_fpr_0.001"] is not None
    assert row["tpr_at_fpr_0.001_low"] is None
    assert row["tpr_at_fpr_0.01_low"] < row["tpr_at_fpr_0.01"] < row["tpr_at_fpr_0.01_high"]
    fewest = min(each.others for each in measured)
    assert roc.allowed_alarms(curve[0]["fpr"], fewest) == 1
    bands = [point["tpr_low"] is not None for point in curve]
    assert not bands[0]
    assert bands == sorted(bands)
    small = pooling.pool(*coverage.simulate(SHORT, 240, seed=0)).row
    assert small["tpr_at_fpr_0.01"] is not None
    assert small["tpr_at_fpr_0.001"] is small["fpr_0.001"] is small["tpr_at_fpr_0.001_worst_node"] is None


@pytest.mark.parametrize("world", coverage.WORLDS, ids=lambda world: world.name)
def test_intervals_cover(world):
    """The short form of `python -m tests.audit.coverage`."""
    estimates = np.stack([coverage.estimate(world, 1_000, seed) for seed in range(TIMES)])
    measured = coverage.measure(coverage.truths(world), estimates)
    least, most = stats.binom.ppf([0.002, 0.998], TIMES, [0.92, 0.99]) / TIMES
    for name in ("auc", "tpr_at_fpr_0.01"):
        if measured[name].resolved > 0.9:
            assert least <= measured[name].covered <= most, name
            assert measured[name].width < 1.9, name  # of an oracle that saw few simulations
    assert measured["tpr_at_fpr_0.001"].resolved < 0.9
