"""Units of work -> groups of equal static shape -> chunks that fit the memory, and who computes them when.

A group is one compiled program. Where it has enough units its chunks are split over all devices, one chunk after the
other; groups that cannot fill the machine run side by side, each on a device of its own. On an accelerator chunks that
differ in their number of classes alone make a bundle, which trains as one, see `joining.py`.
"""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

MOST_IDLE = 0.1  # of the devices' time, before a group is given one device rather than all
MOST_FILLED = 1.5  # memory of a bundle, over that of its chunks by themselves
JOINED = 1.25  # memory of a model in a bundle, over that by itself: its state is there apart and among the others


@dataclasses.dataclass(frozen=True, eq=False)
class Unit:
    """The smallest piece of work whose outcome is kept.

    Attributes:
      fingerprint: of all that the outcome depends on.
      static: what decides shapes and trip counts; units of equal `static` run as one program.
      bundled_by: equal for units that differ in labels and number of classes alone, and may train as one on an
        accelerator; None for those that may not.
      bundled_nbytes: memory more of a unit that does, in bytes.
      num_classes: K.
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
    bundled_by: Hashable = None
    bundled_nbytes: int = 0
    num_classes: int = 0
    kept_nbytes: int = 0
    most: int = 0
    alone: bool = False
    beside: bool = False
    num_models: int = 0
    shown: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Bundle:
    """Chunks that train as one.

    Attributes:
      num_classes: the most of them have.
      size: models of all of them. The program is for so many, whoever of the chunks is left.
      num_chunks: that there are.
    """

    num_classes: int
    size: int
    num_chunks: int


@dataclasses.dataclass(frozen=True, eq=False)
class Chunk:
    """Units that run at once. The last one of a group is filled up to the size of the others."""

    units: tuple[Unit, ...]
    size: int
    wide: bool  # on all devices
    group: tuple[Unit, ...]  # all units of its group
    bundle: Bundle | None = None  # that it is part of

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


def make_chunks(units: Sequence[Unit], *, num_devices: int, budget: int, bundles: bool = False) -> list[Chunk]:
    """Cuts groups into chunks of equal size.

    The composition depends on the units, the devices and the budget only, so that an interrupted run goes on with
    the very same programs on the very same stacks.

    Args:
      units: what to do, every unit once.
      num_devices: devices that work side by side.
      budget: bytes for all of them together.
      bundles: chunks on all devices are bundled where that fits.

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
    return (_bundle(wide, num_devices=num_devices, budget=budget) if bundles else wide) + single


def _bundle(chunks: Sequence[Chunk], *, num_devices: int, budget: int) -> list[Chunk]:
    """The chunks, those that may train as one in bundles that fit the memory, as long as little is filled up."""
    bundled: list[list[Chunk]] = []
    last: dict[Hashable, list[Chunk]] = {}  # of those on as many devices that are alike
    for chunk in chunks:
        kind = (chunk.group[0].bundled_by, min(chunk.size, num_devices))
        alike = last.get(kind, [])
        if kind[0] is not None and alike and _fit_together([*alike, chunk], num_devices=num_devices, budget=budget):
            alike.append(chunk)
        else:
            last[kind] = [chunk]
            bundled.append(last[kind])
    made: dict[Chunk, Chunk] = {}
    for each in bundled:
        if len(each) > 1:
            most, size = max(chunk.group[0].num_classes for chunk in each), sum(chunk.size for chunk in each)
            bundle = Bundle(most, size, len(each))
            made |= {chunk: dataclasses.replace(chunk, bundle=bundle) for chunk in each}
    return [made.get(chunk, chunk) for chunk in chunks]


def _fit_together(chunks: Sequence[Chunk], *, num_devices: int, budget: int) -> bool:
    """Whether chunks may be one bundle, where every model takes what one of the most classes takes."""
    size, largest = sum(chunk.size for chunk in chunks), max(unit.nbytes for chunk in chunks for unit in chunk.units)
    more = max(chunk.group[0].bundled_nbytes for chunk in chunks)
    fixed, nbytes = num_devices * sum(chunk.group[0].fixed_nbytes for chunk in chunks), size * largest
    return JOINED * nbytes + size * more + fixed <= budget and nbytes <= MOST_FILLED * sum(
        chunk.nbytes for chunk in chunks
    )


def by_bundle(chunks: Sequence[Chunk]) -> list[list[Chunk]]:
    """Returns the chunks in order of their first, those of a bundle together and every other by itself."""
    together: dict[Any, list[Chunk]] = {}
    for chunk in chunks:
        together.setdefault(chunk.bundle or chunk, []).append(chunk)
    return list(together.values())


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
