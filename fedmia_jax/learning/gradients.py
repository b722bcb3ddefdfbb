"""The gradient of a minibatch: of its mean loss, or a sum in which each record weighs what defences let it weigh.

A record's weight follows from the norm of its own gradient. Where the network is nothing but dense layers that norm is
known without the gradient: with x what a layer reads and d the slope of the record's loss in what it answers, the
layer's part of the squared norm is (|x|^2 + 1) |d|^2, and the weighted sum is a product of the same x and d. Elsewhere
gradients are taken record by record, in blocks.

Source: Goodfellow (2015), arXiv 1510.01799, for the norms.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import traverse_util

from fedmia_jax import types
from fedmia_jax.defenses import contract
from fedmia_jax.learning import dense, losses, networks, single_record

BLOCK = 16  # records whose gradients are there at once, where they are taken one by one
SumFn = Callable[..., types.Params]


class Gradient(NamedTuple):
    """The gradient of a minibatch, in two parts.

    What the first returns does not depend on the model, so that the loop over the steps of an epoch need not wait for
    it: `prepare(mask [b], hyper, key) -> prepared` of one step, and `take(params, batch, prepared, hyper) -> grads`.
    """

    prepare: Callable[..., Any]
    take: Callable[..., types.Params]


def make_gradient(
    apply_fn: types.ApplyFn,
    defences: contract.Defended,
    *,
    batch_size: int,
    draw: networks.DrawFn = networks.keep_key,
) -> Gradient:
    """Builds the gradient of a minibatch, through what defences do to it.

    Args:
      apply_fn: the network, see `networks.make_apply`.
      defences: those in use.
      batch_size: B.
      draw: what the network draws for a minibatch, see `networks.make_draw`.

    Returns:
      As a rule the gradient of the mean loss over the unmasked records, so that a partial batch weighs each of its
      records more, as in the usual frameworks. Where a defence draws batches, weighs records or acts on sums, it is
      the weighted sum over B, however many records there are: their number depends on every record.
    """
    if any(defences.hooks(name) for name in ("sampling", "weights", "sums")):
        return _make_private(apply_fn, defences, batch_size=batch_size)
    losses_of = losses.make_losses(defences)

    def prepare(mask: jax.Array, hyper: types.Hyper, key: jax.Array) -> tuple[jax.Array, Any]:
        return losses.shares(mask), draw(key, mask.shape[0], hyper.dropout_rate)

    def take(
        params: types.Params, batch: types.Records, prepared: tuple[jax.Array, Any], hyper: types.Hyper
    ) -> types.Params:
        shares, drawn = prepared

        def loss(params: types.Params) -> jax.Array:
            logits = apply_fn(params, batch.features, dropout_rate=hyper.dropout_rate, key=drawn)
            return jnp.sum(losses_of(logits, batch.labels, hyper) * shares)

        return jax.grad(loss)(params)

    return Gradient(prepare, take)


def _make_private(apply_fn: types.ApplyFn, defences: contract.Defended, *, batch_size: int) -> Gradient:
    """The gradient as a weighted sum over B.

    A drawn batch has room for many more records than it mostly has, so what lies far behind B is looked at only where
    there is some.
    """
    add_up, acting = make_sum(apply_fn, defences), defences.hooks("sums")
    first = batch_size + math.ceil(2 * math.sqrt(batch_size))

    def take(
        params: types.Params, batch: types.Records, prepared: tuple[jax.Array, jax.Array], hyper: types.Hyper
    ) -> types.Params:
        mask, key = prepared

        def part(rows: slice, key: jax.Array) -> types.Params:
            return add_up(params, jax.tree.map(lambda leaf: leaf[rows], batch), mask[rows], hyper, key)

        sums = near = part(slice(first), key)
        if mask.shape[0] > first:
            rest_key = contract.draw_key(key, len(hyper.levels) + contract.REST)
            more = single_record.longest(jnp.sum(mask[first:] != 0)) > 0  # of many models together: one branch for all

            def all_rows() -> types.Params:
                return jax.tree.map(jnp.add, near, part(slice(first, None), rest_key))

            sums = jax.lax.cond(more, all_rows, lambda: near)
        for place, hook in acting:
            sums = hook(sums, contract.draw_key(key, place), hyper.levels[place])
        return jax.tree.map(lambda leaf: leaf / batch_size, sums)

    return Gradient(lambda mask, hyper, key: (mask, key), take)


def make_sum(apply_fn: types.ApplyFn, defences: contract.Defended) -> SumFn:
    """Builds the sum of the weighted gradients of the unmasked records, in whichever way the network allows.

    Args:
      apply_fn: the network, see `networks.make_apply`.
      defences: those in use.

    Returns:
      `add_up(params, batch, mask, hyper, key) -> sums`.
    """
    by_layer, by_record = make_dense_sum(apply_fn, defences), make_record_sum(apply_fn, defences)

    def add_up(
        params: types.Params, batch: types.Records, mask: jax.Array, hyper: types.Hyper, key: jax.Array
    ) -> types.Params:
        is_dense = dense.find_layers(apply_fn, params, batch.features) is not None
        return (by_layer if is_dense else by_record)(params, batch, mask, hyper, key)

    return add_up


def make_dense_sum(apply_fn: types.ApplyFn, defences: contract.Defended) -> SumFn:
    """Builds `make_sum` for networks that are nothing but dense layers: it costs what the plain gradient costs."""
    tapped, losses_of = dense.make_tapped(apply_fn), losses.make_losses(defences)

    def add_up(
        params: types.Params, batch: types.Records, mask: jax.Array, hyper: types.Hyper, key: jax.Array
    ) -> types.Params:
        layers = dense.find_layers(apply_fn, params, batch.features)
        assert layers is not None

        def loss(shifts: Any) -> tuple[jax.Array, Any]:
            logits, inputs = tapped(params, batch.features, shifts, dropout_rate=hyper.dropout_rate, key=key)
            return jnp.sum(losses_of(logits, batch.labels, hyper)), inputs

        slopes, inputs = jax.grad(loss, has_aux=True)({path: jnp.zeros(shape) for path, shape in layers.items()})
        flat = traverse_util.flatten_dict(params)
        squares = jnp.zeros(mask.shape)
        for path, slope in slopes.items():
            read = jnp.sum(jnp.square(inputs[path][0]), axis=1) + ((*path, "bias") in flat)
            squares += read * jnp.sum(jnp.square(slope), axis=1)
        weights = _weigh(defences, jnp.sqrt(squares), mask, hyper)
        sums = {}
        for path, slope in slopes.items():
            weighted = weights[:, None] * slope
            sums[*path, "kernel"] = inputs[path][0].T @ weighted
            if (*path, "bias") in flat:
                sums[*path, "bias"] = jnp.sum(weighted, axis=0)
        return traverse_util.unflatten_dict(sums)

    return add_up


def make_record_sum(apply_fn: types.ApplyFn, defences: contract.Defended) -> SumFn:
    """Builds `make_sum` for every network: record by record, each with draws of its own, in blocks."""
    losses_of = losses.make_losses(defences)

    def add_up(
        params: types.Params, batch: types.Records, mask: jax.Array, hyper: types.Hyper, key: jax.Array
    ) -> types.Params:
        def slope(features: jax.Array, label: jax.Array, number: jax.Array) -> types.Params:
            def loss(params: types.Params) -> jax.Array:
                own = jax.random.fold_in(key, number)
                logits = apply_fn(params, features[None], dropout_rate=hyper.dropout_rate, key=own)
                return losses_of(logits, label[None], hyper)[0]

            return jax.grad(loss)(params)

        def body(sums: types.Params, block: tuple[types.Records, jax.Array, jax.Array]) -> tuple[types.Params, None]:
            records, mask, numbers = block
            grads = jax.vmap(slope)(records.features, records.labels, numbers)
            squares = [jnp.sum(jnp.square(leaf.reshape(BLOCK, -1)), axis=1) for leaf in jax.tree.leaves(grads)]
            weights = _weigh(defences, jnp.sqrt(sum(squares, start=jnp.zeros(BLOCK))), mask, hyper)
            return jax.tree.map(lambda total, leaf: total + jnp.tensordot(weights, leaf, 1), sums, grads), None

        def blocks(leaf: jax.Array) -> jax.Array:
            padding = ((0, -leaf.shape[0] % BLOCK), *((0, 0),) * (leaf.ndim - 1))
            return jnp.pad(leaf, padding).reshape(-1, BLOCK, *leaf.shape[1:])

        numbers = jnp.arange(mask.shape[0])
        zeros = jax.tree.map(jnp.zeros_like, params)
        return jax.lax.scan(body, zeros, jax.tree.map(blocks, (batch, mask, numbers)))[0]

    return add_up


def _weigh(defences: contract.Defended, norms: jax.Array, mask: jax.Array, hyper: types.Hyper) -> jax.Array:
    """What each record's gradient counts in the sum, f32[B]: all defences one after another, 0 where masked."""
    weights = jnp.ones(norms.shape)
    for place, hook in defences.hooks("weights"):
        weights = weights * hook(weights * norms, hyper.levels[place])
    return weights * mask
