"""Given a record of the federation: which node held it?

Source: Hu et al. (2021), source inference: the node whose model has the smallest loss on the record. Departure: models
of a sequence differ by all that came before, so that the step of a visit, `delta.py`, and the attacks that compare
with references name a node too, the one that they hold most likely.
"""

import jax
import jax.numpy as jnp

from fedmia_jax import signals
from fedmia_jax.attacks import delta


def source_losses(phi: jax.Array, mask: jax.Array, *, nodes: int) -> jax.Array:
    """Minus the mean loss at the seen hand-offs of each node: f32[T, M], bool[T] -> f32[N, M], -inf where none is."""
    return delta.mean_by_node(-signals.loss(phi), mask, nodes=nodes)


def confusion(scores: jax.Array, owners: jax.Array, *, nodes: int) -> jax.Array:
    """How often each node is named for the records of each: f32[N, M], i32[M] -> i32[N, N], true node first.

    Args:
      scores: of each node, the highest is named, the first of equal ones.
      owners: index of the node, below 0 for a record of none, which does not count.
      nodes: N.
    """
    named = jnp.argmax(scores, axis=0)
    true = jax.nn.one_hot(owners, nodes, dtype=jnp.int32)  # zero for owners below 0
    return true.T @ jax.nn.one_hot(named, nodes, dtype=jnp.int32)
