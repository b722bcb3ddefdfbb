"""Bytes that models take."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import randomness
from fedmia_jax.defenses import contract
from fedmia_jax.learning import dense, gradients, networks


def training_nbytes(
    module: nn.Module,
    *,
    num_features: int,
    batch_size: int,
    defended: contract.Defended = contract.UNDEFENDED,
) -> int:
    """Returns the memory of one model in training, in bytes.

    Counts parameters and two optimizer moments before and after a program, gradients and updates, a copy of all on
    its way to disk, and the activations of a minibatch; of defences the room of a drawn batch, the gradients of records
    that are taken one by one, and the parameters of the best epoch.

    Args:
      module: the network.
      num_features: D.
      batch_size: records per update.
      defended: the defences.
    """
    shapes = param_shapes(module, num_features=num_features)
    widths = num_features + 3 * sum(shape[-1] for shape in shapes)
    copies = 12 + (defended.held_out is not None)
    if defended.hooks("weights"):
        copies += 1 if _is_dense(module, num_features) else 1 + gradients.BLOCK
    records = defended.most_records(batch_size) or batch_size
    return copies * params_nbytes(module, num_features=num_features) + 4 * records * widths


@functools.cache
def epoch_nbytes(module: nn.Module, *, num_slots: int) -> int:
    """Returns the memory of what is there of a whole epoch before its loop, in bytes.

    Counts rows, shares and keys of the records, what the network draws for them, and three times as much for the random
    bits that this is made from (measured of `randomness.draw_events`).

    Args:
      module: the network.
      num_slots: records that a model trains on, with padding.
    """
    key, draw = jax.random.key(0, impl=randomness.GENERATOR), networks.make_draw(module)
    drawn = jax.eval_shape(lambda key: draw(key, 1, jnp.float32(0.5)), key)
    each = sum(leaf.dtype.itemsize * leaf.size for leaf in jax.tree.leaves(drawn))
    return num_slots * (32 + 4 * each)


@functools.cache
def _is_dense(module: nn.Module, num_features: int) -> bool:
    """Whether the gradients of records need not be taken one by one."""
    params = jax.eval_shape(networks.make_init(module, num_features=num_features), jax.random.key(0))
    return dense.find_layers(networks.make_apply(module), params, jnp.zeros((1, num_features))) is not None


def params_nbytes(module: nn.Module, *, num_features: int) -> int:
    """Returns the memory of one model's parameters, in bytes."""
    return 4 * sum(int(np.prod(shape)) for shape in param_shapes(module, num_features=num_features))


@functools.cache
def param_shapes(module: nn.Module, *, num_features: int) -> list[tuple[int, ...]]:
    """Returns the shapes of a model's parameters."""
    shapes = jax.eval_shape(networks.make_init(module, num_features=num_features), jax.random.key(0))
    return [leaf.shape for leaf in jax.tree.leaves(shapes)]
