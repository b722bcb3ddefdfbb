"""Federated averaging: all nodes train the last aggregate side by side, and the next one is their mean.

Source: McMahan et al. (2017), algorithm 1, with every node in every round; Pustozerova and Mayer (2020), section II
(parallel federated learning). A node weighs as many records as it has. Only parameters travel: an optimizer's state is
a node's own and cannot be averaged, so each visit starts afresh.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fedmia_jax import errors, types
from fedmia_jax.protocols import contract, sequential
from fedmia_jax.schedule import AGGREGATE, NOBODY, Schedule


def make_protocol(settings: sequential.Options, node: contract.Node) -> contract.Protocol:
    """Builds the round of one aggregate.

    Args:
      settings: an optimizer's state that is handed on is refused.
      node: what a node does.

    Returns:
      The protocol; P is N + 1, a snapshot of each node and then the aggregate.

    Raises:
      InputError: an optimizer's state is to be handed on.
    """
    if settings.carry_optimizer_state:
        raise errors.InputError(
            "federation.carry_optimizer_state=True: an optimizer's state cannot be averaged; set it to False for "
            "federation.kind='fedavg'"
        )

    def play_round(
        aggregate: types.Params, federation: contract.Federation, order: jax.Array, cycle: jax.Array
    ) -> tuple[types.Params, types.Params]:
        def visit(number: jax.Array) -> tuple[types.Params, jax.Array]:
            shard = jax.tree.map(lambda leaf: leaf[number], federation.shards)
            trained = node.visit(
                node.fresh(aggregate),
                federation.records,
                shard,
                federation.hyper,
                contract.visit_key(federation, cycle, number),
                federation.local_epochs,
            )
            return trained.params, shard.mask.sum()

        trained, sizes = jax.lax.map(visit, order)
        averaged = jax.tree.map(lambda leaf: weighted_mean(leaf, sizes), trained)
        return averaged, jax.tree.map(lambda leaf, mean: jnp.concatenate([leaf, mean[None]]), trained, averaged)

    return contract.Protocol(lambda key: node.start(key).params, play_round)


def weighted_mean(leaf: Float[Array, "N *shape"], sizes: Int[Array, "N"] | Float[Array, "N"]) -> Float[Array, "*shape"]:
    """Returns the mean over nodes, each weighted by its number of records."""
    return jnp.tensordot((sizes / sizes.sum()).astype(leaf.dtype), leaf, axes=1, precision="highest")


def make_schedule(order: np.ndarray) -> Schedule:
    """Returns who trained what: in each cycle every node from the last aggregate, then the aggregate, sent to all.

    Args:
      order: i32[C, N]; nodes train side by side, the order only says where their snapshots stand.
    """
    cycles, nodes = order.shape
    length = cycles * (nodes + 1)
    cycle, place = np.divmod(np.arange(length), nodes + 1)
    trainer = np.full((cycles, nodes + 1), AGGREGATE)
    trainer[:, :nodes] = order
    parents = np.full((length, nodes), NOBODY)
    parents[place < nodes, 0] = np.maximum(cycle[place < nodes] * (nodes + 1) - 1, NOBODY)
    parents[place == nodes] = np.arange(length).reshape(cycles, nodes + 1)[:, :nodes]
    receivers = np.broadcast_to((place == nodes)[:, None], (length, nodes))
    return Schedule(trainer.reshape(-1), parents, cycle, receivers)


FEDAVG = contract.Factory(make_protocol, make_schedule, sequential.Options)
