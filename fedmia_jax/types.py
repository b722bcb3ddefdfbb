"""The words of the laboratory as types: axis letters, pytrees, function aliases.

| letter | axis                                                     |
|--------|----------------------------------------------------------|
| S      | models trained in parallel (replicas, shadows, points)   |
| C, N   | cycles, nodes                                            |
| T      | snapshots, in training order                             |
| P      | snapshots of one cycle                                   |
| M      | records scored                                           |
| J      | reference models or federations                          |
| D, K, H| features, classes, hidden units                          |
| n      | slots of a shard (records, then padding)                 |
| B      | records of a minibatch                                   |

Shapes are in jaxpr notation in prose, `f32[C, N, M]`, and jaxtyping's in signatures, `Float[Array, "C N M"]`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray
TreeT = TypeVar("TreeT")
Scalar = Any  # one number, traced or not: f32[] or a Python float
Params = Any  # a pytree of f32 arrays, as flax makes it
ApplyFn = Callable[..., jax.Array]  # (params, features, *, dropout_rate, key) -> f32[B, K] logits


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Records:
    """Records on a device: the whole data set, into which everything else points by row, or a minibatch of it."""

    features: jax.Array  # uint8[M, D] where all are bits, else f32[M, D]
    labels: jax.Array  # i32[M] in 0..K-1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Shard:
    """The training records of one party, as rows of `Records`; masked slots are padding."""

    indices: Array  # i32[n]
    mask: Array  # bool[n], False for padding; or f32[n] weights, 0 for padding


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Hyper:
    """The numbers of training that a compiled program takes as arguments."""

    learning_rate: Scalar  # f32[]
    dropout_rate: Scalar  # f32[]
    levels: tuple[Mapping[str, Scalar], ...] = ()  # of each defence: its traced options by name, f32[]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """What training carries from step to step."""

    params: Params
    opt_state: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Signals:
    """What attacks read of one model: its answer to each record and the record's label."""

    logits: jax.Array  # f32[..., M, K]
    labels: jax.Array  # i32[..., M]


def take(tree: TreeT, rows: jax.Array) -> TreeT:
    """Returns some entries of every leaf along its first axis, by rows that are there, none of them negative."""

    def take_leaf(leaf: Array) -> jax.Array:
        return jnp.asarray(leaf).at[rows].get(mode="promise_in_bounds", wrap_negative_indices=False)

    return jax.tree.map(take_leaf, tree)
