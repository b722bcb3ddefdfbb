"""Training of one model: a step, and epochs of shuffled minibatches over one shard.

Everything here sees one model; `shadow.py` adds the model axis. All randomness of a run is `fold_in(key, epoch)` and
then `fold_in(., step)`, so a run cut into segments equals an uninterrupted one.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fedmia_jax import errors, model, single_record, types

StepFn = Callable[..., types.TrainState]
FitFn = Callable[..., types.TrainState]

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {"adam": optax.adam, "sgd": optax.sgd}


def make_optimizer(name: str, *, learning_rate: Any) -> optax.GradientTransformation:
    """Returns the optax optimizer of that name; the learning rate may be traced."""
    if name not in OPTIMIZERS:
        raise errors.InputError(f"training.optimizer={name!r}: must be one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name](learning_rate)


def mean_loss(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean cross-entropy in nats over the unmasked records; f32[B, K], i32[B], bool[B] or weights f32[B] -> f32[]."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    total = jnp.sum(mask, dtype=losses.dtype)
    return jnp.sum(losses * mask) / jnp.where(total > 0, total, 1.0)


def make_step(apply_fn: types.ApplyFn, *, optimizer: str) -> StepFn:
    """Builds one update on one minibatch.

    Args:
      apply_fn: the model, see `model.make_apply`.
      optimizer: name in `OPTIMIZERS`.

    Returns:
      `step(state, features [B, D], labels i32[B], mask bool[B], hyper, key) -> state`; the loss is the mean over the
      unmasked records, so a partial batch weighs each of its records more, as in the usual frameworks.
    """

    def step(state, features, labels, mask, hyper, key):
        def loss(params):
            logits = apply_fn(params, features, dropout_rate=hyper.dropout_rate, key=key)
            return mean_loss(logits, labels, mask)

        grads = jax.grad(loss)(state.params)
        tx = make_optimizer(optimizer, learning_rate=hyper.learning_rate)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        return types.TrainState(optax.apply_updates(state.params, updates), opt_state)

    return step


def shuffle(key: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns a random order of the unmasked slots, the masked ones after them.

    Slot i draws the same number whatever the length of the shard, so padding a shard does not change the order of
    its records.

    Args:
      key: typed PRNG key.
      mask: bool[n], True for a record, or f32[n] weights, 0 for padding.

    Returns:
      i32[n], a permutation of the slots.
    """
    draws = jax.random.bits(key, mask.shape)
    slots = jnp.arange(mask.shape[0], dtype=jnp.int32)
    return jax.lax.sort((mask == 0, draws, slots), num_keys=2)[2]


def make_fit(
    apply_fn: types.ApplyFn,
    *,
    optimizer: str,
    batch_size: int,
    skip_empty: bool = False,
    split: model.Split | None = None,
) -> FitFn:
    """Builds training over a range of epochs of one shard.

    Args:
      apply_fn: the model, see `model.make_apply`.
      optimizer: name in `OPTIMIZERS`.
      batch_size: records per update; the last batch of an epoch is padded and masked.
      skip_empty: leave the state alone on a batch without any record. Needed where shards of unequal size share a
        padded shape; where no batch can be empty it only costs time.
      split: the same model cut behind its first layer, see `model.make_split`. With it, plain descent on single
        records takes the fast way of `single_record.py`, which never moves on an empty batch.

    Returns:
      `fit(state, records, shard, hyper, key, epochs) -> state`, pure, not jitted; `epochs` is a pair of traced
      integers (first, end), so programs of 100 and of 200 epochs are one.
    """
    if split is not None and optimizer == "sgd" and batch_size == 1:
        epoch = single_record.make_epoch(split)
    else:
        epoch = make_epoch(make_step(apply_fn, optimizer=optimizer), batch_size=batch_size, skip_empty=skip_empty)

    def fit(state, records, shard, hyper, key, epochs):
        def body(number, state):
            epoch_key = jax.random.fold_in(key, number)
            order = shuffle(jax.random.fold_in(epoch_key, 0), shard.mask)
            ordered = types.Shard(shard.indices[order], shard.mask[order])
            return epoch(state, records, ordered, hyper, jax.random.fold_in(epoch_key, 1))

        return jax.lax.fori_loop(epochs[0], epochs[1], body, state)

    return fit


def make_epoch(step_fn: StepFn, *, batch_size: int, skip_empty: bool) -> Callable[..., types.TrainState]:
    """Builds one pass over a shard in minibatches.

    Args:
      step_fn: one update, see `make_step`.
      batch_size, skip_empty: see `make_fit`.

    Returns:
      `epoch(state, records, shard, hyper, key) -> state`; the slots of `shard` in the order of training.
    """

    def batch_step(state, records, rows, mask, hyper, key):
        batch = jax.tree.map(lambda leaf: leaf.at[rows].get(mode="promise_in_bounds"), records)
        new = step_fn(state, batch.features, batch.labels, mask, hyper, key)
        if not skip_empty:
            return new
        return jax.tree.map(lambda after, before: jnp.where(jnp.any(mask != 0), after, before), new, state)

    def epoch(state, records, shard, hyper, key):
        num_steps = -(-shard.mask.shape[0] // batch_size)
        padding = (0, num_steps * batch_size - shard.mask.shape[0])
        rows = jnp.pad(shard.indices, padding).reshape(num_steps, batch_size)
        mask = jnp.pad(shard.mask, padding).reshape(num_steps, batch_size)

        def body(state, batch):
            rows, mask, number = batch
            return batch_step(state, records, rows, mask, hyper, jax.random.fold_in(key, number)), None

        return jax.lax.scan(body, state, (rows, mask, jnp.arange(num_steps)))[0]

    return epoch


def make_start(init_fn: Callable[[jax.Array], types.Params], *, optimizer: str):
    """Returns `start(key) -> TrainState`: fresh parameters and the optimizer state that belongs to them."""

    def start(key: jax.Array) -> types.TrainState:
        params = init_fn(key)
        return types.TrainState(params, fresh_opt_state(params, optimizer=optimizer))

    return start


def fresh_opt_state(params: types.Params, *, optimizer: str) -> Any:
    """Returns the optimizer's state before its first update; no hyperparameter enters it."""
    return make_optimizer(optimizer, learning_rate=0.0).init(params)
