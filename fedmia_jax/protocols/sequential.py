"""A model that goes round: every node trains it on its own records and hands it to the next.

Source: Pustozerova and Mayer (2020), section III: the model starts at random, each node trains it on its own records
for some epochs and passes it on, in the same order in every cycle.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedmia_jax import options, types
from fedmia_jax.protocols import contract
from fedmia_jax.schedule import Schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What travels with the parameters."""

    carry_optimizer_state: bool = options.option(False, "hand the optimizer state on with the parameters")


def make_protocol(settings: Options, node: contract.Node) -> contract.Protocol:
    """Builds the cycle of one travelling model.

    Args:
      settings: whether the optimizer's state is handed on too; otherwise only parameters travel and every node starts
        its optimizer afresh.
      node: what a node does.

    Returns:
      The protocol; P is N, a snapshot after each visit.
    """
    carry = settings.carry_optimizer_state

    def leave(state: types.TrainState) -> Any:
        return state if carry else state.params

    def arrive(state: Any) -> types.TrainState:
        return state if carry else node.fresh(state)

    def play_round(
        state: Any, federation: contract.Federation, order: jax.Array, cycle: jax.Array
    ) -> tuple[Any, types.Params]:
        keys = jnp.broadcast_to(federation.key, order.shape)

        def visit(state: Any, inputs: tuple[jax.Array, jax.Array]) -> tuple[Any, types.Params]:
            number, key = inputs
            shard = jax.tree.map(lambda leaf: leaf[number], federation.shards)
            visit_key = contract.visit_key(dataclasses.replace(federation, key=key), cycle, number)
            trained = node.visit(
                arrive(state), federation.records, shard, federation.hyper, visit_key, federation.local_epochs
            )
            return leave(trained), trained.params

        return jax.lax.scan(visit, state, (order, keys))

    return contract.Protocol(lambda key: leave(node.start(key)), play_round)


SEQUENTIAL = contract.Factory(make_protocol, Schedule.sequential, Options)
