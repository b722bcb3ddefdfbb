"""Groups, chunks and bundles."""

import pytest

from fedmia_jax.engine import chunks


def units(*groups, nbytes=10, **details):
    """Units by group: (static, how many)."""
    return [
        chunks.Unit(f"{static}{number}", static, None, steps=1.0, nbytes=nbytes, **details)
        for static, count in groups
        for number in range(count)
    ]


@pytest.mark.parametrize("budget", [1, 10, 35, 60, 1000])
@pytest.mark.parametrize("count", [1, 2, 5, 7, 10])
@pytest.mark.parametrize("num_devices", [1, 2, 4])
def test_chunks_cover_fit_and_are_of_one_size(budget, count, num_devices):
    cut = chunks.make_chunks(units(("a", count)), num_devices=num_devices, budget=budget)
    assert [unit.fingerprint for chunk in cut for unit in chunk.units] == [f"a{number}" for number in range(count)]
    assert len({chunk.size for chunk in cut}) == 1
    assert cut[0].size <= max(1, budget // 10)
    for chunk in cut:
        assert len(chunk.rows) == chunk.size
        assert sorted(set(chunk.rows)) == list(range(len(chunk.units)))
        assert len(chunk.group) == count


def test_the_budget_counts_what_a_device_needs_once():
    for fixed, size in ((0, 10), (25, 5), (60, 1)):
        cut = chunks.make_chunks(units(("a", 20), fixed_nbytes=fixed), num_devices=2, budget=100)
        assert {chunk.size for chunk in cut} == {max(size - size % 2, 1)}


def test_groups_that_cannot_fill_the_machine_run_side_by_side():
    cut = chunks.make_chunks(units(("a", 3), ("b", 8), ("c", 3)), num_devices=2, budget=10**6)
    assert [(chunk.units[0].static, chunk.size, chunk.wide) for chunk in cut] == [
        ("b", 8, True),
        ("a", 3, False),
        ("c", 3, False),
    ]
    for groups, budget in (
        ((("a", 3), ("b", 8)), 10**6),  # beside nobody it gets all devices
        ((("a", 33), ("b", 1)), 10**6),  # a device would work long after the other has finished
        ((("a", 3), ("c", 3)), 19),  # two at a time do not fit
    ):
        assert all(chunk.wide for chunk in chunks.make_chunks(units(*groups), num_devices=2, budget=budget))


def test_a_unit_that_fills_all_devices_is_a_chunk_by_itself():
    cut = chunks.make_chunks(units(("a", 3), ("b", 3), alone=True), num_devices=2, budget=10**6)
    assert [(len(chunk.units), chunk.size, chunk.wide) for chunk in cut] == [(1, 1, True)] * 6


def test_units_that_keep_one_device_busy_run_side_by_side_where_they_fit():
    for budget, devices, wide in ((10**6, 2, False), (19, 2, True), (10**6, 1, False)):
        cut = chunks.make_chunks(units(("a", 3), ("b", 2), beside=True), num_devices=devices, budget=budget)
        assert [(len(chunk.units), chunk.size, chunk.wide) for chunk in cut] == [(1, 1, wide)] * 5


def test_a_stage_may_ask_for_small_chunks():
    cut = chunks.make_chunks(units(("a", 20), most=3), num_devices=2, budget=10**6)
    assert [len(chunk.units) for chunk in cut] == [6, 6, 6, 2]


def alike(*groups, bundled_by="same"):
    """Units by group, each of its own number of classes: (number of classes, how many, bytes)."""
    return [
        chunks.Unit(
            f"{classes}-{number}", classes, None, 1.0, nbytes=nbytes, bundled_by=bundled_by, num_classes=classes
        )
        for classes, count, nbytes in groups
        for number in range(count)
    ]


def bundles(units, *, budget=10**6, num_devices=1):
    """Classes and sizes of the bundles, and which groups are in each."""
    cut = chunks.make_chunks(units, num_devices=num_devices, budget=budget, bundles=True)
    found = {}
    for chunk in cut:
        found.setdefault(chunk.bundle, []).append(chunk.units[0].static)
        assert chunk.bundle is None or chunk.bundle.num_chunks > 1
    return [(bundle and (bundle.num_classes, bundle.size), groups) for bundle, groups in found.items()]


def test_chunks_that_differ_in_classes_alone_make_a_bundle():
    three = (10, 5, 10), (100, 3, 14), (20, 5, 11)
    assert bundles(alike(*three)) == [((100, 13), [10, 100, 20])]
    assert bundles(alike(*three, bundled_by=None)) == [(None, [10, 100, 20])]
    assert bundles(alike((10, 5, 10))) == [(None, [10])]
    plain = chunks.make_chunks(alike(*three), num_devices=1, budget=10**6)
    assert all(chunk.bundle is None for chunk in plain)


def test_a_bundle_fits_the_memory_and_is_not_filled_up_too_much():
    assert bundles(alike((10, 5, 10), (20, 5, 10), (30, 5, 10)), budget=125) == [((20, 10), [10, 20]), (None, [30])]
    assert bundles(alike((10, 5, 10), (100, 5, 20))) == [((100, 10), [10, 100])]  # 200 bytes, by themselves 150
    assert bundles(alike((10, 5, 10), (100, 5, 31))) == [(None, [10, 100])]  # 310, by themselves 205


def test_chunks_on_one_device_of_several_are_in_no_bundle():
    assert bundles(alike((10, 3, 10), (20, 3, 10)), num_devices=2) == [(None, [10, 20])]
    assert bundles(alike((10, 4, 10), (20, 4, 10)), num_devices=2) == [((20, 8), [10, 20])]


def test_chunks_of_a_bundle_are_on_as_many_devices():
    """Three models that two devices share are another program than one model on one device."""
    cut = [
        chunks.Chunk(tuple(group), len(group), True, tuple(group))
        for group in (alike((10, 4, 10)), alike((20, 1, 10)), alike((30, 2, 10)))
    ]
    made = chunks._bundle(cut, num_devices=2, budget=10**6)
    assert [chunk.bundle and chunk.bundle.size for chunk in made] == [6, None, 6]
