"""A test without shadows: what a node's visit does to a record, against what the other nodes' visits do.

Source: Zhu et al. (2024), FedMIA: the updates of the other clients of a round tell how a non-member's signal is
distributed, and the target's is tested against that, one-sided. Departure: in a sequence nobody trains side by side, so
the signal is the step of phi over a visit, and the round is a cycle; the test's z-values are averaged over cycles, and
their spread is pooled over records, since a cycle has few nodes. For the union of all nodes, the largest over nodes.
"""

import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import adversary, config
from fedmia_jax.attacks import contract, delta

LEAST_PEERS = 2


def by_node(phi: jax.Array, mask: jax.Array, *, nodes: int) -> jax.Array:
    """Mean z-value of each node's steps: f32[N, M], -inf for a node without a testable visit."""
    added, seen = delta.steps(phi, mask)
    added = added.reshape(-1, nodes, phi.shape[1])  # [C, N, M]
    seen = seen.astype(phi.dtype).reshape(-1, nodes)  # [C, N]
    others = (1 - jnp.eye(nodes)) * seen[:, None]  # [C, N, N], who stands beside a node
    count = others.sum(axis=2)[..., None]
    mean = jnp.einsum("ckm,cnk->cnm", added, others) / jnp.maximum(count, 1)
    square = jnp.einsum("ckm,cnk->cnm", added**2, others) / jnp.maximum(count, 1)
    spread = jnp.sqrt(jnp.maximum((square - mean**2).mean(axis=2, keepdims=True), 1e-6))
    tested = seen * (count[..., 0] >= LEAST_PEERS)  # [C, N]
    return delta.mean_by_node(((added - mean) / spread).reshape(phi.shape), tested.reshape(-1), nodes=nodes)


def make_attack(settings: config.Attack, *, nodes: int) -> contract.Comparison:
    """Builds the test against the other nodes.

    Args:
      settings: unused.
      nodes: N.
    """
    del settings

    def score(node, phi, mask):
        return by_node(phi, mask, nodes=nodes)[node]

    def suffices(mask: np.ndarray, node: int) -> bool:
        shown = [{after // nodes for after in adversary.visits(mask, one, nodes=nodes)} for one in range(nodes)]
        return any(sum(cycle in other for other in shown) > LEAST_PEERS for cycle in shown[node])

    return contract.Comparison(delta.no_fit, lambda fitted, node: node, score, combine=delta.largest, suffices=suffices)
