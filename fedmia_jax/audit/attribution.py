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


def attribute(scorer: scoring.Scorer) -> Iterator[dict[str, Any]]:
    """Yields confusion matrices: which node is named for the members of each, by way and view, all targets together.

    The ways are `source_loss` and, among the attacks of the audit, those that name a node. Only views that show
    something of every node can name each.
    """
    owners, nodes = jnp.asarray(scorer.arrays.owners), scorer.nodes
    everyone = {view: group[0] for view, group in scorer.observers.items() if nodes in group[0].attacked}
    for way, rank in _rankers(scorer).items():
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


def _rankers(scorer: scoring.Scorer) -> dict[str, Callable[[federations.Observer], jax.Array]]:
    """`rank(observer) -> f32[S, N, M]` by way, how likely each node is to have held a record."""
    num = scorer.num_targets

    def by_loss(observer: federations.Observer) -> jax.Array:
        seen = zip(scorer.arrays.phi, scorer.known.scored, observer.masks, strict=False)
        return jnp.stack(
            [
                source_losses(jnp.asarray(phi), jnp.asarray(mask), jnp.asarray(schedule.visits))
                for phi, schedule, mask in seen
            ]
        )

    def by_attack(name: str) -> Callable[[federations.Observer], jax.Array]:
        def rank(observer: federations.Observer) -> jax.Array:
            score = scoring.score_nodes(scorer, name)
            return score(scorer.phi[:num], scoring.sights(scorer, observer, num))[:, : scorer.nodes]

        return rank

    naming = [name for name, attack in scorer.compared.items() if attack.names_nodes]
    return {SOURCE_LOSS: by_loss} | {name: by_attack(name) for name in naming}
