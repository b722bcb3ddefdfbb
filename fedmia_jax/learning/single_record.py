"""Plain descent on one record at a time, in blocks: the same steps as one by one, in a third of the time.

The gradient of a dense first layer is an outer product, so within a block of steps its weights need not be touched:
with x_s the record of step s and d_s the gradient of its loss in the pre-activations,

    W_t = W_0 - rate * sum_{s<t} x_s d_s',    b_t = b_0 - rate * sum_{s<t} d_s,
    x_t W_t + b_t = x_t W_0 + b_0 - rate * sum_{s<t} (x_t . x_s + 1) d_s.

A block is then two matrix products before its steps (with W_0, and of its records with each other), one after them
(the update of W), and steps that see neither the features nor W. Nothing is approximated: only the order of the
additions differs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedmia_jax import types
from fedmia_jax.defenses import contract
from fedmia_jax.learning import losses, networks

BLOCK = 48  # steps; 32 to 96 cost the same within a tenth at 600-128-100 and 600-128-10
UNHEARD = ("records", "sampling", "penalty", "weights", "sums", "update", "step")  # hooks without a place in blocks


class Block(NamedTuple):
    """What the steps of one block read, L steps each."""

    features: jax.Array  # [L, D]
    labels: jax.Array  # i32[L]
    real: jax.Array  # bool[L], False for padding
    noise: Any  # leaves [L, ...], see `networks.Split.draw`


def honours(defences: contract.Defended) -> bool:
    """Whether this way of training can do all that some defences ask of a step."""
    return not any(defences.hooks(name) for name in UNHEARD)


def make_epoch(
    split: networks.Split, *, block_size: int = BLOCK, defences: contract.Defended = contract.UNDEFENDED
) -> Callable[..., types.TrainState]:
    """Builds one pass over the records of a shard, an update after each.

    Args:
      split: the network, see `networks.make_split`.
      block_size: steps between two updates of the first layer's weights; no result depends on it but by rounding.
      defences: those in use.

    Raises:
      ValueError: a defence acts on records, losses, gradients or updates, which are never there by themselves.

    Returns:
      `epoch(state, records, shard, hyper, key, record_key) -> state`; the slots of `shard` in the order of training,
      padding last. Step t draws from `fold_in(key, t)`, so neither padding nor the block size changes a draw, and a
      masked slot changes nothing at all.
    """

    defences.refuse(UNHEARD, path="plain descent on single records")

    def epoch(
        state: types.TrainState,
        records: types.Records,
        shard: types.Shard,
        hyper: types.Hyper,
        key: jax.Array,
        record_key: jax.Array,
    ) -> types.TrainState:
        del record_key
        padding = (0, -shard.mask.shape[0] % block_size)
        rows = jnp.pad(shard.indices, padding).reshape(-1, block_size)
        real = jnp.pad(shard.mask != 0, padding).reshape(-1, block_size)
        num_steps = longest(jnp.sum(real, dtype=jnp.int32))

        def draw(step: jax.Array) -> Any:
            return split.draw(jax.random.fold_in(key, step), hyper.dropout_rate)

        def body(number: jax.Array, params: types.Params) -> types.Params:
            first = number * block_size
            drawn = types.take(records, rows[number])
            noise = jax.vmap(draw)(first + jnp.arange(block_size))
            block = Block(drawn.features, drawn.labels, real[number], noise)
            return run_block(split, params, block, hyper.learning_rate, jnp.minimum(num_steps - first, block_size))

        params = jax.lax.fori_loop(0, -(-num_steps // block_size), body, state.params)
        return types.TrainState(params, state.opt_state)

    return epoch


def run_block(
    split: networks.Split, params: types.Params, block: Block, rate: jax.Array, num_steps: jax.Array
) -> types.Params:
    """Returns the parameters after the first `num_steps` steps of a block; see the head of this file."""
    others = dict(params)
    first = others.pop(split.first)
    inputs = block.features.astype(first["kernel"].dtype)  # bits are stored as uint8
    fresh = inputs @ first["kernel"] + first["bias"]
    weights = rate * (inputs @ inputs.T + 1.0)

    def loss(others: types.Params, units: jax.Array, label: jax.Array, noise: Any) -> jax.Array:
        return losses.cross_entropy(split.rest(others, units, noise), label)

    def step(number: jax.Array, carry: tuple[types.Params, jax.Array]) -> tuple[types.Params, jax.Array]:
        others, grads = carry  # rows of `grads` from this step on are zero
        label, real, noise = jax.tree.map(lambda leaf: leaf[number], (block.labels, block.real, block.noise))
        units = fresh[number] - weights[number] @ grads
        slopes, grad = jax.grad(loss, argnums=(0, 1))(others, units, label, noise)
        grad = jnp.where(real, grad, 0.0)
        moved = after(jnp.where(real, rate, 0.0), grad[0])
        others = jax.tree.map(lambda leaf, slope: leaf - moved * slope, others, slopes)
        return others, jax.lax.dynamic_update_index_in_dim(grads, grad, number, 0)

    others, grads = jax.lax.fori_loop(0, num_steps, step, (others, jnp.zeros_like(fresh)))
    moved = {
        "kernel": first["kernel"] - rate * (inputs.T @ grads),
        "bias": first["bias"] - rate * jnp.sum(grads, axis=0),
    }
    return {**others, split.first: moved}


def after(value: jax.Array, earlier: jax.Array) -> jax.Array:
    """Returns `value`, but not before `earlier` (f[]) is known; NaN if that is NaN.

    An update that waits for the last reader of its old weights can overwrite them. XLA for CPU drops
    `optimization_barrier` before it decides that, and copied the second layer in every step (a quarter of the step).
    """
    return jnp.where(jnp.isnan(earlier), jnp.nan, value)


@jax.custom_batching.custom_vmap
def longest(num_steps: jax.Array) -> jax.Array:
    """Returns its argument, and of several models together the largest, so that one loop serves all without masks."""
    return num_steps


@longest.def_vmap
def _longest_of_many(axis_size: int, in_batched: list[bool], num_steps: jax.Array) -> tuple[jax.Array, bool]:
    """The rule of `longest` for a vmapped axis."""
    return longest(jnp.max(num_steps)), False
