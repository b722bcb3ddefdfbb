"""Noise on the records that a node trains on: bits flipped as in randomised response, or Gaussian noise on features.

Each record gets its own draw, once for all visits of a federation, so that training sees the same noisy record again
and again and nothing is spent by seeing it again; or afresh at every use, which is once an epoch.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from fedmia_jax import errors, options, randomness, types
from fedmia_jax.defenses import contract

RESOLUTION = 2**16  # chances are realised in such steps, see `randomness.draw_events`
_REDRAWN = "draw the noise on a record afresh in every epoch, not once for all visits"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flips:
    """How often a bit is flipped."""

    flip_probability: float = options.option(
        0.0, "chance of each bit of a training record to be flipped", low=0.0, high=0.5, traced=True
    )
    fresh_noise: bool = options.option(False, _REDRAWN)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gaussian:
    """How much noise features get."""

    feature_noise: float = options.option(
        0.0, "standard deviation of the Gaussian noise on each feature of a training record", low=0.0, traced=True
    )
    fresh_noise: bool = options.option(False, _REDRAWN)


def make_randomised_response(settings: Flips) -> contract.Defense:
    """Builds the flips of bits, each with the same chance; labels stay.

    Source: Warner (1965); Kairouz, Oh and Viswanath (2016), section 2 (binary randomised response).

    Args:
      settings: whether a record is drawn afresh.
    """

    def records(
        batch: types.Records, rows: jax.Array, record_key: jax.Array, step_key: jax.Array, levels: contract.Levels
    ) -> types.Records:
        if batch.features.dtype != jnp.uint8:
            raise errors.InputError(
                "defense.names='randomised_response': flips bits, and the features here are no bits (any more); "
                "name it first, or use feature_noise"
            )
        key, shape = step_key if settings.fresh_noise else record_key, batch.features.shape[1:]

        def draw(row: jax.Array) -> jax.Array:
            return randomness.draw_events(jax.random.fold_in(key, row), shape, levels["flip_probability"])

        return types.Records(batch.features ^ jax.vmap(draw)(rows).astype(jnp.uint8), batch.labels)

    return contract.Defense(records=records)


def make_feature_noise(settings: Gaussian) -> contract.Defense:
    """Builds independent Gaussian noise on all features; labels stay.

    Args:
      settings: whether a record is drawn afresh.
    """

    def records(
        batch: types.Records, rows: jax.Array, record_key: jax.Array, step_key: jax.Array, levels: contract.Levels
    ) -> types.Records:
        key, shape = step_key if settings.fresh_noise else record_key, batch.features.shape[1:]
        noise = jax.vmap(lambda row: jax.random.normal(jax.random.fold_in(key, row), shape))(rows)
        return types.Records(batch.features.astype(jnp.float32) + levels["feature_noise"] * noise, batch.labels)

    return contract.Defense(records=records)


def flip_epsilon(flip_probability: float) -> float:
    """Returns the local epsilon of one bit: what its flipped value tells at most, ln((1 - q) / q).

    Source: Kairouz, Oh and Viswanath (2016), section 2. A record of D bits has D times as much.

    Args:
      flip_probability: q, taken as it is realised.
    """
    flipped = round(flip_probability * RESOLUTION) / RESOLUTION
    return math.log((1.0 - flipped) / flipped) if flipped else math.inf


def state_flips(settings: Flips, use: contract.Use) -> tuple[contract.Guarantee, ...]:
    """States the local epsilon of one bit and of all bits of a record; its label is not protected.

    Args:
      settings: flips drawn once are spent once, those drawn afresh once an epoch.
      use: epochs over all visits, and the number of bits.
    """
    spent = use.cycles * use.local_epochs if settings.fresh_noise else 1
    epsilon = spent * flip_epsilon(settings.flip_probability)
    how = f"randomised response, {spent:,} draw{'s' if spent > 1 else ''}"
    return tuple(
        contract.Guarantee(protects=protects, against="everybody", epsilon=epsilon * bits, delta=0.0, how=how)
        for protects, bits in (("a bit of a record", 1), ("a record but its label", use.num_features))
    )


RANDOMISED_RESPONSE = contract.Factory(make_randomised_response, Flips, state_flips)
FEATURE_NOISE = contract.Factory(make_feature_noise, Gaussian)
