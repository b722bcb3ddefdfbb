"""What the scores of one audit come from: the evidence, who sees what of it, and the attacks with references.

The targets share the scored records and the references, and are the axis S; F counts the targets and behind them the
pseudo-targets, references that no attack is fitted on and that thresholds are chosen on.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fedmia_jax import attacks
from fedmia_jax.attacks import contract
from fedmia_jax.audit import blocks, correction, evidence, federations, views


@dataclasses.dataclass(frozen=True, eq=False)
class Scored:
    """What one party says of the records of one node, or of the union, at every target.

    Attributes:
      attack: name.
      view: by its name in the call, or `rows.SNAPSHOT`.
      party: as results name it.
      node: the attacked one, N for the union.
      snapshots: i64[S], the snapshot that was read at each target; None where several are read together.
      last: i64[S], the last one seen at each target.
      scores: f32[S, M], higher means member.
      thresholds: f[S], NaN for an attack of coalitions by the dozen.
      held_out: f[S], accuracy of the attack on models that it was not fitted on; None where it is not known.
      answered: whether it was read off answers, and not off models.
    """

    attack: str
    view: str
    party: str
    node: int
    snapshots: np.ndarray | None
    last: np.ndarray
    scores: np.ndarray
    thresholds: np.ndarray
    held_out: np.ndarray | None = None
    answered: bool = False


class Read(NamedTuple):
    """What an attack reads of a block of B records, in a layout of P places."""

    references: contract.KnownRecords  # to fit on
    phi: Float[jax.Array, "F P B"]  # of targets and pseudo-targets


@dataclasses.dataclass(frozen=True, eq=False)
class Scorer:
    """All that the scores of one audit come from.

    Attributes:
      arrays: the evidence.
      known: schedules of targets and references.
      observers: the parties of every view, by the name of the view.
      compared: the attacks with references, by name.
      unordered: the same for whoever does not know the order, by the number of insiders, or asks, see `_kind`.
      reads: the name of the signal that each of them reads.
      key: of all fits.
      claim: which bound on epsilon stands by itself, and for how many the others are corrected.
      fitted: what `scoring` has made of an attack and may use once more, by attack and layout.
      placed: what `read` has made and may use once more, by the name of the signal and the layout.
    """

    arrays: evidence.Evidence
    known: federations.Federations
    observers: Mapping[str, Sequence[federations.Observer]]
    compared: Mapping[str, contract.ReferenceAttack]
    unordered: Mapping[tuple[int, bool], Mapping[str, contract.ReferenceAttack]]
    reads: Mapping[str, str]
    key: jax.Array
    claim: correction.Claim
    fitted: dict[str, dict[views.Layout, Any]] = dataclasses.field(default_factory=dict)
    placed: dict[tuple[str, views.Layout], Read] = dataclasses.field(default_factory=dict)

    @property
    def nodes(self) -> int:
        """N."""
        return self.arrays.nodes

    @property
    def num_targets(self) -> int:
        """S."""
        return self.arrays.phi.shape[0]

    @property
    def layouts(self) -> list[views.Layout]:
        """The layouts of all parties, that by visit first."""
        every = (observer.layout for observers in self.observers.values() for observer in observers)
        return list(dict.fromkeys((views.BY_VISIT, *every)))

    def attack(self, name: str, layout: views.Layout) -> contract.ReferenceAttack:
        """Returns an attack with references as it is made for a layout."""
        return (self.compared if layout.ordered else self.unordered[_kind(layout)])[name]

    def correct(self, scored: Scored) -> np.ndarray | None:
        """Returns whether the last that is seen of each target answers the label, bool[S, M]; None where unknown."""
        arrays = self.arrays.answers if scored.answered else self.arrays
        assert arrays is not None
        last = np.zeros_like(scored.last) if scored.answered else scored.last
        return None if arrays.correct is None else np.asarray(arrays.correct)[np.arange(self.num_targets), last]

    @functools.cached_property
    def row_blocks(self) -> list[blocks.Rows]:
        """The rows of the records that are compared with references at a time."""
        return _blocks(self.arrays)

    def read(self, attack: str, layout: views.Layout, rows: blocks.Rows) -> Read:
        """Returns what an attack reads of a block, in a layout."""
        name = self.reads[attack]
        if (name, layout) in self.placed:
            return self.placed[name, layout]
        known, arrays = self.known, self.arrays.answers if layout.answered else self.arrays
        assert arrays is not None
        assert arrays.references is not None
        fitted, pseudo = np.split(evidence.signal_of(arrays.references, name)[..., rows], [-evidence.PSEUDO_TARGETS])
        scored = jnp.concatenate([jnp.asarray(evidence.signal_of(arrays, name)[..., rows]), jnp.asarray(pseudo)])
        moved = [
            jnp.asarray(phi) if layout.answered else federations.reorder(phi, known.places(layout, schedules))
            for phi, schedules in ((jnp.asarray(fitted), known.fitted), (scored, known.scored))
        ]
        owners = jnp.asarray(arrays.references.owners[: -evidence.PSEUDO_TARGETS, rows])
        read = Read(contract.KnownRecords(moved[0], owners), moved[1])
        if len(self.row_blocks) == 1:
            self.placed[name, layout] = read
        return read

    def observed(self) -> Iterator[tuple[str, federations.Observer, int]]:
        """Yields every view of single parties with its parties and the nodes that they attack."""
        for view, observers in self.observers.items():
            for observer in () if is_many(view) else observers:
                for node in observer.attacked:
                    yield view, observer, node


def is_many(view: str) -> bool:
    """Returns whether a view stands for coalitions by the dozen; for attacks that read several snapshots."""
    return view.startswith(views.EVERY)


def make_scorer(
    arrays: evidence.Evidence,
    names: Sequence[str],
    view_names: Sequence[str],
    options: Mapping[str, Any],
    key: jax.Array,
    *,
    claim: correction.Claim,
) -> Scorer:
    """Makes the attacks with references for some views.

    Args:
      arrays: the evidence.
      names: of the attacks with references.
      view_names: see `views.make_view`.
      options: of the attacks, by name; may hold more.
      key: of all fits.
      claim: which bound on epsilon stands by itself.
    """
    known = federations.make_federations(arrays)
    observers = known.observers(view_names)
    if arrays.answers is not None:
        for view in filter(views.asks, observers):
            observers[view] = [dataclasses.replace(each, layout=views.ANSWERED) for each in observers[view]]
    chosen = attacks.choose(tuple(names), options)
    compared: Mapping[str, contract.ReferenceAttack] = {}
    unordered: dict[tuple[int, bool], list[federations.Observer]] = {}
    for observer in (observer for group in observers.values() for observer in group if not observer.layout.ordered):
        unordered.setdefault(_kind(observer.layout), []).append(observer)
    if (
        any(not answered for _, answered in unordered)
        and arrays.references is not None
        and arrays.references.schedule is None
    ):
        raise ValueError(
            "references.schedule: None, so that references go in the targets' order and tell it; a view without "
            "knowledge of the order needs references that each go in an order of their own"
        )
    if names:
        masks, first = _masks(known, observers, arrays.phi.shape[0]), known.scored[0]
        sight = federations.make_sight(first, np.ones(len(first), bool), known.orders(known.scored)[0])
        setup = _make_setup(arrays, masks, np.asarray(sight.before), np.asarray(sight.visits))
        compared = attacks.make_reference_attacks(chosen, setup)
    made = {
        kind: attacks.make_reference_attacks(chosen, _setup_without_order(known, group, arrays))
        for kind, group in unordered.items()
    }
    reads = {name: signal.name for name, signal in attacks.signals_read(chosen).items()}
    return Scorer(arrays, known, observers, compared, made, reads, key, claim)


def _masks(
    known: federations.Federations, observers: Mapping[str, Sequence[federations.Observer]], num_targets: int
) -> list[np.ndarray]:
    """What attacks learn for, by visit: all views, half of the time those of single parties."""
    orders = known.orders(known.scored)[: 1 if known.alike else num_targets]

    def masks_of(many: bool) -> list[np.ndarray]:
        chosen = [observer for view, group in observers.items() if is_many(view) == many for observer in group]
        chosen = [observer for observer in chosen if observer.layout.ordered]
        return [observer.masks[index][order] for index, order in enumerate(orders) for observer in chosen]

    single, several = masks_of(False), masks_of(True)
    everything = [np.ones(orders.shape[1], bool)]  # where nobody knows the order
    return single * max(1, len(several) // max(1, len(single))) + several or everything


def _kind(layout: views.Layout) -> tuple[int, bool]:
    """What layouts have in common for which the same attack is made."""
    return len(layout.insiders), layout.answered


def _setup_without_order(
    known: federations.Federations, observers: Sequence[federations.Observer], arrays: evidence.Evidence
) -> contract.Setup:
    """What attacks are made for where as many insiders do not know the order."""
    sights = [known.sights(observer.masks, observer.layout) for observer in observers]
    masks = [mask for sight in sights for mask in np.asarray(sight.mask)[: arrays.phi.shape[0]]]
    before, visits = (np.asarray(leaf)[0] for leaf in (sights[0].before, sights[0].visits))
    return _make_setup(arrays, masks, before, visits)


def _make_setup(
    arrays: evidence.Evidence, masks: Sequence[np.ndarray], before: np.ndarray, visits: np.ndarray
) -> contract.Setup:
    """What attacks are made for, on the references of the evidence."""
    owners = np.zeros((1, 0), np.int32) if arrays.references is None else np.asarray(arrays.references.owners)
    each = [contract.Most.of(owners[:, rows]) for rows in _blocks(arrays)]
    most = contract.Most(max(of_block.held for of_block in each), max(of_block.outside for of_block in each))
    return contract.Setup(arrays.nodes, masks, before, visits, most)


def _blocks(arrays: evidence.Evidence) -> list[blocks.Rows]:
    """The rows of the records that are compared with references at a time."""
    if arrays.references is None:
        return [slice(None)]
    num_references, num_snapshots, num_records = arrays.references.phi.shape
    return blocks.cut(num_records, most=max(1, blocks.MOST_FLOATS // (num_references * num_snapshots)))
