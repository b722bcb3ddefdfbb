"""Many models at once: the only place where the model axis S is added.

A function of one model becomes a program over S of them: the S axis split over all devices (on a CPU one XLA host
device per core), vmapped on each (on a CPU over as many as fit a core's cache), in chunks that fit a memory budget.
Results do not depend on S, on the number of devices or on the chunk size, because every model draws its randomness
from its own key.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import config, federation, model, training, types

AXIS = "models"
CORE_CACHE = 2**20  # bytes, about the second-level cache of a core


def make_parallel(fn: Callable[..., Any], *, devices: Sequence[jax.Device] | None = None) -> Callable[..., Any]:
    """Lifts a function of one model to S models on all devices.

    Args:
      fn: `(shared, one, **static) -> pytree`, pure. `shared` is seen whole by every model.
      devices: devices to split S over; all by default, and never more than there are models.

    Returns:
      `call(shared, batched, **static) -> pytree`: leaves of `batched` and of the result carry the leading axis S;
      static keyword arguments are numbers or strings that decide shapes. Compiled once for each S and shape.
    """
    devices = tuple(jax.devices() if devices is None else devices)

    def program(shared, batched, *, num_devices, static):
        def local(shared, batched):
            one_fn = functools.partial(fn, shared, **dict(static))
            if devices[0].platform != "cpu":
                return jax.vmap(one_fn)(batched)
            together = models_in_cache(batched)
            return jax.lax.map(one_fn, batched, batch_size=together if together > 1 else None)

        if num_devices == 1:
            return local(shared, batched)
        mesh = jax.sharding.Mesh(np.array(devices[:num_devices]), (AXIS,))
        spec = jax.sharding.PartitionSpec
        # No model talks to another, so there is nothing for the replication check to find.
        mapped = jax.shard_map(local, mesh=mesh, in_specs=(spec(), spec(AXIS)), out_specs=spec(AXIS), check_vma=False)
        return mapped(shared, batched)

    compiled = jax.jit(program, static_argnames=("num_devices", "static"))

    def call(shared, batched, **static):
        num_models = jax.tree.leaves(batched)[0].shape[0]
        num_devices = min(len(devices), num_models)
        padding = -num_models % num_devices
        if padding:
            batched = jax.tree.map(
                lambda leaf: leaf[np.minimum(np.arange(num_models + padding), num_models - 1)], batched
            )
        with jax.default_device(devices[0]):
            result = compiled(shared, batched, num_devices=num_devices, static=tuple(sorted(static.items())))
        return jax.tree.map(lambda leaf: leaf[:num_models], result) if padding else result

    return call


def models_in_cache(batched: Any) -> int:
    """Returns how many models a CPU core should take at a time, at least one.

    Small models go together, which saves dispatch; of large ones a core finishes one before the next, since a step
    over several would fetch each model's state from main memory again (8% faster at 600-128-100, batch 128).

    Args:
      batched: pytree with the leading axis S.
    """
    leaves = jax.tree.leaves(batched)
    num_models = leaves[0].shape[0]
    return min(num_models, max(1, CORE_CACHE * num_models // sum(leaf.nbytes for leaf in leaves)))


def chunk_rows(num_models: int, *, largest: int) -> list[np.ndarray]:
    """Splits models into equal chunks, so that one compiled program serves all of them.

    Args:
      num_models: S.
      largest: models that fit the memory budget at once, at least 1.

    Returns:
      i64[chunk] rows for each chunk, all of one length; the last chunk repeats the last model to fill up.
    """
    num_chunks = -(-num_models // largest)
    size = -(-num_models // num_chunks)
    return [np.minimum(np.arange(first, first + size), num_models - 1) for first in range(0, num_models, size)]


def models_in_budget(module: nn.Module, *, num_features: int, settings: config.Training, budget: int) -> int:
    """Returns how many models in training fit a memory budget, at least one.

    Counts parameters, gradients, two optimizer moments and the copies that a step makes of them, and the activations
    of a minibatch.

    Args:
      module: the network.
      num_features: D.
      settings: batch size.
      budget: bytes.
    """
    shapes = jax.eval_shape(model.make_init(module, num_features=num_features), jax.random.key(0))
    leaves = [int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes)]
    widths = num_features + 3 * sum(shape.shape[-1] for shape in jax.tree.leaves(shapes))
    return max(1, budget // (4 * (8 * sum(leaves) + settings.batch_size * widths)))


def run_segments(
    start: Callable[[Any], Any],
    advance: Callable[[Any, Any, Any], tuple[Any, Any]],
    batched: Any,
    *,
    segments: Sequence[Any],
    largest: int,
    on_segment: Callable[[int, np.ndarray, Any], None],
) -> list[Any]:
    """Trains S models in chunks, each chunk in compiled segments, so that the host can look on in between.

    Args:
      start: `(part) -> state` of a chunk, leading axis of its length.
      advance: `(state, part, segment) -> (state, output)`.
      batched: pytree with the leading axis S.
      segments: what `advance` gets, in order.
      largest: most models in memory at once.
      on_segment: called with (segment, rows of the chunk, output) after each.

    Returns:
      The output of every segment as host arrays, chunks joined along S.
    """
    num_models = jax.tree.leaves(batched)[0].shape[0]
    joined: list[list[Any]] = [[] for _ in segments]
    for rows in chunk_rows(num_models, largest=largest):
        part = jax.tree.map(lambda leaf, rows=rows: leaf[rows], batched)
        state = start(part)
        for segment, outputs in zip(segments, joined, strict=True):
            state, output = advance(state, part, segment)
            real = np.unique(rows)  # the last chunk is filled up with its last model, which counts once
            output = jax.tree.map(lambda leaf, real=real: leaf[: len(real)], jax.device_get(output))
            on_segment(segment, real, output)
            outputs.append(output)
    return [jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts) for parts in joined]


def cut(epochs: int, *, pieces: int = 10) -> list[tuple[int, int]]:
    """Cuts training into about ten runs of epochs, (first, end) each, for one look at every tenth."""
    bounds = [round(piece * epochs / pieces) for piece in range(pieces + 1)]
    return [(first, end) for first, end in itertools.pairwise(bounds) if end > first]


def all_finite(params: types.Params) -> jax.Array:
    """Whether every parameter is a finite number: bool[]."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(params)]))


