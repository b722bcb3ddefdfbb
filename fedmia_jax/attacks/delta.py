"""What one visit does to a record: the model just after a node trained, against the model just before.

Source: Salem et al. (2020) (what an update tells of the records behind it); Jagielski et al. (2022) (two snapshots:
difference and ratio of losses). Departure: mean over all visits to the node that the view brackets; for the union of
all nodes the largest over nodes.
"""

import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import adversary, config, signals
from fedmia_jax.attacks import contract

KINDS = {
    "delta_loss": lambda phi: -signals.loss(phi),
    "delta_phi": lambda phi: phi,
    "delta_ratio": lambda phi: -jnp.log(signals.loss(phi) + 1e-12),  # the difference of logs is the log of the ratio
}


def steps(values: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What each hand-off adds, and whether it is seen: f32[T, M] and bool[T] -> f32[T, M] and bool[T].

    The first snapshot has none before it, and is never seen as a step.
    """
    added = values - jnp.roll(values, 1, axis=0)
    seen = mask & jnp.roll(mask, 1) & (jnp.arange(len(mask)) > 0)
    return added, seen


def by_node(values: jax.Array, mask: jax.Array, *, nodes: int) -> jax.Array:
    """Mean step over the seen visits to each node: f32[N, M], -inf for a node without one."""
    return mean_by_node(*steps(values, mask), nodes=nodes)


def mean_by_node(values: jax.Array, seen: jax.Array, *, nodes: int) -> jax.Array:
    """Mean over what is seen at the hand-offs of each node: f32[T, M], bool[T] -> f32[N, M], -inf where nothing is."""
    weights = seen.astype(values.dtype).reshape(-1, nodes)
    total = jnp.einsum("cnm,cn->nm", values.reshape(-1, nodes, values.shape[1]), weights)
    count = weights.sum(axis=0)[:, None]
    return jnp.where(count > 0, total / jnp.maximum(count, 1), -jnp.inf)


def make_attack(settings: config.Attack, *, kind: str, nodes: int) -> contract.Comparison:
    """Builds the difference over a visit.

    Args:
      settings: unused.
      kind: name in `KINDS`.
      nodes: N.
    """
    del settings

    def score(node, phi, mask):
        return by_node(KINDS[kind](phi), mask, nodes=nodes)[node]

    def suffices(mask: np.ndarray, node: int) -> bool:
        return len(adversary.visits(mask, node, nodes=nodes)) > 0

    return contract.Comparison(no_fit, lambda fitted, node: node, score, combine=largest, suffices=suffices)


def largest(scores: jax.Array) -> jax.Array:
    """The union's score is that of the node that shows most: f32[N, M] -> f32[M]."""
    return scores.max(axis=0)


def no_fit(key: jax.Array, references: contract.References) -> tuple:
    """Nothing is learnt."""
    del key, references
    return ()
