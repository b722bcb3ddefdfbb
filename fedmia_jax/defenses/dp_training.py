"""DP-SGD, and DP-Adam where the optimizer is Adam: drawn batches, clipped gradients of records, noise on their sum.

Every record of a node is in a batch by a coin of its own, its gradient is clipped to a norm, and the sum of the batch
plus Gaussian noise is divided by the public batch size. What the optimizer makes of it is post-processing.

Source: Abadi et al. (2016), Algorithm 1. Departure: a batch has most records, which the accountant knows.
"""

import dataclasses

import jax
import jax.numpy as jnp

from fedmia_jax import options, randomness, types
from fedmia_jax.defenses import accounting, contract


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(accounting.Options):
    """How much a record may count, and the noise that hides it."""

    clip: float = options.option(1.0, "norm that the gradient of each record is clipped to", above=0.0, traced=True)
    noise_multiplier: float = options.option(
        1.0, "noise on the sum of a batch, in units of clip; dp_training", low=0.0, traced=True
    )
    most_records: float = options.option(2.0, "records of a drawn batch at most, in batch sizes", low=1.0, high=100.0)


def make_defense(settings: Options) -> contract.Defense:
    """Builds clipping, noise and drawn batches; norm and noise come with each call."""

    def weights(norms: jax.Array, levels: contract.Levels) -> jax.Array:
        return jnp.minimum(1.0, levels["clip"] / jnp.maximum(norms, jnp.finfo(jnp.float32).tiny))

    def sums(sums: types.Params, key: jax.Array, levels: contract.Levels) -> types.Params:
        noise = levels["noise_multiplier"]
        scale = jnp.where(noise > 0, noise * levels["clip"], 0.0)  # no noise under an infinite clip is none
        leaves, structure = jax.tree.flatten(sums)
        keys = [jax.random.fold_in(key, place) for place in range(len(leaves))]
        noisy = [randomness.add_normals(own, leaf, scale) for own, leaf in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(structure, noisy)

    return contract.Defense(sampling=settings.most_records, weights=weights, sums=sums)


DP_TRAINING = contract.Factory(make_defense, Options)
