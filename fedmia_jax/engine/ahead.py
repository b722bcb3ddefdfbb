"""Work at later stages while earlier ones go on, so that no core waits for a stage to end.

Much of a federation needs nothing from the stages before: only the scoring of its snapshots reads fitted attacks. A
thread beside the stages computes that much of what would otherwise leave cores idle later, and holds it in the workdir
as an interrupted run would; when its own stage comes it stops, and the stage goes on from there, to the same bits.
"""

import concurrent.futures
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from fedmia_jax import compilation
from fedmia_jax.engine import chunks, kinds, lab
from fedmia_jax.engine.engines import contract
from fedmia_jax.engine.plans import plan

Work = tuple[kinds.Kind, Sequence[chunks.Chunk]]  # what is to be computed of one stage


@contextlib.contextmanager
def working(place: lab.Lab, planned: plan.Plan, stages: Sequence[Work]) -> Iterator[Callable[[], None]]:
    """Works ahead while the block runs.

    Only on a CPU, whose cores the operating system shares among threads; programs on an accelerator wait in one line.

    Args:
      place: where work is done.
      planned: the plan.
      stages: what is to be computed, in the order of computing.

    Yields:
      `stop()`, to be called before the stage of what is worked at: returns when that work has come to rest.

    Raises:
      Whatever failed, at `stop`.
    """
    later = choose(place, stages)
    if not later:
        yield lambda: None
        return
    resting, pool = threading.Event(), concurrent.futures.ThreadPoolExecutor(1)
    worked_at = pool.submit(_work, dataclasses.replace(place, stop=resting), planned, later)

    def stop() -> None:
        resting.set()
        worked_at.result()

    try:
        yield stop
    except BaseException as error:
        resting.set()
        pool.shutdown(wait=not isinstance(error, KeyboardInterrupt))
        raise
    resting.set()
    pool.shutdown()


def choose(place: lab.Lab, stages: Sequence[Work]) -> list[tuple[kinds.Kind, chunks.Chunk]]:
    """Returns what can be worked at ahead: chunks that leave cores idle, behind a stage, that fit beside all others."""
    if compilation.platform() != "cpu" or len(place.devices) == 1:
        return []
    before, later = 0, []
    for kind, todo in stages:
        if kind.ahead is not None and before:
            idle = [chunk for chunk in todo if not chunk.wide or chunk.size < len(place.devices)]
            later += [(kind, chunk) for chunk in idle if before + chunk.nbytes_on(chunk.size) <= place.budget]
        wide = [chunk.nbytes_on(len(place.devices)) for chunk in todo if chunk.wide]
        narrow = sorted(chunk.nbytes_on(1) for chunk in todo if not chunk.wide)[-len(place.devices) :]
        before = max([before, sum(narrow), *wide])
    return later


def _work(place: lab.Lab, planned: plan.Plan, later: Sequence[tuple[kinds.Kind, chunks.Chunk]]) -> None:
    """Computes ahead until there is no more to do, or until it shall rest."""
    for kind, chunk in later:
        if place.stop.is_set():
            return
        assert kind.ahead is not None
        start = time.perf_counter()
        draft = place.workdir.artifacts.begin([unit.fingerprint for unit in chunk.units], size=chunk.size)
        with contextlib.suppress(InterruptedError):
            devices = place.devices if chunk.wide else place.devices[-1:]
            contract.compute_chunk(place, planned, kind.ahead, chunk, draft, devices, lambda steps: None)
        seconds = round(time.perf_counter() - start, 3)
        place.workdir.log(artifact=draft.path.name, stage=kind.name, ahead_seconds=seconds)
