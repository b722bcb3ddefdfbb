"""A visit that ends with the parameters of its best epoch, by the loss on records that are held out of training."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import types
from fedmia_jax.learning import losses, training


def make_fit(fit_fn: training.FitFn, apply_fn: types.ApplyFn, *, every: int) -> training.FitFn:
    """Builds training that keeps the parameters of the epoch with the smallest loss on the held-out records.

    Slots `every - 1`, `2 every - 1`, .. of a shard are held out, as `pools.Shards.without` says on the host. All epochs
    are trained, and the best one is carried along, so that the trip count is fixed.

    Args:
      fit_fn: training without it, see `training.make_fit`.
      apply_fn: the network, see `networks.make_apply`.
      every: one in so many slots is held out.

    Returns:
      `fit`, as `fit_fn`; the optimizer's state is that after the last epoch.
    """

    def fit(
        state: types.TrainState,
        records: types.Records,
        shard: types.Shard,
        hyper: types.Hyper,
        key: jax.Array,
        epochs: tuple[Any, Any],
        record_key: jax.Array,
    ) -> types.TrainState:
        slots = np.arange(shard.mask.shape[0])
        held, rest = slots[every - 1 :: every], np.delete(slots, slots[every - 1 :: every])
        trained = types.Shard(shard.indices[rest], shard.mask[rest])
        rows, mask = shard.indices[held], shard.mask[held]
        features, labels = (jnp.take(leaf, rows, axis=0) for leaf in (records.features, records.labels))

        def loss(params: types.Params) -> jax.Array:
            logits = apply_fn(params, features)
            return jnp.sum(losses.cross_entropy(logits, labels) * losses.shares(mask))

        def body(number: jax.Array, carry: tuple[Any, Any, jax.Array]) -> tuple[Any, Any, jax.Array]:
            state, best, least = carry
            state = fit_fn(state, records, trained, hyper, key, (number, number + 1), record_key)
            value = loss(state.params).astype(least.dtype)
            # What is no number is kept too, so that it is noticed.
            better = ~(value >= least)
            best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state.params, best)
            return state, best, jnp.where(better, value, least)

        state, best, _ = jax.lax.fori_loop(epochs[0], epochs[1], body, (state, state.params, jnp.float32(jnp.inf)))
        return types.TrainState(best, state.opt_state)

    return fit
