"""Units of work -> groups of equal static shape -> chunks that fit the memory, and who computes them when.

A group is one compiled program. Where it has enough units its chunks are split over all devices, one chunk after the
other; groups that cannot fill the machine run side by side, each on a device of its own.
"""

import concurrent.futures
import dataclasses
import queue
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax

MOST_IDLE = 0.1  # of the devices' time, before a group is given one device rather than all


@dataclasses.dataclass(frozen=True, eq=False)
class Unit:
    """The smallest piece of work whose outcome is kept.

    Attributes:
      fingerprint: of all that the outcome depends on.
      static: what decides shapes and trip counts; units of equal `static` run as one program.
      task: what to do.
      steps: model updates, or an equivalent, for plans and bars.
      nbytes: memory while it is in work, in bytes.
      fixed_nbytes: memory that a device needs once, however many units it has, in bytes.
      kept_nbytes: what is kept of it on disk, in bytes; what is small beside the rest is not counted.
      most: units that a device takes at a time, to be able to go on from there; 0 for no limit.
      alone: the unit fills all devices by itself.
      beside: the unit keeps one device busy at most, so that as many are worked on side by side as there are devices.
      num_models: models that are trained.
      shown: what a plan says of it, by heading.
    """

    fingerprint: str
    static: Hashable
    task: Any
    steps: float
    nbytes: int
    fixed_nbytes: int = 0
    kept_nbytes: int = 0
    most: int = 0
    alone: bool = False
    beside: bool = False
    num_models: int = 0
    shown: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Chunk:
    """Units that run at once. The last one of a group is filled up to the size of the others."""

    units: tuple[Unit, ...]
    size: int
    wide: bool  # on all devices
    group: tuple[Unit, ...]  # all units of its group

    @property
    def rows(self) -> list[int]:
        """Which unit stands at each place: repetitions of the last one fill up."""
        return [min(row, len(self.units) - 1) for row in range(self.size)]

    @property
    def tasks(self) -> list[Any]:
        """The task at each place."""
        return [self.units[row].task for row in self.rows]

    @property
    def steps(self) -> float:
        """Model updates in it."""
        return sum(unit.steps for unit in self.units)

    @property
    def nbytes(self) -> int:
        """Memory of its units, those that fill up counted too, beside what a device needs once."""
        return self.size * max(unit.nbytes for unit in self.units)

    def nbytes_on(self, num_devices: int) -> int:
        """Memory while it is in work on so many devices."""
        return self.nbytes + num_devices * self.group[0].fixed_nbytes


def make_groups(units: Sequence[Unit]) -> list[list[Unit]]:
    """Returns the units by equal static part, in order of their first."""
    groups: dict[Hashable, list[Unit]] = {}
    for unit in units:
        groups.setdefault(unit.static, []).append(unit)
    return list(groups.values())


def make_chunks(units: Sequence[Unit], *, num_devices: int, budget: int) -> list[Chunk]:
    """Cuts groups into chunks of equal size.

    The composition depends on the units, the devices and the budget only, so that an interrupted run goes on with
    the very same programs on the very same stacks.

    Args:
      units: what to do, every unit once.
      num_devices: devices that work side by side.
      budget: bytes for all of them together.

    Returns:
      The chunks, those on all devices first.
    """
    groups = make_groups(units)
    narrow = _narrow(groups, num_devices=num_devices, budget=budget)
    wide: list[Chunk] = []
    single: list[Chunk] = []
    for group in groups:
        alone = any(group is other for other in narrow)
        cut = _cut(group, num_devices=1 if alone else num_devices, budget=budget // (num_devices if alone else 1))
        (single if alone else wide).extend(cut)
    return wide + single


def _narrow(groups: Sequence[Sequence[Unit]], *, num_devices: int, budget: int) -> list[Sequence[Unit]]:
    """The groups that are done sooner side by side, a device each, than one after the other on all devices."""
    fitting = [
        group
        for group in groups
        if num_devices > 1 and num_devices * max(unit.nbytes + unit.fixed_nbytes for unit in group) <= budget
    ]
    beside = [group for group in fitting if group[0].beside]
    narrow = [
        group
        for group in fitting
        if -len(group) % num_devices > MOST_IDLE * len(group) and not group[0].alone and not group[0].beside
    ]
    steps = [sum(unit.steps for unit in group) for group in narrow]
    side_by_side = max([sum(steps) / num_devices, *steps], default=0.0)
    in_turn = sum(-(-len(group) // num_devices) * max(unit.steps for unit in group) for group in narrow)
    return beside + (narrow if side_by_side < in_turn else [])


def _cut(group: Sequence[Unit], *, num_devices: int, budget: int) -> list[Chunk]:
    """Equal chunks of one group."""
    free = budget - num_devices * max(unit.fixed_nbytes for unit in group)
    largest = 1 if group[0].alone or group[0].beside else max(1, free // max(unit.nbytes for unit in group))
    most = group[0].most * num_devices
    if most:
        largest = min(largest, most)
    if largest >= num_devices:
        largest -= largest % num_devices
    num_chunks = -(-len(group) // largest)
    size = -(-len(group) // num_chunks)
    if size > num_devices:
        size += -size % num_devices
    return [
        Chunk(tuple(group[first : first + size]), size, num_devices > 1, tuple(group))
        for first in range(0, len(group), size)
    ]


def run_chunks(
    chunks: Sequence[Chunk],
    compute: Callable[[Chunk, tuple[jax.Device, ...]], None],
    devices: tuple[jax.Device, ...],
    *,
    on_failure: Callable[[], None],
) -> None:
    """Computes all chunks, wide ones in turn, the others side by side, the longest first.

    Args:
      chunks: what to compute.
      compute: does one chunk on some devices.
      devices: all devices.
      on_failure: called as soon as one chunk has failed, so that those beside it can stop.

    Raises:
      Whatever `compute` raised first.
    """
    for chunk in chunks:
        if chunk.wide or len(devices) == 1:
            compute(chunk, devices)
    single = sorted((chunk for chunk in chunks if not chunk.wide), key=lambda chunk: -chunk.steps)
    if len(devices) == 1 or not single:
        return
    free: queue.SimpleQueue[jax.Device] = queue.SimpleQueue()
    for device in devices:
        free.put(device)

    def take(chunk: Chunk) -> None:
        device = free.get()
        try:
            compute(chunk, (device,))
        finally:
            free.put(device)

    pool = concurrent.futures.ThreadPoolExecutor(len(devices))
    waiting = [pool.submit(take, chunk) for chunk in single]
    try:
        for future in concurrent.futures.as_completed(waiting):
            future.result()
    except BaseException as error:
        on_failure()  # those at work end at their next segment; the folder is theirs until then
        pool.shutdown(wait=not isinstance(error, KeyboardInterrupt), cancel_futures=True)
        raise
    pool.shutdown()
