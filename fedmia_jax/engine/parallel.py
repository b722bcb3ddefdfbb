"""Many models at once: the only place where the model axis S is added.

A function of one model becomes a program over S of them: the S axis split over all devices (on a CPU one XLA host
device per core), vmapped on each (on a CPU over as many as fit a core's cache).
Results do not depend on S, on the number of devices or on the chunk size, because every model draws its randomness
from its own key. Chunks that fit the memory are made in `chunks.py`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from fedmia_jax import compilation

AXIS = "models"
CORE_CACHE = 2**20  # bytes, about the second-level cache of a core


def make_parallel(
    fn: Callable[..., Any], *, devices: Sequence[jax.Device] | None = None, once: bool = False
) -> Callable[..., Any]:
    """Lifts a function of one model to S models on all devices.

    Args:
      fn: `(shared, model, **static) -> pytree`, pure. `shared` is seen whole by every model.
      devices: devices to split S over; all of this process by default, and never more than there are models.
      once: whether it is called once in a model's life; a CPU then saves more by compiling it quickly than it loses.

    Returns:
      `call(shared, batched, **static) -> pytree`: leaves of `batched` and of the result carry the leading axis S;
      static keyword arguments are numbers or strings that decide shapes. Compiled once for each S and shape.
    """
    devices = tuple(jax.local_devices() if devices is None else devices)

    def program(shared: Any, batched: Any, *, num_devices: int, static: tuple[tuple[str, Any], ...]) -> Any:
        def local(shared: Any, batched: Any) -> Any:
            model_fn = functools.partial(fn, shared, **dict(static))
            if devices[0].platform != "cpu":
                return jax.vmap(model_fn)(batched)
            together = models_in_cache(batched)
            return jax.lax.map(model_fn, batched, batch_size=together if together > 1 else None)

        if num_devices == 1:
            return local(shared, batched)
        mesh = jax.sharding.Mesh(np.array(devices[:num_devices]), (AXIS,))
        spec = jax.sharding.PartitionSpec
        # No model talks to another, so there is nothing for the replication check to find.
        mapped = jax.shard_map(local, mesh=mesh, in_specs=(spec(), spec(AXIS)), out_specs=spec(AXIS), check_vma=False)
        return mapped(shared, batched)

    program.__name__ = fn.__name__
    quickly = once and devices[0].platform == "cpu"
    compiled = compilation.jit(program, quickly=quickly, static_argnames=("num_devices", "static"))

    def call(shared: Any, batched: Any, **static: Any) -> Any:
        num_models = jax.tree.leaves(batched)[0].shape[0]
        num_devices = min(len(devices), num_models)
        padding = -num_models % num_devices
        if padding:
            batched = jax.tree.map(
                lambda leaf: leaf[np.minimum(np.arange(num_models + padding), num_models - 1)], batched
            )
        mesh = jax.sharding.Mesh(np.array(devices[:num_devices]), (AXIS,))
        # Arrays of the host and those that a program has left would otherwise have programs each.
        batched = compilation.put(batched, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS)))
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
