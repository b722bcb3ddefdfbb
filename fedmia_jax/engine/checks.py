"""What of networks, defences and protocols is refused before a program is compiled."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import errors, protocols, randomness, registry, types
from fedmia_jax.engine import programs
from fedmia_jax.protocols import contract


@functools.cache
def check_training(learning: programs.Learning, features_dtype: np.dtype) -> None:
    """Traces one update, before anything is trained, so that a defence may refuse what it finds there.

    Args:
      learning: network, training and defences.
      features_dtype: of the records.

    Raises:
      InputError: a defence cannot act on such records.
    """
    defended = learning.defences.make()
    start, fit_fn = learning.make_start(defended), learning.make_fit(defended, skip_empty=False)
    rows = jnp.zeros(1, jnp.int32)

    def train(key: jax.Array) -> types.TrainState:
        records = types.Records(jnp.zeros((1, learning.num_features), features_dtype), rows)
        hyper = types.Hyper(jnp.zeros(()), jnp.zeros(()), defended.zero_levels)
        return fit_fn(start(key), records, types.Shard(rows, rows == 0), hyper, key, (0, 1), key)

    jax.eval_shape(train, jax.random.key(0, impl=randomness.GENERATOR))


@functools.cache
def check_protocol(learning: programs.Learning, kind: str, options: Any, *, nodes: int, num_snapshots: int) -> None:
    """Checks, before anything is trained, that a protocol takes its options and leaves what its schedule says.

    Args:
      learning: network, training and defences.
      kind: the protocol, see `protocols.find`.
      options: the protocol's own options.
      nodes: N.
      num_snapshots: P.

    Raises:
      InputError: options that contradict each other, or snapshots of other shapes.
    """
    defended = learning.defences.make()
    start, fresh = learning.make_start(defended), programs.make_fresh(learning, defended)
    with registry.calling(kind, field="federation.kind"):
        protocol = protocols.find(kind).make(options, contract.Node(start, fresh, lambda state, *_: state))
        model = jax.eval_shape(start, jax.random.key(0))
        problem = contract.check(protocol, model, nodes=nodes, num_snapshots=num_snapshots)
    if problem is not None:
        raise errors.InputError(f"federation.kind={kind!r}: {problem}")
