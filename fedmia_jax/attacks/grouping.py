"""Places ordered by group, the order that minibatches and thresholds are read from."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

MOST = 2**32  # numbers that a place and its group together are one of


def order(groups: Int[Array, "n"], *, num_groups: int) -> Int[Array, "n"]:
    """Returns places by group, and within a group as they stand.

    Group and place are sorted as one number: a quarter of the time of a stable sort on a CPU, and half of the time to
    compile on a TPU, whose compiler takes long over each sort.

    Args:
      groups: of each place, in 0..num_groups-1.
      num_groups: of them.
    """
    size = len(groups)
    if num_groups * size > MOST:
        return jnp.argsort(groups, stable=True)
    together = groups.astype(jnp.uint32) * size + jnp.arange(size, dtype=jnp.uint32)
    return (jax.lax.sort(together, is_stable=False) % size).astype(jnp.int32)
