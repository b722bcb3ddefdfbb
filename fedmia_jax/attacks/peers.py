"""A test without shadows: what a node's visit does to a record, against what the other nodes' visits do.

Source: Zhu et al. (2024), FedMIA: the updates of the other clients of a round tell how a non-member's signal is
distributed, and the target's is tested against that, one-sided. Departure: in a sequence nobody trains side by side, so
the signal is the step of phi over a visit, and the round is a cycle; the test's z-values are averaged over cycles, and
their spread is pooled over records, since a cycle has few nodes. For the union of all nodes, the largest over nodes.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fedmia_jax import options
from fedmia_jax.attacks import contract, delta
from fedmia_jax.schedule import Schedule

LEAST_PEERS = 2


def by_node(phi: Float[Array, "T M"], sight: contract.Sight) -> Float[Array, "N M"]:
    """Returns the mean z-value of each node's steps; -inf for a node without a testable visit."""
    added, seen = delta.at_visits(*delta.steps(phi, sight), sight.visits)  # [C, N, M], [C, N]
    others = (1 - jnp.eye(seen.shape[1])) * seen[:, None]  # [C, N, N], who stands beside a node
    count = others.sum(axis=2)[..., None]
    mean = jnp.einsum("ckm,cnk->cnm", added, others) / jnp.maximum(count, 1)
    square = jnp.einsum("ckm,cnk->cnm", added**2, others) / jnp.maximum(count, 1)
    spread = jnp.sqrt(jnp.maximum((square - mean**2).mean(axis=2, keepdims=True), 1e-6))
    tested = seen * (count[..., 0] >= LEAST_PEERS)  # [C, N]
    return delta.mean_over_cycles((added - mean) / spread, tested)


def make_attack(settings: options.NoOptions, setup: contract.Setup) -> contract.ReferenceAttack:
    """Builds the test against the other nodes."""
    del settings, setup

    def prepare(fitted: tuple[()], node: jax.Array) -> jax.Array:
        del fitted
        return node

    def score(node: jax.Array, phi: jax.Array, sight: contract.Sight) -> jax.Array:
        return by_node(phi, sight)[node]

    def suffices(schedule: Schedule, mask: np.ndarray, node: int) -> bool:
        cycles = [set(schedule.cycle[schedule.bracketed(mask, peer)].tolist()) for peer in range(schedule.nodes)]
        return any(sum(cycle in shown for shown in cycles) > LEAST_PEERS for cycle in cycles[node])

    return contract.ReferenceAttack(contract.no_fit, prepare, score, combine=contract.largest, suffices=suffices)


PEERS = contract.ReferenceAttackFactory(make_attack)