def _make_training(module: nn.Module, settings: config.Training, *, num_features: int, skip_empty: bool):
    """`start(key)` and `fit(...)` of one model."""
    start_fn = training.make_start(model.make_init(module, num_features=num_features), optimizer=settings.optimizer)
    fit_fn = training.make_fit(
        model.make_apply(module),
        optimizer=settings.optimizer,
        batch_size=settings.batch_size,
        skip_empty=skip_empty,
    )
    return start_fn, fit_fn


def _start_one(start_fn: Callable[[jax.Array], types.TrainState]) -> Callable[..., types.TrainState]:
    """The start in the form that `make_parallel` takes."""
    return lambda shared, key: start_fn(jax.random.fold_in(key, 0))


def make_train_many(
    module: nn.Module, settings: config.Training, *, num_features: int, skip_empty: bool = False
) -> Callable[..., types.Params]:
    """Builds the training of S models, each on one shard of its own.

    Args:
      module: the network.
      settings: optimizer and batch size; the traced numbers come with the call.
      num_features: D.
      skip_empty: see `training.make_fit`.

    Returns:
      `train(records, shards, hyper, keys, *, epochs, largest, on_segment) -> params` with leading axis S, as host
      arrays. `on_segment` gets ((first, end) epochs, rows, finite bool[S]).
    """
    start_fn, fit_fn = _make_training(module, settings, num_features=num_features, skip_empty=skip_empty)

    def advance_one(shared, one):
        part = one["part"]
        key = jax.random.fold_in(part["key"], 1)
        state = fit_fn(one["state"], shared["records"], part["shard"], part["hyper"], key, shared["epochs"])
        return state, all_finite(state.params)

    start_many, advance_many = make_parallel(_start_one(start_fn)), make_parallel(advance_one)

    def train(records, shards, hyper, keys, *, epochs, largest, on_segment):
        def advance(state, part, segment):
            shared = {"records": records, "epochs": segment}
            state, finite = advance_many(shared, {"state": state, "part": part})
            return state, (state.params if segment[1] == epochs else None, finite)

        outputs = run_segments(
            lambda part: start_many((), part["key"]),
            advance,
            {"shard": shards, "hyper": hyper, "key": keys},
            segments=cut(epochs),
            largest=largest,
            on_segment=lambda segment, rows, output: on_segment(segment, rows, output[1]),
        )
        return outputs[-1][0]

    return train


def make_federate_many(
    module: nn.Module,
    settings: config.Training,
    *,
    num_features: int,
    carry_optimizer_state: bool = False,
    skip_empty: bool = False,
) -> Callable[..., types.Params]:
    """Builds S sequential federations, each over shards of its own.

    Args:
      module: the network.
      settings: optimizer and batch size.
      num_features: D.
      carry_optimizer_state: see `federation.make_cycles`.
      skip_empty: see `training.make_fit`.

    Returns:
      `federate(records, shards, hyper, keys, *, local_epochs, cycles, largest, on_segment) -> snapshots` where shards
      lead with [S, N] and snapshots, host arrays, with [S, C, N]. `on_segment` gets (cycle, rows, finite bool[S, N]).
    """
    start_fn, fit_fn = _make_training(module, settings, num_features=num_features, skip_empty=skip_empty)
    cycles_fn = federation.make_cycles(
        fit_fn, optimizer=settings.optimizer, carry_optimizer_state=carry_optimizer_state
    )

    def advance_one(shared, one):
        part = one["part"]
        key = jax.random.fold_in(part["key"], 1)
        state, snapshots = cycles_fn(
            one["state"], shared["records"], part["shard"], part["hyper"], key,
            shared["local_epochs"], shared["cycle"], num_cycles=1,
        )  # fmt: skip
        snapshots = jax.tree.map(lambda leaf: leaf[0], snapshots)
        return state, (snapshots, jax.vmap(all_finite)(snapshots))

    start_many, advance_many = make_parallel(_start_one(start_fn)), make_parallel(advance_one)

    def federate(records, shards, hyper, keys, *, local_epochs, cycles, largest, on_segment):
        def advance(state, part, cycle):
            shared = {"records": records, "local_epochs": local_epochs, "cycle": cycle}
            return advance_many(shared, {"state": state, "part": part})

        outputs = run_segments(
            lambda part: start_many((), part["key"]),
            advance,
            {"shard": shards, "hyper": hyper, "key": keys},
            segments=range(cycles),
            largest=largest,
            on_segment=lambda cycle, rows, output: on_segment(cycle, rows, output[1]),
        )
        return jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *(snapshots for snapshots, _ in outputs))

    return federate
