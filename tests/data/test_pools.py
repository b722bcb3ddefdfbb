"""Pools, shards and shadow draws: disjoint, complete, and the same whatever else is drawn."""

import re

import numpy as np
import pytest

from fedmia_jax import errors, options
from fedmia_jax.data import pools

DRAW = {"seed": 3, "replicate": 1}
POOL = np.random.default_rng(0).permutation(5000)[:2000].astype(np.int32)
LABELS = np.random.default_rng(1).integers(5, size=5000).astype(np.int32)


def make(num_records=1000, *, num_federation=300, num_test=250, num_shadow_pool=None, **draw):
    sizes = pools.Options(num_federation=num_federation, num_test=num_test, num_shadow_pool=num_shadow_pool)
    return pools.make_pools(num_records, sizes, name="synthetic", **(DRAW | draw))


def deal(pool=POOL, *, nodes=3, labels=LABELS, draw=DRAW, **options):
    return pools.deal(pool, labels, pools.Options(**options), nodes=nodes, **draw)


def draw_shadows(pool=POOL, *, count=4, target_size=700, draw=DRAW, **options):
    return pools.draw_shadows(pool, pools.ShadowOptions(count=count, **options), target_size=target_size, **draw)


def rows_of(shards):
    return [row[mask] for row, mask in zip(shards.indices, shards.mask, strict=True)]


def skew(shards):
    """Mean total variation between a node's classes and everybody's."""
    shares = [np.bincount(LABELS[rows], minlength=5) / len(rows) for rows in rows_of(shards)]
    overall = np.bincount(LABELS[POOL], minlength=5) / len(POOL)
    return np.mean([np.abs(share - overall).sum() / 2 for share in shares])


@pytest.mark.parametrize(("num_shadow_pool", "size"), [(None, 450), (450, 450), (2, 2)])
def test_pools_are_disjoint_and_as_large_as_asked(num_shadow_pool, size):
    dealt = make(num_shadow_pool=num_shadow_pool)
    together = np.concatenate([dealt.federation, dealt.test, dealt.shadow])
    assert (len(dealt.federation), len(dealt.test), len(dealt.shadow)) == (300, 250, size)
    assert len(np.unique(together)) == len(together)
    assert (together.min() >= 0, together.max() < 1000, together.dtype) == (True, True, np.int32)


def test_pools_depend_on_seed_and_replicate_only():
    """A smaller shadow pool takes nothing from the others."""
    first = make()
    np.testing.assert_array_equal(first.federation, make(num_shadow_pool=10).federation)
    np.testing.assert_array_equal(first.shadow[:10], make(num_shadow_pool=10).shadow)
    for other in ({"seed": 4}, {"replicate": 0}):
        assert set(first.federation) != set(make(**other).federation)


def test_pools_are_drawn_evenly():
    """Over 200 seeds a record is in the federation's pool as often as its share, within five standard errors."""
    counts = sum(np.bincount(make(seed=seed).federation, minlength=1000) for seed in range(200))
    assert np.abs(counts - 60).max() < 5 * np.sqrt(200 * 0.3 * 0.7)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"num_federation": 1000, "num_test": 1},
            "data.num_federation=1,000, data.num_test=1, data.num_shadow_pool=all that remain: too few records for the "
            "pools, synthetic has 1,000; make the pools smaller",
        ),
        (
            {"num_shadow_pool": 451},
            "data.num_federation=300, data.num_test=250, data.num_shadow_pool=451: too few records for the pools, "
            "synthetic has 1,000; make the pools smaller",
        ),
        (
            {"num_test": 699},
            "data.num_federation=300, data.num_test=699, data.num_shadow_pool=all that remain: too few records for the "
            "pools, synthetic has 1,000; make the pools smaller",
        ),
    ],
)
def test_too_few_records_are_one_line(sizes, message):
    with pytest.raises(errors.InputError) as caught:
        make(**sizes)
    assert str(caught.value) == message


@pytest.mark.parametrize(("nodes", "each"), [(3, 3333), (10, 1000), (15, 666)])
def test_equal_parts(nodes, each):
    """The paper's numbers; what does not divide is left out."""
    shards = deal(np.arange(10_000, dtype=np.int32), labels=np.zeros(10_000, np.int32), nodes=nodes)
    assert shards.sizes.tolist() == [each] * nodes
    assert shards.mask.all()
    assert len(np.unique(shards.indices)) == each * nodes


@pytest.mark.parametrize("alpha", [0.05, 0.5, 100.0])
@pytest.mark.parametrize("nodes", [1, 2, 7])
def test_dirichlet_deals_every_record_once(alpha, nodes):
    for seed in range(3):
        try:
            rows = rows_of(deal(nodes=nodes, partition="dirichlet", alpha=alpha, draw={"seed": seed, "replicate": 0}))
        except errors.InputError:
            assert alpha == 0.05  # a node without a record, which is refused
            continue
        np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.sort(POOL))


