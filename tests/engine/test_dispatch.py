"""Who computes which chunk when."""

import threading

import jax
import pytest

from fedmia_jax.engine import chunks, dispatch, joining


def units(*groups, **details):
    """Units by group: (static, how many)."""
    return [
        chunks.Unit(f"{static}{number}", static, None, steps=1.0, nbytes=10, **details)
        for static, count in groups
        for number in range(count)
    ]


def test_narrow_chunks_are_computed_at_once_each_on_a_device_of_its_own():
    if len(jax.devices()) < 2:
        pytest.skip("needs two devices")
    devices = tuple(jax.devices()[:2])
    cut = chunks.make_chunks(units(("a", 1), ("b", 2), ("c", 1), ("d", 4)), num_devices=2, budget=10**6)
    meet, seen = threading.Barrier(2, timeout=60), []

    def compute(chunk, used, join):
        if not chunk.wide and chunk.units[0].static in "ac":
            meet.wait()  # passes only if two are at work
        seen.append((chunk.units[0].static, used))

    dispatch.run_chunks(cut, compute, devices, on_failure=lambda: None)
    assert {static for static, _ in seen} == set("abcd")
    assert {used for static, used in seen if static in "ac"} == {devices[:1], devices[1:]}
    assert {used for static, used in seen if static in "bd"} == {devices}


def test_the_first_failure_ends_the_others():
    cut = chunks.make_chunks(units(*((name, 1) for name in "abcdef")), num_devices=2, budget=10**6)
    failures, done = [], []

    def compute(chunk, used, join):
        done.append(chunk)
        if chunk.units[0].static == "a":
            raise ZeroDivisionError

    devices = tuple(jax.devices()[:1]) * 2
    with pytest.raises(ZeroDivisionError):
        dispatch.run_chunks(cut, compute, devices, on_failure=lambda: failures.append(1))
    assert failures == [1]


def test_the_chunks_of_a_bundle_are_at_work_at_once_and_each_knows_where_to_meet():
    cut = chunks.make_chunks(
        units(("a", 1), ("b", 2), ("c", 1), bundled_by="same"), num_devices=1, budget=10**6, bundles=True
    )
    meet, joins = threading.Barrier(3, timeout=60), []

    def compute(chunk, used, join):
        meet.wait()
        joins.append(join.__self__)

    dispatch.run_chunks(cut, compute, tuple(jax.devices()[:1]), on_failure=lambda: None)
    assert len(joins) == 3
    assert len(set(joins)) == 1
    assert isinstance(joins[0], joining.Meeting)


@pytest.mark.parametrize("number", range(20))
def test_nobody_waits_for_a_chunk_that_was_never_begun(monkeypatch, number):
    """The first fails at once, before the last has a thread; who meets the others is woken."""
    waiting = joining.Meeting._call
    monkeypatch.setattr(joining.Meeting, "join", lambda meeting, ask: lambda: waiting(meeting, ask))
    cut = chunks.make_chunks(
        units(*((name, 1) for name in "abcde"), bundled_by="same"), num_devices=1, budget=10**6, bundles=True
    )

    def compute(chunk, used, join):
        if chunk.units[0].static == "a":
            raise ZeroDivisionError
        join("a call")()

    with pytest.raises((ZeroDivisionError, AttributeError)):
        dispatch.run_chunks(cut, compute, tuple(jax.devices()[:1]), on_failure=lambda: None)
