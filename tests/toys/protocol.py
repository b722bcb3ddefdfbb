"""A toy protocol that is not cyclic: all nodes train the mean of what they sent before, side by side."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import options, schedule
from fedmia_jax.protocols import contract


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How much of the mean is taken."""

    toy_rate: float = options.option(1.0, "step from the last aggregate to the mean of the nodes", above=0.0)


def make_protocol(settings: Options, node: contract.Node) -> contract.Protocol:
    """Builds a round: a visit to every node, then their mean; P is N + 1."""

    def play_round(params, federation, order, cycle):
        def visit(number):
            shard = jax.tree.map(lambda leaf: leaf[number], federation.shards)
            key = contract.visit_key(federation, cycle, number)
            state = node.fresh(params)
            return node.visit(state, federation.records, shard, federation.hyper, key, federation.local_epochs).params

        trained = jax.lax.map(visit, order)
        mean = jax.tree.map(lambda leaf, old: old + settings.toy_rate * (leaf.mean(axis=0) - old), trained, params)
        return mean, jax.tree.map(lambda leaf, last: jnp.concatenate([leaf, last[None]]), trained, mean)

    return contract.Protocol(lambda key: node.start(key).params, play_round)


def make_schedule(order: np.ndarray) -> schedule.Schedule:
    """Returns who trained what: nodes from the last aggregate, which goes to all of them."""
    cycles, nodes = order.shape
    length = cycles * (nodes + 1)
    trainer = np.full((cycles, nodes + 1), schedule.AGGREGATE)
    trainer[:, :nodes] = order
    cycle, place = np.divmod(np.arange(length), nodes + 1)
    parents = np.full((length, nodes), schedule.NOBODY)
    parents[place < nodes, 0] = (cycle * (nodes + 1) - 1)[place < nodes]
    parents[place == nodes] = np.arange(length).reshape(cycles, -1)[:, :nodes]
    receivers = np.broadcast_to((place == nodes)[:, None], (length, nodes))
    return schedule.Schedule(trainer.reshape(-1), parents, cycle, receivers)


MEAN = contract.Factory(make_protocol, make_schedule, Options)
SHORT = contract.Factory(make_protocol, schedule.Schedule.sequential, Options)  # a schedule without the aggregates
