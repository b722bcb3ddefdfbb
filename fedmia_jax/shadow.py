"""Many models at once: the only place where the model axis S is added.

A function of one model becomes a program over S of them: the S axis split over all devices (on a CPU one XLA host
device per core), vmapped on each (on a CPU over as many as fit a core's cache).
Results do not depend on S, on the number of devices or on the chunk size, because every model draws its randomness
from its own key. Chunks that fit the memory are made in `plan.py`.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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


def training_nbytes(module: nn.Module, *, num_features: int, batch_size: int) -> int:
    """Returns the memory of one model in training, in bytes.

    Counts parameters and two optimizer moments before and after a program, gradients and updates, a copy of all on
    its way to disk, and the activations of a minibatch.

    Args:
      module: the network.
      num_features: D.
      batch_size: records per update.
    """
    shapes = param_shapes(module, num_features=num_features)
    widths = num_features + 3 * sum(shape[-1] for shape in shapes)
    return 12 * params_nbytes(module, num_features=num_features) + 4 * batch_size * widths


def params_nbytes(module: nn.Module, *, num_features: int) -> int:
    """Returns the memory of one model's parameters, in bytes."""
    return 4 * sum(int(np.prod(shape)) for shape in param_shapes(module, num_features=num_features))


@functools.cache
def param_shapes(module: nn.Module, *, num_features: int) -> list[tuple[int, ...]]:
    """Returns the shapes of a model's parameters."""
    shapes = jax.eval_shape(model.make_init(module, num_features=num_features), jax.random.key(0))
    return [leaf.shape for leaf in jax.tree.leaves(shapes)]


def cut(epochs: Sequence[int], *, pieces: int = 10) -> list[tuple[int, int]]:
    """Cuts training into about ten runs of epochs, (first, end) each, for one look at every tenth.

    Args:
      epochs: after which a model is wanted; the last is where training ends, and every one ends a run.
      pieces: runs, if it were for the last alone.
    """
    last = max(epochs)
    bounds = sorted({*epochs, *(round(piece * last / pieces) for piece in range(pieces + 1))})
    return list(itertools.pairwise(bounds))


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
        split=model.make_split(module),
    )
    return start_fn, fit_fn


class Programs(NamedTuple):
    """The compiled programs of one group: they take S models, and are compiled once for each S and shape."""

    start: Callable[..., Any]
    advance: Callable[..., Any]


@functools.cache
def make_train(
    module: nn.Module,
    settings: config.Training,
    *,
    num_features: int,
    devices: tuple[jax.Device, ...],
) -> Programs:
    """Builds the training of S models, each on one shard of its own.

    Args:
      module: the network.
      settings: optimizer and batch size; the traced numbers come with the call.
      num_features: D.
      devices: where S is split over.

    Returns:
      `start(keys) -> state` and `advance(records, state, part, epochs) -> (state, finite bool[S])` where `part` has
      the leading axis S (`shard`, `hyper`, `key`) and `epochs` is (first, end).
    """
    start_fn, fit_fn = _make_training(module, settings, num_features=num_features, skip_empty=False)

    def advance_one(shared, one):
        part = one["part"]
        key = jax.random.fold_in(part["key"], 1)
        state = fit_fn(one["state"], shared["records"], part["shard"], part["hyper"], key, shared["epochs"])
        return state, all_finite(state.params)

    start_many = make_parallel(lambda shared, key: start_fn(jax.random.fold_in(key, 0)), devices=devices)
    advance_many = make_parallel(advance_one, devices=devices)

    def advance(records, state, part, epochs):
        return advance_many({"records": records, "epochs": epochs}, {"state": state, "part": part})

    return Programs(lambda keys: start_many((), keys), advance)


@functools.cache
def make_federate(
    module: nn.Module,
    settings: config.Training,
    *,
    num_features: int,
    devices: tuple[jax.Device, ...],
    carry_optimizer_state: bool = False,
    skip_empty: bool = False,
) -> Programs:
    """Builds S sequential federations, each over shards of its own.

    Args:
      module: the network.
      settings: optimizer and batch size.
      num_features: D.
      devices: where S is split over.
      carry_optimizer_state: see `federation.make_cycles`.
      skip_empty: see `training.make_fit`.

    Returns:
      `start(keys) -> state` and `advance(records, state, part, local_epochs, cycle) -> (state, snapshots, finite)`
      for one cycle, where the shards of `part` lead with [S, N], and so do snapshots and `finite` bool[S, N].
    """
    start_fn, fit_fn = _make_training(module, settings, num_features=num_features, skip_empty=skip_empty)
    cycles_fn = federation.make_cycles(
        fit_fn, optimizer=settings.optimizer, carry_optimizer_state=carry_optimizer_state
    )

    def travels(state):  # what goes from one cycle to the next
        return state if carry_optimizer_state else state.params

    def advance_one(shared, one):
        part, state = one["part"], one["state"]
        key = jax.random.fold_in(part["key"], 1)
        if not carry_optimizer_state:
            state = types.TrainState(state, training.fresh_opt_state(state, optimizer=settings.optimizer))
        state, snapshots = cycles_fn(
            state, shared["records"], part["shard"], part["hyper"], key,
            shared["local_epochs"], shared["cycle"], num_cycles=1,
        )  # fmt: skip
        snapshots = jax.tree.map(lambda leaf: leaf[0], snapshots)
        return travels(state), snapshots, jax.vmap(all_finite)(snapshots)

    start_many = make_parallel(lambda shared, key: travels(start_fn(jax.random.fold_in(key, 0))), devices=devices)
    advance_many = make_parallel(advance_one, devices=devices)

    def advance(records, state, part, local_epochs, cycle):
        shared = {"records": records, "local_epochs": local_epochs, "cycle": cycle}
        return advance_many(shared, {"state": state, "part": part})

    return Programs(lambda keys: start_many((), keys), advance)
