"""Chunks on the devices of this process, straight into the workdir, where those that are interrupted go on."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence

import jax

from fedmia_jax.engine import chunks, dispatch, kinds, lab
from fedmia_jax.engine.engines import contract
from fedmia_jax.engine.plans import plan


@contextlib.contextmanager
def start(*, address: str | None, num_cpu_devices: int | None) -> Iterator[contract.Engine]:
    """Yields the engine; there is nothing to start."""
    del address
    yield dataclasses.replace(ENGINE, num_cpu_devices=num_cpu_devices)


def compute(
    place: lab.Lab, planned: plan.Plan, kind: kinds.Kind, todo: Sequence[chunks.Chunk], advance: contract.Advance
) -> None:
    """Computes chunks of one kind, on all devices in turn or side by side, a device each."""

    def compute_one(chunk: chunks.Chunk, devices: tuple[jax.Device, ...], join: dispatch.Join) -> None:
        start = time.perf_counter()
        draft = place.workdir.artifacts.begin([unit.fingerprint for unit in chunk.units], size=chunk.size)
        where = dataclasses.replace(place, join=join)
        contract.compute_chunk(where, planned, kind.compute, chunk, draft, devices, advance)
        contract.keep(place, kind, chunk, draft, time.perf_counter() - start)

    dispatch.run_chunks(todo, compute_one, place.devices, on_failure=place.stop.set)


ENGINE = contract.Engine(compute, num_cpu_devices=None, works_ahead=True)
