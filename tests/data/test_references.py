"""Reference federations: who trains on which of the audited records, and the same whatever else is drawn."""

import dataclasses

import numpy as np
import pytest

from fedmia_jax import errors
from fedmia_jax.data import pools, references

AUDITED = pools.Options(num_federation=40, num_test=40, num_shadow_pool=100)


def draw_audit(**options):
    labels = np.zeros(200, np.int32)
    drawn = pools.make_pools(200, AUDITED, name="synthetic", seed=1, replicate=0)
    settings = references.Options(federations=6, **options)
    return drawn, references.draw_audit(drawn, labels, AUDITED, settings, nodes=4, seed=1)


def test_references_train_on_random_halves_of_the_audited_records():
    drawn, audit = draw_audit()
    audited = set(drawn.federation) | set(drawn.test)
    assert set(audit.rows) == audited
    assert len(audit.rows) == 80
    seen = [set(shards.indices[shards.mask]) for shards in audit.references]
    assert all(len(rows) == 40 and rows < audited for rows in seen)
    assert len({frozenset(rows) for rows in seen}) == 6


def test_references_of_the_shadow_pool_never_saw_an_audited_record():
    drawn, audit = draw_audit(audit=False)
    audited = set(drawn.federation) | set(drawn.test)
    assert set(audit.rows[:80]) == audited
    for shards in audit.references:
        rows = set(shards.indices[shards.mask])
        assert len(rows) == 40
        assert rows <= set(audit.rows[80:])
        assert rows <= set(drawn.shadow)


def test_a_reference_is_the_same_however_many_there_are():
    _, few = draw_audit()
    drawn = pools.make_pools(200, AUDITED, name="synthetic", seed=1, replicate=0)
    many = references.draw_audit(
        drawn, np.zeros(200, np.int32), AUDITED, references.Options(federations=9), nodes=4, seed=1
    )
    for reference, again in zip(few.references, many.references, strict=False):
        np.testing.assert_array_equal(reference.indices, again.indices)


def test_every_replicate_draws_its_members_anew_from_the_same_records():
    drawn = pools.make_pools(200, AUDITED, name="synthetic", seed=1, replicate=0)
    first, second = (references.redraw(drawn, seed=1, replicate=replicate) for replicate in (0, 1))
    for again in (first, second):
        assert sorted([*again.federation, *again.test]) == sorted([*drawn.federation, *drawn.test])
        np.testing.assert_array_equal(again.shadow, drawn.shadow)
    assert set(first.federation) != set(second.federation)


def test_too_small_a_shadow_pool_for_disjoint_references_is_refused():
    small = pools.Options(num_federation=60, num_test=40, num_shadow_pool=100)
    drawn = pools.make_pools(200, small, name="synthetic", seed=1, replicate=0)
    with pytest.raises(errors.InputError, match=r"shadow\.audit=False: 6 reference federations of 60 records"):
        references.draw_audit(
            drawn, np.zeros(200, np.int32), small, references.Options(federations=6, audit=False), nodes=4, seed=1
        )


def test_no_replicate_draws_what_a_reference_drew():
    drawn, audit = draw_audit()
    seen = {frozenset(shards.indices[shards.mask]) for shards in audit.references}
    seen |= {frozenset(references.redraw(drawn, seed=1, replicate=replicate).federation) for replicate in range(12)}
    assert len(seen) == 6 + 12


def test_references_are_dealt_each_by_its_own_shares():
    labels = np.random.default_rng(0).integers(3, size=200).astype(np.int32)
    skewed = dataclasses.replace(AUDITED, partition="dirichlet", alpha=0.3)
    drawn = pools.make_pools(200, skewed, name="synthetic", seed=2, replicate=0)
    audit = references.draw_audit(drawn, labels, skewed, references.Options(federations=6), nodes=2, seed=2)
    shares = {tuple(np.bincount(labels[shards.indices[0][shards.mask[0]]], minlength=3)) for shards in audit.references}
    assert len(shares) > 3


@pytest.mark.parametrize("federations", [1, references.LEAST_REFERENCES - 1])
def test_too_few_references_are_one_line(federations):
    with pytest.raises(errors.InputError) as caught:
        references.check(references.Options(federations=federations))
    assert str(caught.value) == (
        f"shadow.federations={federations}: a record must be in some references and not in others; use 0, or 8 and more"
    )


@pytest.mark.parametrize("federations", [0, references.LEAST_REFERENCES])
def test_no_references_or_enough_are_fine(federations):
    references.check(references.Options(federations=federations))


def test_references_toss_coins_as_targets_do():
    drawn = pools.make_pools(200, AUDITED, name="synthetic", seed=1, replicate=0)
    coins = dataclasses.replace(AUDITED, canary_rate=0.5)
    labels, settings = np.zeros(200, np.int32), references.Options(federations=30)
    tossed = references.draw_audit(drawn, labels, coins, settings, nodes=4, seed=1)
    everyone = references.draw_audit(drawn, labels, AUDITED, settings, nodes=4, seed=1)
    sizes = np.array([shards.sizes.sum() for shards in tossed.references])
    assert 18 < sizes.mean() < 22
    assert len(set(sizes.tolist())) > 3
    for few, every in zip(tossed.references, everyone.references, strict=True):
        owner = every.owners(np.full(200, -1))
        assert all((owner[row] == node).all() for node, row in enumerate(map(np.compress, few.mask, few.indices)))
