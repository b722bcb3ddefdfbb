"""Given a record of the federation: which node held it?

Source: Hu et al. (2021), source inference: the node whose model has the smallest loss on the record. Departure: models
of a sequence differ by all that came before, so that the attacks that read the step of a visit, or compare whole
trajectories with references, name a node too, the one that they hold most likely.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fedmia_jax.attacks import delta, signals
from fedmia_jax.audit import evidence, federations, scorers, scoring

SOURCE_LOSS = "source_loss"  # needs no reference


def source_losses(phi: Float[Array, "T M"], mask: Bool[Array, "T"], visits: Int[Array, "C N"]) -> Float[Array, "N M"]:
    """Returns minus the mean loss at the seen hand-offs of each node, -inf where none is.

    Args:
      phi: the signal at every snapshot.
      mask: the snapshots seen.
      visits: the snapshot that each node handed on in each cycle, -1 for none.
    """
    return delta.mean_by_node(-signals.loss(phi), mask, visits)


def confusion(scores: Float[Array, "N M"], owners: Int[Array, "M"], *, nodes: int) -> Int[Array, "N N"]:
    """Returns how often each node is named for the records of each, true node first.

    Args:
      scores: of each node, the highest is named, the first of equal ones.
      owners: index of the node, below 0 for a record of none, which does not count.
      nodes: N.
    """
    named = jnp.argmax(scores, axis=0)
    true = jax.nn.one_hot(owners, nodes, dtype=jnp.int32)  # zero for owners below 0
    return true.T @ jax.nn.one_hot(named, nodes, dtype=jnp.int32)


def attribute(scorer: scorers.Scorer, way: str) -> Iterator[dict[str, Any]]:
    """Yields confusion matrices: which node is named for the members of each, by view, parties and targets together.

    A party names one of the nodes that it attacks, for the members of those; a view counts where each of its parties
    has something on all of them.

    Args:
      scorer: the evidence, the views and the attacks with references.
      way: `SOURCE_LOSS`, or an attack; one that names no node yields nothing.
    """
    rank = _ranker(scorer, way)
    if rank is None:
        return
    nodes = scorer.nodes
    for view, observers in scorer.observers.items():
        candidates = len([node for node in observers[0].attacked if node < nodes])
        if scorers.is_many(view) or candidates < min(2, nodes):
            continue
        counts = _count(scorer, rank, observers)
        if counts is None:
            continue
        head = {"way": way, "view": view, "parties": len(observers), "candidates": candidates}
        for true, named in np.ndindex(nodes, nodes):
            yield head | {"true": f"N{true + 1}", "named": f"N{named + 1}", "count": int(counts[true, named])}


def _count(
    scorer: scorers.Scorer,
    rank: Callable[[Sequence[federations.Observer]], Iterator[np.ndarray]],
    observers: Sequence[federations.Observer],
) -> np.ndarray | None:
    """Confusion of some parties, i64[N, N]; None where one of them has nothing on a node that it attacks."""
    owners, nodes = np.asarray(scorer.arrays.owners), scorer.nodes
    counts = np.zeros((nodes, nodes), np.int64)
    for observer, scores in zip(observers, rank(observers), strict=True):
        attacked = np.isin(np.arange(nodes), observer.attacked)
        if not np.isfinite(scores[:, attacked]).all():
            return None
        candidates = jnp.asarray(np.where(attacked[:, None], scores, -np.inf))
        counted = np.where(np.isin(owners, np.flatnonzero(attacked)), owners, evidence.OUTSIDE)
        for of_target, owner in zip(candidates, counted, strict=True):
            counts += np.asarray(confusion(of_target, jnp.asarray(owner), nodes=nodes))
    return counts


def _ranker(
    scorer: scorers.Scorer, way: str
) -> Callable[[Sequence[federations.Observer]], Iterator[np.ndarray]] | None:
    """`rank(observers)` yields how likely each node is to have held a record, f32[S, N, M]; None if none is named."""

    def by_loss(observers: Sequence[federations.Observer]) -> Iterator[np.ndarray]:
        for observer in observers:
            seen = zip(scorer.arrays.phi, scorer.known.known(observer.layout), observer.masks, strict=False)
            losses = [
                source_losses(jnp.asarray(phi), jnp.asarray(mask), jnp.asarray(schedule.visits))
                for phi, schedule, mask in seen
            ]
            yield np.stack(losses)

    def by_attack(observers: Sequence[federations.Observer]) -> Iterator[np.ndarray]:
        parties = [(observer, scorer.num_targets) for observer in observers]
        for scores in scoring.score_nodes(scorer, way, parties):
            yield scores[:, : scorer.nodes]

    if way == SOURCE_LOSS:
        return by_loss
    return by_attack if way in scorer.compared and scorer.compared[way].names_nodes else None
