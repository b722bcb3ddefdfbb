"""Which records a batch has: each by a coin of its own, in a shape that does not depend on the coins."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped

from fedmia_jax import types
from fedmia_jax.defenses import contract
from fedmia_jax.learning import single_record


def draw_batch(
    key: jax.Array, mask: Shaped[types.Array, " n"], *, batch_size: int, most: int
) -> tuple[Int[Array, " b"], Bool[Array, " b"]]:
    """Draws every record of a shard independently with chance B / n; of too many, a random choice stays.

    Slot i draws the same number whatever the length of the shard, so that padding a shard changes no batch.

    Source: Abadi et al. (2016), Algorithm 1. Departure: a batch has most records, see `accounting.step_epsilon`.

    Args:
      key: typed PRNG key.
      mask: bool, False for padding; n counts the others.
      batch_size: B; all records are drawn where n is not larger.
      most: b, records of a batch at most.

    Returns:
      Slots, those drawn in front, and which of them were drawn.
    """
    real = mask != 0
    draws = jnp.where(real, jax.random.uniform(key, mask.shape), 1.0)
    drawn = real & (draws < batch_size / jnp.maximum(jnp.sum(real), 1))
    crowded = single_record.longest(jnp.sum(drawn)) > most  # of many models together: one branch for all

    def cut() -> jax.Array:
        # Those with the lowest numbers: given that a record is drawn, its number says nothing of the record.
        return drawn & jnp.zeros(drawn.shape, bool).at[jnp.argsort(draws)[:most]].set(True)

    drawn = jax.lax.cond(crowded, cut, lambda: drawn)
    (slots,) = jnp.nonzero(drawn, size=most, fill_value=0)
    return slots.astype(jnp.int32), jnp.arange(most) < jnp.sum(drawn)


def make_epoch(
    step_fn: Callable[..., types.TrainState], *, batch_size: int, most: int, skip_empty: bool
) -> Callable[..., types.TrainState]:
    """Builds as many updates on drawn batches as there are batches in one pass over a shard.

    Args:
      step_fn: one update, see `training.make_step`.
      batch_size: B.
      most: records of a batch at most.
      skip_empty: leave the state alone after a shard's own number of updates, where a larger one shares its shape. A
        batch that is drawn empty is an update like any other.

    Returns:
      `epoch(state, records, shard, hyper, key, record_key) -> state`.
    """

    def epoch(
        state: types.TrainState,
        records: types.Records,
        shard: types.Shard,
        hyper: types.Hyper,
        key: jax.Array,
        record_key: jax.Array,
    ) -> types.TrainState:
        num_slots = shard.mask.shape[0]
        num_records = jnp.sum(shard.mask != 0)

        def body(number: jax.Array, state: types.TrainState) -> types.TrainState:
            step_key = jax.random.fold_in(key, number)
            draws_key = contract.draw_key(step_key, len(hyper.levels) + contract.BATCH)
            slots, drawn = draw_batch(draws_key, shard.mask, batch_size=batch_size, most=min(most, num_slots))
            rows = jnp.asarray(shard.indices)[slots]
            new = step_fn(state, types.take(records, rows), rows, drawn, hyper, step_key, record_key)
            if skip_empty:
                counts = number * batch_size < num_records
                new = jax.tree.map(lambda after, before: jnp.where(counts, after, before), new, state)
            return new

        return jax.lax.fori_loop(0, -(-num_slots // batch_size), body, state)

    return epoch
