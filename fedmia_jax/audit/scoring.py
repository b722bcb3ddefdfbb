"""What every party learns: all attacks under all views, on the signals of targets and references.

Nothing is learnt here but what an attack fits on the references. The targets share the scored records and the
references, and are the axis S; F counts the targets and behind them the pseudo-targets, references that no attack is
fitted on and that thresholds are chosen on.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fedmia_jax import attacks
from fedmia_jax.attacks import contract, thresholds
from fedmia_jax.audit import correction, evidence, federations, rows, views

NodeScores = Callable[[Any, Any], jax.Array]  # (phi f32[F, T, M], Sight) -> f32[F, N + 1, M]


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
      fitted: what `score_nodes` has made, by attack and layout.
      placed: what `references` and `signal` have made, by the name of the signal and the layout.
    """

    arrays: evidence.Evidence
    known: federations.Federations
    observers: Mapping[str, Sequence[federations.Observer]]
    compared: Mapping[str, contract.ReferenceAttack]
    unordered: Mapping[tuple[int, bool], Mapping[str, contract.ReferenceAttack]]
    reads: Mapping[str, str]
    key: jax.Array
    claim: correction.Claim
    fitted: dict[str, dict[views.Layout, NodeScores]] = dataclasses.field(default_factory=dict)
    placed: dict[tuple[str, views.Layout], tuple[contract.KnownRecords, jax.Array]] = dataclasses.field(
        default_factory=dict
    )

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

    def references(self, attack: str, layout: views.Layout = views.BY_VISIT) -> contract.KnownRecords:
        """Returns what the references that an attack is fitted on say by its signal, in a layout."""
        return self._placed(self.reads[attack], layout)[0]

    def signal(self, attack: str, layout: views.Layout = views.BY_VISIT) -> Float[jax.Array, "F P M"]:
        """Returns what an attack reads of targets and pseudo-targets, in a layout."""
        return self._placed(self.reads[attack], layout)[1]

    def _placed(self, name: str, layout: views.Layout) -> tuple[contract.KnownRecords, jax.Array]:
        """One signal of the references to fit on, and of targets and pseudo-targets."""
        if (name, layout) not in self.placed:
            known, arrays = self.known, self.arrays.answers if layout.answered else self.arrays
            assert arrays is not None
            assert arrays.references is not None
            fitted, pseudo = np.split(evidence.signal_of(arrays.references, name), [-evidence.PSEUDO_TARGETS])
            scored = jnp.concatenate([jnp.asarray(evidence.signal_of(arrays, name)), jnp.asarray(pseudo)])
            moved = [
                jnp.asarray(phi) if layout.answered else federations.reorder(phi, known.places(layout, schedules))
                for phi, schedules in ((jnp.asarray(fitted), known.fitted), (scored, known.scored))
            ]
            owners = jnp.asarray(arrays.references.owners[: -evidence.PSEUDO_TARGETS])
            self.placed[name, layout] = (contract.KnownRecords(moved[0], owners), moved[1])
        return self.placed[name, layout]

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
        setup = contract.Setup(arrays.nodes, masks, np.asarray(sight.before), np.asarray(sight.visits))
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
    return contract.Setup(arrays.nodes, masks, before, visits)


def score_on_one_model(scorer: Scorer, name: str) -> Iterator[Scored]:
    """Yields an attack on one model, at the snapshot of each view that suits it best."""
    targets = np.arange(scorer.num_targets)
    for view, observer, node in scorer.observed():
        answered = observer.layout.answered
        arrays = scorer.arrays.answers if answered else scorer.arrays
        assert arrays is not None
        given = arrays.model_scores[name]
        read = _freshest(scorer, observer, node)[: scorer.num_targets]
        at = (targets, np.zeros_like(read) if answered else read)
        held_out = None if given.held_out is None else np.asarray(given.held_out)[at]
        scores, limits = np.asarray(given.scores)[at], np.asarray(given.thresholds)[at]
        yield Scored(name, view, observer.name, node, read, read, scores, limits, held_out, answered)


def score_with_references(scorer: Scorer, name: str) -> Iterator[Scored]:
    """Yields an attack with references: by each snapshot, and under every view that shows what it needs.

    An attack on one snapshot reads the one that suits it best, see `Schedule.freshest`.
    """
    attack = scorer.compared[name]
    if attack.combine is not None:
        yield from _together(scorer, name)
        return
    score = jax.jit(lambda ready, phi: jax.lax.map(lambda each: attack.score(ready, each), phi))
    for layout in scorer.layouts:
        fitted, prepare = fit(scorer, name, layout), jax.jit(attack.prepare)
        observed = [seen for seen in scorer.observed() if seen[1].layout == layout]
        for node in range(scorer.nodes + 1):
            scores = np.asarray(score(prepare(fitted, jnp.int32(node)), scorer.signal(name, layout)))
            observers = [(view, observer) for view, observer, attacked in observed if attacked == node]
            yield from _alone(scorer, name, node, observers, scores, layout)


def fit(scorer: Scorer, name: str, layout: views.Layout) -> Any:
    """Fits an attack on the references."""
    return jax.jit(scorer.attack(name, layout).fit)(scorer.key, scorer.references(name, layout))


