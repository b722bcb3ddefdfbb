"""Given a record of the federation: which node held it?

Source: Hu et al. (2021), source inference: the node whose model has the smallest loss on the record. Departure: models
of a sequence differ by all that came before, so that the attacks that read the step of a visit, or compare whole
trajectories with references, name a node too, the one that they hold most likely.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fedmia_jax.attacks import delta, signals
from fedmia_jax.audit import federations, scoring

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


def attribute(scorer: scoring.Scorer, way: str) -> Iterator[dict[str, Any]]:
    """Yields confusion matrices: which node is named for the members of each, by view, all targets together.

    Only views that show something of every node can name each.

    Args:
      scorer: the evidence, the views and the attacks with references.
      way: `SOURCE_LOSS`, or an attack; one that names no node yields nothing.
    """
    rank = _ranker(scorer, way)
    if rank is None:
        return
    owners, nodes = jnp.asarray(scorer.arrays.owners), scorer.nodes
    everyone = {view: group[0] for view, group in scorer.observers.items() if nodes in group[0].attacked}
    for view, observer in everyone.items():
        scores = rank(observer)
        if not np.isfinite(np.asarray(scores)).all():
            continue
        counts = np.zeros((nodes, nodes), np.int64)
        for of_target, owner in zip(scores, owners, strict=True):
            counts += confusion(of_target, owner, nodes=nodes)
        for true, named in np.ndindex(nodes, nodes):
            count = int(counts[true, named])
            yield {"way": way, "view": view, "true": f"N{true + 1}", "named": f"N{named + 1}", "count": count}


def _ranker(scorer: scoring.Scorer, way: str) -> Callable[[federations.Observer], jax.Array] | None:
    """`rank(observer) -> f32[S, N, M]`, how likely each node is to have held a record; None where nothing names it."""
    num = scorer.num_targets

    def by_loss(observer: federations.Observer) -> jax.Array:
        seen = zip(scorer.arrays.phi, scorer.known.scored, observer.masks, strict=False)
        return jnp.stack(
            [
                source_losses(jnp.asarray(phi), jnp.asarray(mask), jnp.asarray(schedule.visits))
                for phi, schedule, mask in seen
            ]
        )

    def by_attack(observer: federations.Observer) -> jax.Array:
        score = scoring.score_nodes(scorer, way)
        return score(scorer.signal(way)[:num], scoring.sights(scorer, observer, num))[:, : scorer.nodes]

    if way == SOURCE_LOSS:
        return by_loss
    return by_attack if way in scorer.compared and scorer.compared[way].names_nodes else None
