"""Training of one model: a step, and epochs of shuffled minibatches over one shard.

Everything here sees one model; the model axis is added elsewhere. All randomness of a run is `fold_in(key, epoch)` and
then `fold_in(., step)`, so a run cut into segments equals an uninterrupted one.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Shaped

from fedmia_jax import errors, options, types
from fedmia_jax.defenses import contract
from fedmia_jax.learning import gradients, networks, sampling, single_record

FitFn = Callable[..., types.TrainState]
StartFn = Callable[[jax.Array], types.TrainState]

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {"adam": optax.adam, "sgd": optax.sgd}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How a party trains."""

    optimizer: str = options.option("adam", "optimizer", choices=tuple(OPTIMIZERS))
    learning_rate: float = options.option(0.001, "step size", above=0.0, traced=True)
    batch_size: int = options.option(32, "records per update", low=1)


def make_optimizer(
    name: str, *, learning_rate: Any, defences: contract.Defended = contract.UNDEFENDED, levels: Any = ()
) -> optax.GradientTransformation:
    """Returns the optax optimizer of that name behind what defences do to an update.

    Args:
      name: name in `OPTIMIZERS`.
      learning_rate: f32[], may be traced.
      defences: those in use; their updates take a `key`.
      levels: of each defence.

    Raises:
      InputError: no such optimizer.
    """
    if name not in OPTIMIZERS:
        raise errors.InputError(f"training.optimizer={name!r}: must be one of {', '.join(OPTIMIZERS)}")
    before = [hook(levels[place]) for place, hook in defences.hooks("update")]
    optimizer = OPTIMIZERS[name](learning_rate)
    return optax.chain(*before, optimizer) if before else optimizer


@dataclasses.dataclass(frozen=True)
class Step:
    """One update on one minibatch, in two parts.

    Attributes:
      prepare: `prepare(mask [b], hyper, key) -> prepared`, what does not depend on the model, see
        `gradients.Gradient`.
      update: `update(state, batch, rows i32[b], prepared, hyper, key, record_key) -> state`.
    """

    prepare: Callable[..., Any]
    update: Callable[..., types.TrainState]

    def __call__(
        self,
        state: types.TrainState,
        batch: types.Records,
        rows: jax.Array,
        mask: jax.Array,
        hyper: types.Hyper,
        key: jax.Array,
        record_key: jax.Array,
    ) -> types.TrainState:
        """Both parts one after the other; `mask` is bool[b]."""
        return self.update(state, batch, rows, self.prepare(mask, hyper, key), hyper, key, record_key)


def make_step(
    apply_fn: types.ApplyFn,
    *,
    optimizer: str,
    batch_size: int,
    draw: networks.DrawFn = networks.keep_key,
    defences: contract.Defended = contract.UNDEFENDED,
) -> Step:
    """Builds one update on one minibatch.

    Args:
      apply_fn: the network, see `networks.make_apply`.
      optimizer: name in `OPTIMIZERS`.
      batch_size: B; `gradients.make_gradient` says what becomes of a batch of fewer records, or of more.
      draw: what the network draws for a minibatch, see `networks.make_draw`.
      defences: those in use; their hooks on records, losses, gradients and updates act here.
    """
    gradient = gradients.make_gradient(apply_fn, defences, batch_size=batch_size, draw=draw)
    on_records, on_update, on_step = (defences.hooks(name) for name in ("records", "update", "step"))

    def update(
        state: types.TrainState,
        batch: types.Records,
        rows: jax.Array,
        prepared: Any,
        hyper: types.Hyper,
        key: jax.Array,
        record_key: jax.Array,
    ) -> types.TrainState:
        for place, hook in on_records:
            keys = (jax.random.fold_in(record_key, place), contract.draw_key(key, place))
            batch = hook(batch, rows, *keys, hyper.levels[place])
        grads = gradient.take(state.params, batch, prepared, hyper)
        tx = make_optimizer(optimizer, learning_rate=hyper.learning_rate, defences=defences, levels=hyper.levels)
        extra = {"key": contract.draw_key(key, len(hyper.levels) + contract.UPDATE)} if on_update else {}
        updates, opt_state = tx.update(grads, state.opt_state, state.params, **extra)
        for place, hook in on_step:
            updates = hook(updates, state.params, hyper.learning_rate, hyper.levels[place])
        return types.TrainState(optax.apply_updates(state.params, updates), opt_state)

    return Step(gradient.prepare, update)


