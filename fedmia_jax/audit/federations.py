"""Targets and references side by side: their schedules, what a party sees of each, and one layout for all.

Where federations go in different orders, the third snapshot of one is not the third of another. Attacks that compare
trajectories then read all of them *by visit*: cycle by cycle, in a cycle node by node, aggregates behind them. Where
all go in the same order nothing is moved. Whoever does not know the order reads them otherwise, see `views.Layout`.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from fedmia_jax.attacks import contract
from fedmia_jax.audit import evidence, views
from fedmia_jax.schedule import AGGREGATE, NOBODY, Schedule


@dataclasses.dataclass(frozen=True, eq=False)
class Observer:
    """A party and what it sees of each federation.

    Attributes:
      name: of the party.
      attacked: indices of the nodes, N for the union.
      masks: the snapshots seen, in each federation's own order; the targets come first, then the pseudo-targets.
      layout: how it compares federations.
    """

    name: str
    attacked: tuple[int, ...]
    masks: Bool[np.ndarray, "F T"]
    layout: views.Layout = views.BY_VISIT


@dataclasses.dataclass(frozen=True, eq=False)
class Federations:
    """The schedules of all federations of an audit.

    Attributes:
      scored: of the targets and then of the pseudo-targets, the last references.
      fitted: of the references that attacks are fitted on.
    """

    scored: Sequence[Schedule]
    fitted: Sequence[Schedule]

    @functools.cached_property
    def alike(self) -> bool:
        """Whether all federations go in the same order."""
        first = self.scored[0]
        return all(equal(first, other) for other in (*self.scored, *self.fitted))

    def orders(self, schedules: Sequence[Schedule]) -> Int[np.ndarray, "F T"]:
        """Returns for each federation the snapshot that stands at each place of the common layout.

        Raises:
          ValueError: federations in which not the same nodes trained in the same cycles.
        """
        if self.alike:
            return np.broadcast_to(np.arange(len(self.scored[0])), (len(schedules), len(self.scored[0])))
        layout = visits_of(self.scored[0])
        for schedule in schedules:
            if not np.array_equal(visits_of(schedule), layout):
                raise ValueError(
                    "schedules: targets and references go in different orders, and not the same nodes train in the "
                    "same cycles; they cannot be read visit by visit"
                )
        return np.stack([to_visits(schedule) for schedule in schedules])

    def places(self, layout: views.Layout, schedules: Sequence[Schedule]) -> Int[np.ndarray, "F P"]:
        """Returns for each federation the snapshot that stands at each place of a layout."""
        if layout.answered:
            return np.full((len(schedules), 1), len(schedules[0]) - 1)
        if layout.ordered:
            return self.orders(schedules)
        return np.stack([without_order(schedule, layout) for schedule in schedules])

    def known(self, layout: views.Layout) -> Sequence[Schedule]:
        """Returns the schedules of the scored federations as a party knows them."""
        return self.scored if layout.ordered else [schedule.anonymous for schedule in self.scored]

    def sights(self, masks: Bool[np.ndarray, "F T"], layout: views.Layout) -> contract.Sight:
        """Returns what is seen of the scored federations in a layout, leaves [F, ...]."""
        orders, make = self.places(layout, self.scored), make_sight if layout.ordered else make_unordered_sight
        sights = [make(schedule, mask, order) for schedule, mask, order in zip(self.scored, masks, orders, strict=True)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *sights)

    def observers(self, names: Sequence[str]) -> dict[str, list[Observer]]:
        """Returns the parties of every view.

        Raises:
          InputError: a view that some federation does not have.
        """
        made = {id(schedule): views.make_views(names, schedule) for schedule in self.scored}
        observers: dict[str, list[Observer]] = {}
        for name in names:
            parties = zip(*(made[id(schedule)][name] for schedule in self.scored), strict=True)
            observers[name] = [
                Observer(same[0].name, same[0].attacked, np.stack([party.mask for party in same]), same[0].layout)
                for same in parties
            ]
        return observers


def make_federations(arrays: evidence.Evidence) -> Federations:
    """Collects the schedules of targets and references."""
    num_targets, references = arrays.phi.shape[0], arrays.references
    targets = _each(arrays.schedule, num_targets)
    if references is None:
        return Federations(targets, [])
    schedule = arrays.schedule if references.schedule is None else references.schedule
    known = _each(schedule, references.phi.shape[0])
    return Federations(targets + known[-evidence.PSEUDO_TARGETS :], known[: -evidence.PSEUDO_TARGETS])


def _each(schedule: Schedule, number: int) -> list[Schedule]:
    """The schedule of each of some federations, the same object where it is the same for all."""
    return [schedule] * number if schedule.shared else [schedule.at(index) for index in range(number)]


def equal(first: Schedule, second: Schedule) -> bool:
    """Returns whether two schedules say the same."""
    names = ("trainer", "parents", "cycle", "receivers")
    return first is second or all(np.array_equal(getattr(first, name), getattr(second, name)) for name in names)


def to_visits(schedule: Schedule) -> Int[np.ndarray, "T"]:
    """Returns the snapshots of a federation by cycle and in a cycle by node, aggregates behind those of their cycle."""
    node = np.where(schedule.trainer == AGGREGATE, schedule.nodes, schedule.trainer)
    return np.lexsort((node, schedule.cycle))


def visits_of(schedule: Schedule) -> Int[np.ndarray, "T 2"]:
    """Returns cycle and node of each place in the layout of `to_visits`."""
    return np.stack([schedule.cycle, schedule.trainer], axis=1)[to_visits(schedule)]


def make_sight(schedule: Schedule, mask: Bool[np.ndarray, "T"], order: Int[np.ndarray, "T"]) -> contract.Sight:
    """Returns what is seen of one federation, when its snapshots stand in the given order."""
    places = np.argsort(order).astype(np.int32)

    def moved(snapshots: np.ndarray) -> np.ndarray:
        return np.where(snapshots == NOBODY, NOBODY, places[snapshots]).astype(np.int32)

    seen, before, visits = mask[order], moved(schedule.before[order]), moved(schedule.visits)
    return contract.Sight(*(jnp.asarray(array) for array in (seen, before, visits)))


def without_order(schedule: Schedule, layout: views.Layout) -> Int[np.ndarray, "P"]:
    """Returns the snapshot at each place of a layout that tells nothing of who else trained.

    That is in training order; for insiders cycle by cycle, in a cycle insider by insider, what it received and what it
    trained. Where it received what nobody had trained, what it trained stands there too.
    """
    if not layout.insiders:
        return np.arange(len(schedule))
    own = schedule.visits[:, list(layout.insiders)]  # [C, k]
    received = np.where(schedule.before[own] == NOBODY, own, schedule.before[own])
    return np.stack([received, own], axis=-1).reshape(-1)


def make_unordered_sight(
    schedule: Schedule, mask: Bool[np.ndarray, "T"], places: Int[np.ndarray, "P"]
) -> contract.Sight:
    """Returns what is seen of one federation by whoever does not know the order; every snapshot counts once."""
    seen = np.zeros(len(places), bool)
    seen[np.unique(places, return_index=True)[1]] = True
    nobody = np.full(len(places), NOBODY, np.int32)
    visits = np.full_like(schedule.visits, NOBODY)
    return contract.Sight(*(jnp.asarray(array) for array in (seen & mask[places], nobody, visits)))


def reorder(phi: Float[jax.Array, "F T M"], orders: Int[np.ndarray, "F P"]) -> Float[jax.Array, "F P M"]:
    """Returns the snapshots that stand at the places of a layout, by federation."""
    if orders.shape[1] == phi.shape[1] and (orders == np.arange(orders.shape[1])).all():
        return phi
    return jnp.take_along_axis(phi, jnp.asarray(orders)[:, :, None], axis=1)