def test_every_concentration_in_its_range_deals_all_records_or_is_one_line():
    """Below, all shares are 0 or 1 whatever the number; far above, numbers overflow."""
    metadata = options.declared(pools.Options)["alpha"].metadata
    assert (metadata["low"], metadata["high"]) == (0.001, 1e6)
    dealt = 0
    for alpha in (metadata["low"], metadata["high"]):
        for seed in range(20):
            try:
                rows = rows_of(deal(nodes=2, partition="dirichlet", alpha=alpha, draw={"seed": seed, "replicate": 0}))
            except errors.InputError:
                assert alpha < 1  # a node without a record, which is refused
                continue
            np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.sort(POOL))
            dealt += 1
    assert dealt > 20


def test_dirichlet_is_more_skewed_the_smaller_alpha():
    """Towards infinity it deals every class evenly."""
    skews = [
        np.mean([skew(deal(partition="dirichlet", alpha=alpha, draw={"seed": s, "replicate": 0})) for s in range(10)])
        for alpha in (0.2, 1.0, 10.0, 1e6)
    ]
    assert skews == sorted(skews, reverse=True)
    assert skews[0] > 0.3
    assert skews[-1] < 0.01


def test_dirichlet_keeps_to_seed_replicate_and_nodes():
    first = deal(partition="dirichlet")
    np.testing.assert_array_equal(first.indices, deal(partition="dirichlet").indices)
    for other in ({"seed": 4, "replicate": 1}, {"seed": 3, "replicate": 0}):
        assert first.sizes.tolist() != deal(partition="dirichlet", draw=other).sizes.tolist()


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((1.0, 1.0, 2.0), [500, 500, 1000]), ((0.1, 0.2, 0.7), [200, 400, 1400]), ((1.0, 1.0, 1.0), [666, 667, 667])],
)
def test_sizes_are_shares_in_any_unit(sizes, expected):
    for unit in (1.0, 37.0):
        shards = deal(partition="sizes", sizes=tuple(unit * share for share in sizes))
        assert shards.sizes.tolist() == expected
        np.testing.assert_array_equal(np.concatenate(rows_of(shards)), POOL)


@pytest.mark.parametrize(
    ("num_records", "options", "message"),
    [
        (
            9,
            {"partition": "sizes", "sizes": (1.0, 1e-6, 1.0)},
            r"data\.partition=sizes: node N2 gets no record; raise data\.sizes or use fewer federation\.nodes",
        ),
        (
            2,
            {"partition": "dirichlet", "alpha": 1.0},
            r"data\.partition=dirichlet: node N[123] gets no record; raise data\.alpha or use fewer federation\.nodes",
        ),
    ],
)
def test_a_node_without_a_record_is_one_line(num_records, options, message):
    with pytest.raises(errors.InputError) as caught:
        deal(POOL[:num_records], **options)
    assert re.fullmatch(message, str(caught.value))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sizes": (1.0, 2.0)},
            "data.sizes=(1.0, 2.0): only data.partition=sizes reads it, not iid; set one or the other",
        ),
        (
            {"partition": "sizes", "sizes": (1.0, 2.0)},
            "data.sizes=(1.0, 2.0): data.partition=sizes needs one share for each of federation.nodes=3, got 2",
        ),
        (
            {"partition": "sizes", "sizes": (1.0, 0.0, 2.0)},
            "data.sizes=(1.0, 0.0, 2.0): every share must be greater than 0",
        ),
    ],
    ids=["not read", "too few", "zero"],
)
def test_shares_that_contradict_the_rest_are_one_line(options, message):
    with pytest.raises(errors.InputError) as caught:
        pools.check(pools.Options(**options), 3)
    assert str(caught.value) == message


def test_shares_where_they_belong_are_fine():
    pools.check(pools.Options(), 3)
    pools.check(pools.Options(partition="dirichlet"), 3)
    pools.check(pools.Options(partition="sizes", sizes=(1.0, 2.0, 0.5)), 3)


@pytest.mark.parametrize("num_members", [2000, 700, 41])
def test_shadow_federations_are_dealt_in_the_proportions_of_the_target(num_members):
    target = deal(partition="sizes", sizes=(1.0, 2.0, 7.0))
    members = POOL[:num_members]
    shards = pools.deal_like(target, members)
    np.testing.assert_array_equal(np.concatenate(rows_of(shards)), members)
    np.testing.assert_allclose(shards.sizes, num_members * target.sizes / target.sizes.sum(), atol=1)