def shuffle(key: jax.Array, mask: Shaped[types.Array, " n"]) -> Int[Array, " n"]:
    """Returns a random order of the unmasked slots, the masked ones after them.

    Slot i draws the same number whatever the length of the shard, so padding a shard does not change the order of
    its records.

    Args:
      key: typed PRNG key.
      mask: bool, True for a record; or f32 weights, 0 for padding.

    Returns:
      A permutation of the slots.
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
    split: networks.Split | None = None,
    draw: networks.DrawFn = networks.keep_key,
    defences: contract.Defended = contract.UNDEFENDED,
) -> FitFn:
    """Builds training over a range of epochs of one shard.

    Args:
      apply_fn: the network, see `networks.make_apply`.
      optimizer: name in `OPTIMIZERS`.
      batch_size: records per update; the last batch of an epoch is padded and masked.
      skip_empty: leave the state alone on a batch without any record. Needed where shards of unequal size share a
        padded shape; where no batch can be empty it only costs time.
      split: the same network cut behind its first layer, see `networks.make_split`. With it, plain descent on single
        records takes the fast way of `single_record.py`, which never moves on an empty batch.
      draw: what the network draws for a minibatch, see `networks.make_draw`; of a whole epoch before its loop.
      defences: those in use. A defence with a hook that the fast way cannot honour takes the general one; one that
        draws batches record by record makes as many updates an epoch as there would be batches.

    Returns:
      `fit(state, records, shard, hyper, key, epochs, record_key) -> state`, pure, not jitted; `epochs` is a pair of
      traced integers (first, end), so programs of 100 and of 200 epochs are one. `record_key` is for what a defence
      draws once for a record.
    """
    if split is not None and optimizer == "sgd" and batch_size == 1 and single_record.honours(defences):
        epoch = single_record.make_epoch(split, defences=defences)
    else:
        step_fn = make_step(apply_fn, optimizer=optimizer, batch_size=batch_size, draw=draw, defences=defences)
        most = defences.most_records(batch_size)
        if most is None:
            epoch = make_epoch(step_fn, batch_size=batch_size, skip_empty=skip_empty)
        else:
            epoch = sampling.make_epoch(step_fn, batch_size=batch_size, most=most, skip_empty=skip_empty)

    def fit(
        state: types.TrainState,
        records: types.Records,
        shard: types.Shard,
        hyper: types.Hyper,
        key: jax.Array,
        epochs: tuple[Any, Any],
        record_key: jax.Array,
    ) -> types.TrainState:
        def body(number: jax.Array, state: types.TrainState) -> types.TrainState:
            epoch_key = jax.random.fold_in(key, number)
            order = shuffle(jax.random.fold_in(epoch_key, 0), shard.mask)
            ordered = types.Shard(shard.indices[order], shard.mask[order])
            return epoch(state, records, ordered, hyper, jax.random.fold_in(epoch_key, 1), record_key)

        return jax.lax.fori_loop(epochs[0], epochs[1], body, state)

    return fit


def make_epoch(step_fn: Step, *, batch_size: int, skip_empty: bool) -> Callable[..., types.TrainState]:
    """Builds one pass over a shard in minibatches.

    Args:
      step_fn: one update, see `make_step`.
      batch_size: see `make_fit`.
      skip_empty: see `make_fit`.

    Returns:
      `epoch(state, records, shard, hyper, key, record_key) -> state`; the slots of `shard` in the order of training.
    """

    def epoch(
        state: types.TrainState,
        records: types.Records,
        shard: types.Shard,
        hyper: types.Hyper,
        key: jax.Array,
        record_key: jax.Array,
    ) -> types.TrainState:
        num_steps = -(-shard.mask.shape[0] // batch_size)
        padding = (0, num_steps * batch_size - shard.mask.shape[0])
        rows = jnp.pad(shard.indices, padding).reshape(num_steps, batch_size)
        mask = jnp.pad(shard.mask, padding).reshape(num_steps, batch_size)

        # For all steps at once: in the loop they would be a handful of tiny kernels in every step.
        keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(jnp.arange(num_steps))
        prepared = jax.vmap(lambda mask, step_key: step_fn.prepare(mask, hyper, step_key))(mask, keys)
        counts = jnp.any(mask != 0, axis=1)

        def body(state: types.TrainState, inputs: Any) -> tuple[types.TrainState, None]:
            rows, prepared, step_key, counts = inputs
            new = step_fn.update(state, types.take(records, rows), rows, prepared, hyper, step_key, record_key)
            if skip_empty:
                new = jax.tree.map(lambda after, before: jnp.where(counts, after, before), new, state)
            return new, None

        return jax.lax.scan(body, state, (rows, prepared, keys, counts))[0]

    return epoch


def make_start(
    init_fn: Callable[[jax.Array], types.Params],
    *,
    optimizer: str,
    defences: contract.Defended = contract.UNDEFENDED,
) -> StartFn:
    """Returns `start(key) -> TrainState`: fresh parameters and the optimizer state that belongs to them."""

    def start(key: jax.Array) -> types.TrainState:
        params = init_fn(key)
        return types.TrainState(params, fresh_opt_state(params, optimizer=optimizer, defences=defences))

    return start


def fresh_opt_state(params: types.Params, *, optimizer: str, defences: contract.Defended = contract.UNDEFENDED) -> Any:
    """Returns the optimizer's state before its first update; no hyperparameter and no level enters it."""
    tx = make_optimizer(optimizer, learning_rate=0.0, defences=defences, levels=defences.zero_levels)
    return tx.init(params)
