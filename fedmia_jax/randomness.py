"""Where all random numbers come from: streams by purpose and index, never from a state that is carried on.

Replicate r, shadow j or cycle c gets the same numbers whatever else is computed beside it, so that chunks, devices and
resumed runs change nothing.
"""

import enum
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32

GENERATOR = "threefry2x32"  # whatever jax_default_prng_impl says


class Purpose(enum.IntEnum):
    """Indices that keep the streams of random numbers of one replicate apart; never renumber."""

    POOLS = 0
    PARTITION = 1
    SHADOW = 2
    CENTRALISED = 3
    FEDERATED = 4
    ATTACK = 5
    REFERENCE = 6
    ORDER = 7
    RECORDS = 8
    AUDITED = 9
    CANARY = 10


def make_key(seed: int, replicate: int, purpose: Purpose, *numbers: int) -> jax.Array:
    """Returns the key of one purpose and its index, for compiled programs.

    Args:
      seed: the experiment's seed.
      replicate: index of the replicate.
      purpose: what is drawn.
      numbers: index of the shadow, reference or attack.

    Returns:
      A typed PRNG key that depends on the arguments only.
    """
    key = jax.random.fold_in(jax.random.key(seed, impl=GENERATOR), replicate)
    for number in (int(purpose), *numbers):
        key = jax.random.fold_in(key, number)
    return key


def draw_events(key: jax.Array, shape: tuple[int, ...], chance: jax.Array | float) -> jax.Array:
    """Draws independent events of one chance: bool of a shape, a quarter of the hashes that `bernoulli` takes.

    Random bits are much of what training costs on a CPU, so each hash serves four events, sixteen bits each.

    Args:
      key: typed threefry key, jax's default kind.
      shape: of the result.
      chance: f32[], realised to the nearest 2**-16; may be traced.
    """
    size = math.prod(shape)
    num_words = 2 * -(-size // 4)
    words = threefry_2x32(jax.random.key_data(key), jnp.arange(num_words, dtype=jnp.uint32))
    limit = jnp.round(chance * 2**16).astype(jnp.uint32)
    # Compared before they are joined: what is joined takes a byte an event, and not four.
    return jnp.concatenate([(words & 0xFFFF) < limit, (words >> 16) < limit])[:size].reshape(shape)


def make_generator(seed: int, replicate: int, purpose: Purpose, *numbers: int) -> np.random.Generator:
    """Returns the generator of one purpose and its index, for the host.

    The indices are a spawn key of NumPy's seed sequence: every index counts, a zero at the end too, so that no two
    streams are the same.

    Args:
      seed: the experiment's seed.
      replicate: index of the replicate; 0 for what all replicates share.
      purpose: what is drawn.
      numbers: further indices.
    """
    indices = (replicate, int(purpose), *numbers)
    return np.random.default_rng(np.random.SeedSequence(int(seed), spawn_key=[int(index) for index in indices]))


def add_normals(key: jax.Array, values: jax.Array, scale: jax.Array | float) -> jax.Array:
    """Adds independent normal numbers of one standard deviation to all values.

    Random numbers are what noise costs on a CPU, so each hash of the generator serves two. They are added in two
    pieces, since XLA for CPU makes plain loops of those, and one five times as slow where they are joined first.

    Args:
      key: typed threefry key, jax's default kind.
      values: f32 of any shape.
      scale: f32[], the standard deviation; may be traced. Zero leaves the values alone, bit by bit.
    """
    table = jnp.atleast_1d(values)
    half = (table.shape[0] + 1) // 2
    shape = (2 * half, *table.shape[1:])
    words = threefry_2x32(jax.random.key_data(key), jnp.arange(math.prod(shape), dtype=jnp.uint32)).reshape(shape)

    def normals(words: jax.Array) -> jax.Array:
        # Odd multiples of 2**-23 in (-1, 1): neither end is one, and tails reach to 5.3.
        uniform = ((words >> 9).astype(jnp.int32) * 2 + (1 - 2**23)).astype(jnp.float32) * 2.0**-23
        return scale * (math.sqrt(2) * jax.lax.erf_inv(uniform))

    table = table.at[:half].add(normals(words[:half])).at[half:].add(normals(words[half : table.shape[0]]))
    return table.reshape(values.shape)
