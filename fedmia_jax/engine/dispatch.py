"""Who computes which chunk when: one after the other on all devices, as one, or side by side, a device each."""

import concurrent.futures
import contextvars
import queue
from collections.abc import Callable, Sequence

import jax

from fedmia_jax.engine import chunks, joining, programs

Join = Callable[[programs.Programs], programs.Programs]
Compute = Callable[[chunks.Chunk, tuple[jax.Device, ...], Join], None]


def run_chunks(
    todo: Sequence[chunks.Chunk],
    compute: Compute,
    devices: tuple[jax.Device, ...],
    *,
    on_failure: Callable[[], None],
) -> None:
    """Computes all chunks, wide ones in turn, those of a bundle as one, the others side by side, the longest first.

    Args:
      todo: what to compute.
      compute: `compute(chunk, devices, join)` does one chunk on some devices; its programs go through `join`, see
        `lab.Lab`.
      devices: all devices.
      on_failure: called as soon as one chunk has failed, so that those beside it can stop.

    Raises:
      Whatever `compute` raised first.
    """
    in_turn = [chunk for chunk in todo if chunk.wide or len(devices) == 1]
    for together in chunks.by_bundle(in_turn):
        bundle = together[0].bundle
        if bundle is None:
            compute(together[0], devices, joining.alone)
        else:
            compute_bundle(bundle, together, compute, devices, on_failure=on_failure)
    side_by_side = [] if len(devices) == 1 else [chunk for chunk in todo if not chunk.wide]
    free: queue.SimpleQueue[jax.Device] = queue.SimpleQueue()
    for device in devices:
        free.put(device)

    def take(chunk: chunks.Chunk) -> None:
        device = free.get()
        try:
            compute(chunk, (device,), joining.alone)
        finally:
            free.put(device)

    _call_all(take, sorted(side_by_side, key=lambda chunk: -chunk.steps), len(devices), on_failure=on_failure)


def compute_bundle(
    bundle: chunks.Bundle,
    together: Sequence[chunks.Chunk],
    compute: Compute,
    devices: tuple[jax.Device, ...],
    *,
    on_failure: Callable[[], None],
) -> None:
    """Computes what is left of a bundle, every chunk in a thread of its own, whose training meets; see `run_chunks`."""
    meeting = joining.Meeting(bundle, len(together))

    def fail() -> None:
        on_failure()
        meeting.end()

    def take(chunk: chunks.Chunk) -> None:
        try:
            compute(chunk, devices, meeting.join)
        finally:
            meeting.leave()

    _call_all(take, together, len(together), on_failure=fail)


def _call_all(
    call: Callable[[chunks.Chunk], None],
    todo: Sequence[chunks.Chunk],
    num_threads: int,
    *,
    on_failure: Callable[[], None],
) -> None:
    """Calls a function with every chunk, so many at a time; those beside one that fails end at their next segment."""
    if not todo:
        return
    pool = concurrent.futures.ThreadPoolExecutor(num_threads)
    try:
        # With the target of this thread, where programs are only compiled.
        waiting = [pool.submit(contextvars.copy_context().run, call, chunk) for chunk in todo]
        for future in concurrent.futures.as_completed(waiting):
            future.result()
    except BaseException as error:
        on_failure()  # the folder is theirs until they have ended
        pool.shutdown(wait=not isinstance(error, KeyboardInterrupt), cancel_futures=True)
        raise
    pool.shutdown()
