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
    for layout in scorer.layouts:
        fitted, prepare = fit(scorer, name, layout), compilation.jit(attack.prepare)
        observed = [seen for seen in scorer.observed() if seen[1].layout == layout]
        for node in range(scorer.nodes + 1):
            scores = np.asarray(score(prepare(fitted, jnp.int32(node)), scorer.signal(name, layout)))
            observers = [(view, observer) for view, observer, attacked in observed if attacked == node]
            yield from _alone(scorer, name, node, observers, scores, layout)


def fit(scorer: scorers.Scorer, name: str, layout: views.Layout) -> Any:
    """Fits an attack on the references."""
    return compilation.jit(scorer.attack(name, layout).fit)(scorer.key, scorer.references(name, layout))


def score_nodes(scorer: scorers.Scorer, name: str, layout: views.Layout) -> scorers.NodeScores:
    """Returns `score(phi [F, P, M], Sight) -> f32[F, N + 1, M]` of an attack on several snapshots, fitted once.

    The leaves of what is seen have a leading axis F where federations go in different orders.
    """
    made = scorer.fitted.setdefault(name, {})
    if layout not in made:
        attack, fitted = scorer.attack(name, layout), fit(scorer, name, layout)
        prepare, alike = compilation.jit(attack.prepare), scorer.known.alike and layout.ordered
        ready = [prepare(fitted, jnp.int32(node)) for node in range(scorer.nodes)]
        made[layout] = functools.partial(_over_nodes(attack, alike=alike), ready)
    return made[layout]


def sights(scorer: scorers.Scorer, observer: federations.Observer, count: int) -> contract.Sight:
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
    num = scorer.num_targets
    for view, observers in scorer.observers.items():
        many = scorers.is_many(view)
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
