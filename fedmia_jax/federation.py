"""A sequential federation of one model: a scan over cycles, in each a scan over nodes, every hand-off kept.

Source: Pustozerova and Mayer (2020), section III: the model starts at random, each node trains it on its own records
for some epochs and passes it on, in the same order in every cycle.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedmia_jax import training, types

RunFn = Callable[..., tuple[types.TrainState, types.Params]]


def make_cycles(fit_fn: training.FitFn, *, optimizer: str, carry_optimizer_state: bool = False) -> RunFn:
    """Builds some consecutive cycles over all nodes.

    A visit draws its randomness from `fold_in(fold_in(key, cycle), node)`, so cycles run one by one, each from the
    state that the last one left, give what one call over all of them gives.

    Args:
      fit_fn: a node's training, see `training.make_fit`.
      optimizer: name in `training.OPTIMIZERS`.
      carry_optimizer_state: hand the optimizer's state on too; otherwise only parameters travel and every node starts
        its optimizer afresh.

    Returns:
      `run(state, records, shards, hyper, key, local_epochs, first_cycle, *, num_cycles) -> (state, snapshots)` where
      `shards` has a leading axis N, and `snapshots` are the parameters after each visit, leading axes
      [num_cycles, N].
    """

    def hand_over(state: types.TrainState) -> types.TrainState:
        if carry_optimizer_state:
            return state
        return types.TrainState(state.params, training.fresh_opt_state(state.params, optimizer=optimizer))

    def run(state, records, shards, hyper, key, local_epochs, first_cycle, *, num_cycles):
        num_nodes = shards.mask.shape[0]

        def visit(state, inputs: tuple[Any, types.Shard, jax.Array]):
            node, shard, cycle_key = inputs
            visit_key = jax.random.fold_in(cycle_key, node)
            state = fit_fn(hand_over(state), records, shard, hyper, visit_key, (0, local_epochs))
            return state, state.params

        def cycle(state, number):
            keys = jnp.broadcast_to(jax.random.fold_in(key, number), (num_nodes,))
            return jax.lax.scan(visit, state, (jnp.arange(num_nodes), shards, keys))

        return jax.lax.scan(cycle, state, first_cycle + jnp.arange(num_cycles))

    return run