def score_nodes(scorer: Scorer, name: str, layout: views.Layout) -> NodeScores:
    """Returns `score(phi [F, P, M], Sight) -> f32[F, N + 1, M]` of an attack on several snapshots, fitted once.

    The leaves of what is seen have a leading axis F where federations go in different orders.
    """
    made = scorer.fitted.setdefault(name, {})
    if layout not in made:
        attack, fitted = scorer.attack(name, layout), fit(scorer, name, layout)
        prepare, alike = jax.jit(attack.prepare), scorer.known.alike and layout.ordered
        ready = [prepare(fitted, jnp.int32(node)) for node in range(scorer.nodes)]
        made[layout] = functools.partial(_over_nodes(attack, alike=alike), ready)
    return made[layout]


def sights(scorer: Scorer, observer: federations.Observer, count: int) -> contract.Sight:
    """Returns what a party sees of the first federations, as `score_nodes` takes it."""
    if scorer.known.alike and observer.layout.ordered:
        schedule = scorer.known.scored[0]
        return federations.make_sight(schedule, observer.masks[0], np.arange(len(schedule)))
    return jax.tree.map(lambda leaf: leaf[:count], scorer.known.sights(observer.masks, observer.layout))


@functools.lru_cache(maxsize=8)
def _over_nodes(attack: contract.ReferenceAttack, *, alike: bool) -> Callable[..., jax.Array]:
    """`score(ready, phi, Sight) -> f32[F, N + 1, M]`, the union last; what nodes share is computed once."""

    def score_one(ready: Any, phi: jax.Array, sight: contract.Sight) -> jax.Array:
        scores = jnp.stack([attack.score(each, phi, sight) for each in ready])
        assert attack.combine is not None
        return jnp.concatenate([scores, attack.combine(scores)[None]])

    def score(ready: Any, phi: jax.Array, sight: contract.Sight) -> jax.Array:
        if alike:
            return jax.lax.map(lambda each: score_one(ready, each, sight), phi)
        return jax.lax.map(lambda each: score_one(ready, *each), (phi, sight))

    return jax.jit(score)


def _freshest(scorer: Scorer, observer: federations.Observer, node: int) -> np.ndarray:
    """The snapshot that suits an attack on one snapshot best, i64[F]."""
    schedules = scorer.known.known(observer.layout)
    return np.array(
        [schedule.freshest(mask, node) for schedule, mask in zip(schedules, observer.masks, strict=True)], np.int64
    )


def _alone(
    scorer: Scorer,
    name: str,
    node: int,
    observers: Sequence[tuple[str, federations.Observer]],
    scores: np.ndarray,
    layout: views.Layout,
) -> Iterator[Scored]:
    """Every snapshot by itself where the order is known, and the one that each view reads; scores by the layout."""
    num = scorer.num_targets
    targets = np.arange(num)
    placed = scorer.known.places(layout, scorer.known.scored)[:num]  # snapshots, [S, P]
    limits = np.array([_threshold(scorer, node, scores[num:, place]) for place in range(scores.shape[1])])
    for snapshot in range(scores.shape[1]) if layout.ordered else ():
        read, where = np.full(num, snapshot), (placed == snapshot).argmax(axis=1)
        yield Scored(name, rows.SNAPSHOT, rows.SNAPSHOT, node, read, read, scores[targets, where], limits[where])
    for view, observer in observers:
        read = _freshest(scorer, observer, node)[:num]
        where = (placed == read[:, None]).argmax(axis=1)
        of_view = scores[targets, where]
        yield Scored(name, view, observer.name, node, read, read, of_view, limits[where], answered=layout.answered)


def _together(scorer: Scorer, name: str) -> Iterator[Scored]:
    """Every view and node that it suffices for; coalitions by the dozen go without a threshold."""
    num = scorer.num_targets
    for view, observers in scorer.observers.items():
        many = is_many(view)
        if many and not scorer.compared[name].by_the_dozen:
            continue
        for observer in observers:
            enough = _sufficient(scorer, name, observer)
            if not enough:
                continue
            count, score = num if many else len(scorer.known.scored), score_nodes(scorer, name, observer.layout)
            signal = scorer.signal(name, observer.layout)[:count]
            scores = np.asarray(score(signal, sights(scorer, observer, count)))
            last = np.array([np.flatnonzero(mask)[-1] for mask in observer.masks[:num]])
            for node in enough:
                limit = float("nan") if many else _threshold(scorer, node, scores[num:, node])
                limits, answered = np.full(num, limit), observer.layout.answered
                yield Scored(name, view, observer.name, node, None, last, scores[:num, node], limits, answered=answered)


def _sufficient(scorer: Scorer, name: str, observer: federations.Observer) -> list[int]:
    """The nodes that a party attacks and of which it sees enough, at every target and pseudo-target."""
    suffices, enough = scorer.compared[name].suffices, set(observer.attacked)
    pairs = list(zip(scorer.known.known(observer.layout), observer.masks, strict=True))
    for schedule, mask in pairs[:1] if scorer.known.alike else pairs:
        shown = [suffices(schedule, mask, node) for node in range(scorer.nodes)]
        enough &= {node for node, shows in enumerate([*shown, any(shown)]) if shows}
    return [node for node in observer.attacked if node in enough]


def _threshold(scorer: Scorer, node: int, scores: np.ndarray) -> float:
    """The best threshold on references that stand in for a target: [pseudo-targets, M]."""
    assert scorer.arrays.references is not None
    owners = np.asarray(scorer.arrays.references.owners)[-len(scores) :]
    members = evidence.members_of(owners, node, nodes=scorer.nodes)
    return thresholds.best_overall(scores.reshape(-1), members.reshape(-1), (owners < 0).reshape(-1))
