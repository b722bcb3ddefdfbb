"""The worst of many against a loop, and against the truth where all are alike."""

import numpy as np
import pytest

from fedmia_jax.audit import coalitions, resampling, rows


def measured(party, node, numbers, *, others=5_000):
    """What a party says, from AUC and two TPR of each replicate, f[3, S]; a number without one is that of the rest."""
    count = numbers.shape[1]
    tpr = numbers[1:]
    without = (tpr.sum(axis=1, keepdims=True) - tpr) / max(1, count - 1)
    none = np.zeros((2, 0))
    resampled = resampling.Resampled(tpr.mean(axis=1), without if count > 1 else none, none, none)
    rates = resampling.Rates(resampled, np.array(rows.RATES), np.zeros(2), np.full(2, 9))
    return coalitions.Measured(party, node, numbers[0], rates, 100, others)


def parties(rng, *, replicates=4, others=5_000):
    """Three parties that attack two nodes each."""
    return [
        measured(f"P{party}", node, rng.uniform(size=(3, replicates)), others=others)
        for party in range(3)
        for node in range(2)
    ]


def test_the_worst_is_chosen_on_the_other_replicates():
    rng = np.random.default_rng(0)
    table = rng.uniform(size=(3, 2, 3, 4))  # party, node, number, replicate
    group = [measured(f"P{party}", node, table[party, node]) for party in range(3) for node in range(2)]
    label, numbers = coalitions.worst(group, lambda each: each.party)
    means = table.mean(axis=1)
    assert label == f"P{means[:, 0].mean(axis=1).argmax()}"
    for place, number in enumerate(numbers):
        expected = []
        for replicate in range(4):
            rest = np.delete(means[:, place], replicate, axis=1).mean(axis=1)
            expected.append(means[rest.argmax(), place, replicate])
        assert number == pytest.approx(np.mean(expected))


def test_the_worst_of_equals_is_no_worse():
    rng = np.random.default_rng(0)
    found, highest = [], []
    for _ in range(200):
        table = 0.5 + 0.1 * rng.normal(size=(10, 3, 5))
        _, numbers = coalitions.worst([measured(f"P{i}", 0, each) for i, each in enumerate(table)], lambda p: p.party)
        found.append(numbers[1])
        highest.append(table[:, 1].mean(axis=1).max())
    assert np.mean(found) == pytest.approx(0.5, abs=0.015)
    assert np.mean(highest) > 0.55


def test_what_cannot_be_chosen_or_resolved_is_none():
    rng = np.random.default_rng(0)
    assert coalitions.worst(parties(rng)[:2], lambda each: each.party) == (None, [None] * 3)
    label, numbers = coalitions.worst(parties(rng, replicates=1), lambda each: each.party)
    assert label in ("P0", "P1", "P2")
    assert numbers == [None] * 3
    label, numbers = coalitions.worst(parties(rng, others=500), lambda each: each.party)
    assert [number is None for number in numbers] == [False, False, True]


def test_rows_name_party_and_node():
    first, *_ = coalitions.make_rows(parties(np.random.default_rng(0), others=500), 2)
    assert list(first) == ["party", "attacked", *coalitions.NUMBERS]
    assert (first["party"], first["attacked"]) == ("P0", "N1")
    assert first["tpr_at_fpr_0.01"] is not None
    assert first["tpr_at_fpr_0.001"] is None
