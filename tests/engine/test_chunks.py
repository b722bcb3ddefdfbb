"""Groups, chunks, and who computes them when."""

import threading

import jax
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


def test_narrow_chunks_are_computed_at_once_each_on_a_device_of_its_own():
    if len(jax.devices()) < 2:
        pytest.skip("needs two devices")
    devices = tuple(jax.devices()[:2])
    cut = chunks.make_chunks(units(("a", 1), ("b", 2), ("c", 1), ("d", 4)), num_devices=2, budget=10**6)
    meet, seen = threading.Barrier(2, timeout=60), []

    def compute(chunk, used):
        if not chunk.wide and chunk.units[0].static in "ac":
            meet.wait()  # passes only if two are at work
        seen.append((chunk.units[0].static, used))

    chunks.run_chunks(cut, compute, devices, on_failure=lambda: None)
    assert {static for static, _ in seen} == set("abcd")
    assert {used for static, used in seen if static in "ac"} == {devices[:1], devices[1:]}
    assert {used for static, used in seen if static in "bd"} == {devices}


def test_the_first_failure_ends_the_others():
    cut = chunks.make_chunks(units(*((name, 1) for name in "abcdef")), num_devices=2, budget=10**6)
    failures, done = [], []

    def compute(chunk, used):
        done.append(chunk)
        if chunk.units[0].static == "a":
            raise ZeroDivisionError

    devices = tuple(jax.devices()[:1]) * 2
    with pytest.raises(ZeroDivisionError):
        chunks.run_chunks(cut, compute, devices, on_failure=lambda: failures.append(1))
    assert failures == [1]
