"""What every party learns: all attacks under all views, on the signals of targets and references.

Nothing is learnt here but what an attack fits on the references; for the letters S and F see `scorers.py`.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import compilation
from fedmia_jax.attacks import contract, thresholds
from fedmia_jax.audit import evidence, federations, rows, scorers, views

MOST_BYTES = 2**28  # of the scores of a lot of parties


def score_on_one_model(scorer: scorers.Scorer, name: str) -> Iterator[scorers.Scored]:
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
        yield scorers.Scored(name, view, observer.name, node, read, read, scores, limits, held_out, answered)


def score_with_references(scorer: scorers.Scorer, name: str) -> Iterator[scorers.Scored]:
    """Yields an attack with references: by each snapshot, and under every view that shows what it needs.

    An attack on one snapshot reads the one that suits it best, see `Schedule.freshest`.
    """
    attack = scorer.compared[name]
    if attack.combine is not None:
        yield from _together(scorer, name)
        return
    score = compilation.jit(lambda ready, phi: jax.lax.map(lambda each: attack.score(ready, each), phi))
    prepare = compilation.jit(attack.prepare)
    for layout in scorer.layouts:
        observed = [seen for seen in scorer.observed() if seen[1].layout == layout]
        once = list(_fit_blocks(scorer, name, layout)) if len(scorer.row_blocks) == 1 else None
        for node in range(scorer.nodes + 1):
            by_block = [
                np.asarray(score(prepare(fitted, jnp.int32(node)), phi))
                for fitted, phi in once or _fit_blocks(scorer, name, layout)
            ]
            observers = [(view, observer) for view, observer, attacked in observed if attacked == node]
            yield from _alone(scorer, name, node, observers, _joined(scorer, by_block), layout)


def score_nodes(
    scorer: scorers.Scorer, name: str, parties: Sequence[tuple[federations.Observer, int]]
) -> Iterator[np.ndarray]:
    """Yields what some parties say by an attack on several snapshots, f32[F, N + 1, M], the union last.

    Args:
      scorer: the evidence and the attacks with references.
      name: of the attack.
      parties: each with F, the first federations that it says something of.
    """
    nbytes = [4 * count * (scorer.nodes + 1) * scorer.arrays.phi.shape[2] for _, count in parties]
    lots = np.cumsum(nbytes) // MOST_BYTES if len(scorer.row_blocks) > 1 else np.arange(len(parties))
    for lot in np.unique(lots):  # what is fitted on several blocks serves a lot of parties, and is forgotten
        yield from _score_lot(
            scorer, name, [party for party, of_party in zip(parties, lots, strict=True) if of_party == lot]
        )


def _score_lot(
    scorer: scorers.Scorer, name: str, parties: Sequence[tuple[federations.Observer, int]]
) -> list[np.ndarray]:
    """What some parties say, f32[F, N + 1, M] each."""
    by_party: list[list[np.ndarray]] = [[] for _ in parties]
    for layout in dict.fromkeys(observer.layout for observer, _ in parties):
        alike = scorer.known.alike and layout.ordered
        score = _over_nodes(scorer.attack(name, layout), alike=alike)
        asking = [index for index, (observer, _) in enumerate(parties) if observer.layout == layout]
        for ready, phi in _ready_blocks(scorer, name, layout):
            for index in asking:
                observer, count = parties[index]
                by_party[index].append(np.asarray(score(ready, phi[:count], _sights(scorer, observer, count))))
    return [_joined(scorer, by_block) for by_block in by_party]


def _ready_blocks(scorer: scorers.Scorer, name: str, layout: views.Layout) -> Iterator[tuple[list[Any], jax.Array]]:
    """An attack on several snapshots as it is ready for each node, and what it scores, block by block."""
    made, prepare = scorer.fitted.setdefault(name, {}), compilation.jit(scorer.attack(name, layout).prepare)
    if layout in made:
        yield made[layout]
        return
    for fitted, phi in _fit_blocks(scorer, name, layout):
        ready = [prepare(fitted, jnp.int32(node)) for node in range(scorer.nodes)], phi
        if len(scorer.row_blocks) == 1:
            made[layout] = ready
        yield ready


def _fit_blocks(scorer: scorers.Scorer, name: str, layout: views.Layout) -> Iterator[tuple[Any, jax.Array]]:
    """An attack as it is fitted on the references, and what it scores, block by block."""
    fit = compilation.jit(scorer.attack(name, layout).fit)
    for block in scorer.row_blocks:
        read = scorer.read(name, layout, block)
        yield fit(scorer.key, read.references), read.phi


def _joined(scorer: scorers.Scorer, by_block: Sequence[np.ndarray]) -> np.ndarray:
    """Scores [..., M] of all records from those of blocks."""
    if len(by_block) == 1:
        return by_block[0]
    joined = np.empty((*by_block[0].shape[:-1], scorer.arrays.phi.shape[2]), by_block[0].dtype)
    for block, scores in zip(scorer.row_blocks, by_block, strict=True):
        joined[..., block] = scores
    return joined


def _sights(scorer: scorers.Scorer, observer: federations.Observer, count: int) -> contract.Sight:
    """What a party sees of the first federations, with a leading axis F where these go in different orders."""
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

    return compilation.jit(score)


def _freshest(scorer: scorers.Scorer, observer: federations.Observer, node: int) -> np.ndarray:
    """The snapshot that suits an attack on one snapshot best, i64[F]."""
    schedules = scorer.known.known(observer.layout)
    return np.array(
        [schedule.freshest(mask, node) for schedule, mask in zip(schedules, observer.masks, strict=True)], np.int64
    )


def _alone(
    scorer: scorers.Scorer,
    name: str,
    node: int,
    observers: Sequence[tuple[str, federations.Observer]],
    scores: np.ndarray,
    layout: views.Layout,
) -> Iterator[scorers.Scored]:
    """Every snapshot by itself where the order is known, and the one that each view reads; scores by the layout."""
    num = scorer.num_targets
    targets = np.arange(num)
    placed = scorer.known.places(layout, scorer.known.scored)[:num]  # snapshots, [S, P]
    limits = np.array([_threshold(scorer, node, scores[num:, place]) for place in range(scores.shape[1])])
    for snapshot in range(scores.shape[1]) if layout.ordered else ():
        read, where = np.full(num, snapshot), (placed == snapshot).argmax(axis=1)
        yield scorers.Scored(
            name, rows.SNAPSHOT, rows.SNAPSHOT, node, read, read, scores[targets, where], limits[where]
        )
    for view, observer in observers:
        read = _freshest(scorer, observer, node)[:num]
        where = (placed == read[:, None]).argmax(axis=1)
        of_view = scores[targets, where]
        yield scorers.Scored(
            name, view, observer.name, node, read, read, of_view, limits[where], answered=layout.answered
        )


def _together(scorer: scorers.Scorer, name: str) -> Iterator[scorers.Scored]:
    """Every view and node that it suffices for; coalitions by the dozen go without a threshold."""
    num, asking = scorer.num_targets, []
    for view, observers in scorer.observers.items():
        many = scorers.is_many(view)
        if many and not scorer.compared[name].by_the_dozen:
            continue
        attacked = [(view, observer, _sufficient(scorer, name, observer)) for observer in observers]
        asking += [party for party in attacked if party[2]]
    counts = [num if scorers.is_many(view) else len(scorer.known.scored) for view, _, _ in asking]
    parties = [(observer, count) for (_, observer, _), count in zip(asking, counts, strict=True)]
    for (view, observer, enough), scores in zip(asking, score_nodes(scorer, name, parties), strict=True):
        last = np.array([np.flatnonzero(mask)[-1] for mask in observer.masks[:num]])
        for node in enough:
            limit = float("nan") if scorers.is_many(view) else _threshold(scorer, node, scores[num:, node])
            limits, answered = np.full(num, limit), observer.layout.answered
            yield scorers.Scored(
                name, view, observer.name, node, None, last, scores[:num, node], limits, answered=answered
            )


def _sufficient(scorer: scorers.Scorer, name: str, observer: federations.Observer) -> list[int]:
    """The nodes that a party attacks and of which it sees enough, at every target and pseudo-target."""
    suffices, enough = scorer.compared[name].suffices, set(observer.attacked)
    pairs = list(zip(scorer.known.known(observer.layout), observer.masks, strict=True))
    for schedule, mask in pairs[:1] if scorer.known.alike else pairs:
        shown = [suffices(schedule, mask, node) for node in range(scorer.nodes)]
        enough &= {node for node, shows in enumerate([*shown, any(shown)]) if shows}
    return [node for node in observer.attacked if node in enough]


def _threshold(scorer: scorers.Scorer, node: int, scores: np.ndarray) -> float:
    """The best threshold on references that stand in for a target: [pseudo-targets, M]."""
    assert scorer.arrays.references is not None
    owners = np.asarray(scorer.arrays.references.owners)[-len(scores) :]
    members = evidence.members_of(owners, node, nodes=scorer.nodes)
    return thresholds.best_overall(scores.reshape(-1), members.reshape(-1), (owners < 0).reshape(-1))