def test_a_node_of_a_shadow_federation_without_a_record_is_one_line():
    with pytest.raises(errors.InputError) as caught:
        pools.deal_like(deal(partition="sizes", sizes=(1.0, 2.0, 7.0)), POOL[:9])
    assert str(caught.value) == "shadow.num_train=9: node N1 of a shadow federation gets no record; raise it"


def test_padding_is_masked_and_comes_last():
    shards = pools.pad([np.array([7, 8, 9]), np.array([5]), np.array([], int)])
    assert shards.indices.shape == shards.mask.shape == (3, 3)
    assert shards.sizes.tolist() == [3, 1, 0]
    assert [rows.tolist() for rows in rows_of(shards)] == [[7, 8, 9], [5], []]
    assert (shards.indices.dtype, shards.mask.dtype) == (np.int32, bool)


@pytest.mark.parametrize(
    ("shadow", "num_in", "num_out"),
    [({}, 700, 700), ({"num_train": 1500}, 1500, 500), ({"num_out": 30}, 700, 30), ({"num_train": 1818}, 1818, 182)],
)
def test_shadows_train_as_the_target_and_keep_as_many_out(shadow, num_in, num_out):
    """Where the pool has less for outside, they take what it still has."""
    split = draw_shadows(**shadow)
    assert (split.members.shape, split.non_members.shape) == ((4, num_in), (4, num_out))
    for inside, outside in zip(split.members, split.non_members, strict=True):
        together = np.concatenate([inside, outside])
        assert len(np.unique(together)) == len(together)
        assert np.isin(together, POOL).all()


def test_a_shadow_is_the_same_however_many_there_are():
    few, many = draw_shadows(count=2), draw_shadows(count=20)
    np.testing.assert_array_equal(many.members[:2], few.members)
    np.testing.assert_array_equal(many.non_members[:2], few.non_members)
    sets = {tuple(np.sort(row)) for row in many.members}
    assert len(sets) == 20
    for other in ({"seed": 4, "replicate": 1}, {"seed": 3, "replicate": 0}):
        assert set(draw_shadows(draw=other).members[0]) != set(few.members[0])


@pytest.mark.parametrize(
    ("shadow", "message"),
    [
        (
            {"num_train": 1900},
            "shadow.num_train=1,900: the shadow pool has only 2,000 records for those and 190 or more outside; lower "
            "shadow.num_train, shadow.num_out or data.num_federation",
        ),
        (
            {"num_out": 1301},
            "shadow.num_train=700: the shadow pool has only 2,000 records for those and 1,301 or more outside; lower "
            "shadow.num_train, shadow.num_out or data.num_federation",
        ),
        (
            {"num_train": 2001, "num_out": 1},
            "shadow.num_train=2,001: the shadow pool has only 2,000 records for those and 1 or more outside; lower "
            "shadow.num_train, shadow.num_out or data.num_federation",
        ),
    ],
)
def test_a_pool_too_small_for_shadows_is_one_line(shadow, message):
    with pytest.raises(errors.InputError) as caught:
        draw_shadows(**shadow)
    assert str(caught.value) == message


def toss(rate, replicate=0, **options):
    settings = pools.Options(canary_rate=rate, **options)
    dealt = pools.deal(POOL, LABELS, settings, nodes=3, seed=1, replicate=replicate)
    return dealt, pools.toss(dealt, settings, seed=1, replicate=replicate)


def test_without_coins_all_that_are_dealt_train():
    dealt, trained = toss(0.0)
    assert trained is dealt


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_a_coin_for_each_record_leaves_it_out_or_not(rate):
    dealt, trained = toss(rate)
    for before, after in zip(rows_of(dealt), rows_of(trained), strict=True):
        assert set(after) < set(before)
        assert abs(len(after) - rate * len(before)) < 4 * np.sqrt(rate * (1 - rate) * len(before))
    assert trained.mask.shape[1] == trained.sizes.max()


def test_coins_are_those_of_the_replicate_and_independent():
    heads = []
    for replicate in range(40):
        dealt, trained = toss(0.5, replicate)
        np.testing.assert_array_equal(trained.indices, toss(0.5, replicate)[1].indices)
        heads.append(np.isin(dealt.indices[0], trained.indices[0][trained.mask[0]]))
    sums = np.array(heads).sum(axis=1)  # of exact halves they would not vary
    expected = len(heads[0]) / 4
    assert 0.4 * expected < sums.var() < 2.2 * expected


def test_a_node_that_coins_leave_empty_is_one_line():
    with pytest.raises(errors.InputError) as caught:
        toss(0.01, partition="sizes", sizes=(1.0, 1.0, 1e-3))
    assert str(caught.value) == (
        "data.canary_rate=0.01: coins leave node N3 without a record; raise it or data.num_federation"
    )
