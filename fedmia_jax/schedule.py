"""The schedule of a federation as a value: who trained each snapshot, from which ones, and who received it.

Views, steps over a visit, labels of results and pictures read it; nobody else computes with numbers of cycles and
nodes. It holds for federations that pass a model round, for those that average, and for what comes.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

AGGREGATE = -1  # trainer of a snapshot that no node trained
NOBODY = -1  # fills up parents, and visits that did not take place


@dataclasses.dataclass(frozen=True, eq=False)
class Schedule:
    """Who trained what from what, snapshot by snapshot in training order.

    Where replicates go in different orders the arrays carry a leading axis S; `at` gives the schedule of one.

    Attributes:
      trainer: i32[T] or i32[S, T], index of the node that trained the snapshot, -1 for an aggregate.
      parents: i32[T, Q] or i32[S, T, Q], the snapshots that it was made from, -1 behind the last; several for an
        aggregate, none for what starts from the initial model, which nobody trained and which is no snapshot, or from
        one that is not there.
      cycle: i32[T], from 0; within a cycle a node trains at most once, and of some cycles there may be no snapshot.
      receivers: bool[T, N] or bool[S, T, N], the nodes that a snapshot was sent to.

    Raises:
      ValueError: shapes that do not belong together, a parent that comes later, a node that trains twice in a cycle.
    """

    trainer: np.ndarray
    parents: np.ndarray
    cycle: np.ndarray
    receivers: np.ndarray

    def __post_init__(self) -> None:
        for name in ("trainer", "parents", "cycle", "receivers"):
            object.__setattr__(self, name, np.asarray(getattr(self, name)))
        shape, nodes = self.trainer.shape, self.receivers.shape[-1]
        if self.trainer.ndim not in (1, 2) or self.parents.shape[:-1] != shape or self.receivers.shape[:-1] != shape:
            raise ValueError(
                f"schedule: trainer {shape}, parents {self.parents.shape} and receivers {self.receivers.shape} do not "
                "belong together; expected [T], [T, Q] and [T, N], or all with a leading axis"
            )
        if self.cycle.shape != shape[-1:] or (np.diff(self.cycle) < 0).any() or (self.cycle < 0).any():
            raise ValueError(f"schedule: cycle {self.cycle.tolist()} must rise from 0, one entry for each snapshot")
        if (self.trainer < AGGREGATE).any() or (self.trainer >= nodes).any():
            raise ValueError(f"schedule: trainer must lie between -1 and {nodes - 1}, got {self.trainer.tolist()}")
        if (self.parents < NOBODY).any() or (self.parents >= np.arange(shape[-1])[:, None]).any():
            raise ValueError("schedule: a parent must be an earlier snapshot, or -1")
        for trainer in np.atleast_2d(self.trainer):
            visits = [(cycle, node) for cycle, node in zip(self.cycle.tolist(), trainer.tolist(), strict=True)]
            visits = [visit for visit in visits if visit[1] != AGGREGATE]
            if len(set(visits)) < len(visits):
                raise ValueError("schedule: a node may train once in a cycle; split the cycle in two")

    @classmethod
    def cyclic(cls, *, nodes: int, cycles: int) -> "Schedule":
        """Returns the schedule of a model that goes round in the same order in every cycle.

        Source: Pustozerova and Mayer (2020), section III.

        Args:
          nodes: N.
          cycles: C; T is C * N.
        """
        return cls.sequential(np.broadcast_to(np.arange(nodes), (cycles, nodes)), nodes=nodes)

    @classmethod
    def sequential(cls, order: np.ndarray, *, nodes: int | None = None) -> "Schedule":
        """Returns the schedule of a model that goes from node to node in a given order.

        Args:
          order: i32[C, V], the nodes of each cycle, one after the other.
          nodes: N; the largest node of the order and those before it where it is not given.
        """
        order = np.asarray(order, np.int32)
        trainer = order.reshape(-1)
        num_nodes = nodes if nodes is not None else int(trainer.max(initial=-1)) + 1
        receivers = np.zeros((trainer.size, num_nodes), bool)
        receivers[np.arange(trainer.size - 1), trainer[1:]] = True  # the finished model goes to nobody in particular
        parents = np.arange(trainer.size, dtype=np.int32)[:, None] - 1
        return cls(trainer, parents, np.repeat(np.arange(len(order)), order.shape[1]), receivers)

    @classmethod
    def stack(cls, schedules: Sequence["Schedule"]) -> "Schedule":
        """Returns the schedules of several replicates as one; a single one where all are equal.

        Raises:
          ValueError: they differ in their cycles or in the number of nodes or snapshots.
        """
        first = schedules[0]
        for other in schedules[1:]:
            if not np.array_equal(other.cycle, first.cycle) or other.nodes != first.nodes:
                raise ValueError("schedules of replicates must have the same cycles, snapshots and nodes")
        arrays = [
            np.stack([getattr(schedule, name) for schedule in schedules])
            for name in ("trainer", "parents", "receivers")
        ]
        if all((array == array[0]).all() for array in arrays):
            return first
        trainer, parents, receivers = arrays
        return cls(trainer, parents, first.cycle, receivers)

    def at(self, replicate: int) -> "Schedule":
        """Returns the schedule of one replicate, without the leading axis."""
        if self.trainer.ndim == 1:
            return self
        return Schedule(self.trainer[replicate], self.parents[replicate], self.cycle, self.receivers[replicate])

    @property
    def shared(self) -> bool:
        """Whether all replicates go in the same order."""
        return self.trainer.ndim == 1

    @property
    def nodes(self) -> int:
        """N."""
        return self.receivers.shape[-1]

    @property
    def cycles(self) -> int:
        """C."""
        return int(self.cycle[-1]) + 1 if self.cycle.size else 0

    def __len__(self) -> int:
        """T."""
        return self.trainer.shape[-1]

    def label(self, snapshot: int) -> str:
        """Returns the name of a snapshot, counted from 1: `C2N1` after node 1 trained in cycle 2, `C2` an aggregate."""
        node = self.node(snapshot)
        return f"C{int(self.cycle[snapshot]) + 1}" + ("" if node is None else f"N{node}")

    def node(self, snapshot: int) -> int | None:
        """Returns the node that trained a snapshot, counted from 1; None for an aggregate."""
        trainer = int(self._one.trainer[snapshot])
        return None if trainer == AGGREGATE else trainer + 1

    @property
    def _one(self) -> "Schedule":
        """This schedule, which must be that of one replicate."""
        if not self.shared:
            raise ValueError("replicates go in different orders: ask for the schedule of one of them with `at`")
        return self

    @functools.cached_property
    def anonymous(self) -> "Schedule":
        """The same as it looks to whoever does not know who trained what: no snapshot has a trainer or a receiver."""
        trainer, receivers = np.full_like(self.trainer, AGGREGATE), np.zeros_like(self.receivers)
        return Schedule(trainer, self.parents, self.cycle, receivers)

    @property
    def last(self) -> "Schedule":
        """The last snapshot by itself."""
        return self._only(np.arange(len(self)) == len(self) - 1)

    def of_cycles(self, cycles: Sequence[int]) -> "Schedule":
        """Returns the snapshots of some cycles, which keep their numbers; parents of other cycles are not there."""
        return self._only(np.isin(self.cycle, list(cycles)))

    def _only(self, kept: np.ndarray) -> "Schedule":
        """The snapshots that a mask bool[T] marks; parents that it does not mark are not there."""
        places = np.append(np.where(kept, np.cumsum(kept) - 1, NOBODY), NOBODY)  # the last for a parent of -1
        parents = places[self.parents[..., kept, :]]
        return Schedule(self.trainer[..., kept], parents, self.cycle[kept], self.receivers[..., kept, :])

    @functools.cached_property
    def before(self) -> np.ndarray:
        """The model that each snapshot's training started from: i32[T], -1 for an aggregate or the initial model."""
        schedule = self._one
        first = schedule.parents[:, 0] if schedule.parents.shape[1] else np.full(len(self), NOBODY)
        return np.where(schedule.trainer == AGGREGATE, NOBODY, first).astype(np.int32)

    @functools.cached_property
    def visits(self) -> np.ndarray:
        """The snapshot that each node handed on in each cycle of which there are some: i32[C, N], -1 for none."""
        cycles, row = np.unique(self.cycle, return_inverse=True)
        table = np.full((len(cycles), self.nodes), NOBODY, np.int32)
        for snapshot, node in enumerate(self._one.trainer):
            if node != AGGREGATE:
                table[row[snapshot], node] = snapshot
        return table

    @functools.cached_property
    def ages(self) -> np.ndarray:
        """Hand-offs since each node trained: i32[T, N], 0 for what it trained itself, T where it never has.

        They are counted from snapshot to snapshot, so that what was trained before the first that is there is unknown.
        """
        schedule, never = self._one, len(self)
        ages = np.full((len(self), self.nodes), never, np.int32)
        for snapshot in range(len(self)):
            parents = [parent for parent in schedule.parents[snapshot] if parent != NOBODY]
            if parents:
                ages[snapshot] = np.minimum(ages[parents].min(axis=0) + 1, never)
            if schedule.trainer[snapshot] != AGGREGATE:
                ages[snapshot, schedule.trainer[snapshot]] = 0
        return ages

    def bracketed(self, mask: np.ndarray, node: int) -> np.ndarray:
        """Returns the snapshots just after those visits to a node of which a view shows both ends, i64[<=C].

        Args:
          mask: bool[T], what is seen.
          node: index from 0.
        """
        after = np.flatnonzero((self._one.trainer == node) & (self.before != NOBODY))
        return after[mask[after] & mask[self.before[after]]]

    def freshest(self, mask: np.ndarray, node: int) -> int:
        """Returns the seen snapshot with the fewest hand-offs since a node trained, the latest of such.

        What an adversary reads with an attack on one snapshot. For the union of all nodes, and where a view shows only
        what came before the node's first visit, it is the last one seen.

        Args:
          mask: bool[T], at least one seen.
          node: index from 0; N for the union.
        """
        seen = np.flatnonzero(mask)
        if node < self.nodes:
            ages = self.ages[seen, node]
            seen = seen[ages == ages.min()]
        return int(seen[-1])
