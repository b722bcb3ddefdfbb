"""DP-SGD, and DP-Adam where the optimizer is Adam: drawn batches, clipped gradients of records, noise on their sum.

Every record of a node is in a batch by a coin of its own, its gradient is clipped to a norm, and the sum of the batch
plus Gaussian noise is divided by the public batch size. What the optimizer makes of it is post-processing.

Source: Abadi et al. (2016), Algorithm 1. Departure: a batch has most records, which the accountant knows.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from fedmia_jax import errors, options, randomness, types
from fedmia_jax.defenses import accounting, contract

BATCHES = ("drawn", "shuffled")
DECIMALS = 4  # of noise that is solved for, rounded up: outcomes are found again by it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(accounting.Options):
    """How much a record may count, and the noise that hides it."""

    clip: float = options.option(1.0, "norm that the gradient of each record is clipped to", above=0.0, traced=True)
    noise_multiplier: float = options.option(
        1.0, "noise on the sum of a batch, in units of clip; dp_training", low=0.0, traced=True
    )
    target_epsilon: float | None = options.option(
        None, "epsilon of the worst node, which noise_multiplier is solved for", low=0.01, high=100.0, traced=True
    )
    batches: str = options.option(
        "drawn", "drawn: each record by a coin of its own; shuffled: as usual, without an epsilon", choices=BATCHES
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

    sampling = settings.most_records if settings.batches == "drawn" else None
    return contract.Defense(sampling=sampling, weights=weights, sums=sums)


def steps_of(settings: Options, use: contract.Use) -> list[accounting.Steps]:
    """Returns the steps of every node over all visits: in each epoch as many as there would be batches.

    Raises:
      InputError: a node has fewer records than a batch, so that there is no such chance to be drawn.
    """
    smallest, size = min(use.node_sizes), use.batch_size
    if smallest < size:
        raise errors.InputError(
            f"training.batch_size={size}: defense.names='dp_training' draws each record with chance batch_size over "
            f"the records of its node, and a node has {smallest}; use a smaller batch or fewer nodes"
        )
    most, epochs = math.ceil(settings.most_records * size), use.local_epochs * use.cycles
    return [accounting.Steps(records, size, most, -(-records // size) * epochs) for records in use.node_sizes]


def solve(settings: Options, uses: Sequence[contract.Use]) -> dict[str, float]:
    """Returns the noise multiplier that a stated epsilon takes, under which no node of any federation exceeds it.

    Raises:
      InputError: batches are shuffled, or a node has fewer records than a batch.
    """
    if settings.target_epsilon is None:
        return {}
    if settings.batches != "drawn":
        raise errors.InputError(
            f"defense.target_epsilon={settings.target_epsilon}: no epsilon is stated for "
            f"defense.batches={settings.batches!r}; use 'drawn', or noise_multiplier without a target"
        )
    nodes = [steps for use in uses for steps in steps_of(settings, use) if steps.num_steps]
    if not nodes:
        return {}
    noise = accounting.solve_noise(nodes, settings.target_epsilon, settings.delta)
    return {"noise_multiplier": math.ceil(noise * 10**DECIMALS) / 10**DECIMALS}


def state(settings: Options, use: contract.Use) -> tuple[contract.Guarantee, ...]:
    """States the epsilon of the worst node over all of its visits; nothing where batches are shuffled.

    Raises:
      InputError: a node has fewer records than a batch.
    """
    if settings.batches != "drawn":
        return ()
    noise, delta = settings.noise_multiplier, settings.delta
    worst = accounting.worst_node(steps_of(settings, use), noise, delta)
    rough = accounting.untruncated_epsilon(worst, noise, delta)
    visits = f"{use.cycles} x {worst.num_steps // max(use.cycles, 1):,} steps"
    batches = f"{worst.batch_size}/{worst.num_records}"
    guarantee = contract.Guarantee(
        protects="one record, add/remove",
        against="everybody",
        epsilon=accounting.step_epsilon(worst, noise, delta),
        delta=delta,
        how=f"PLD, {visits} at {batches}, noise {noise:.3g}; RDP uncut {rough:.3g}",
    )
    return (guarantee,) if worst.num_steps else ()


DP_TRAINING = contract.Factory(make_defense, Options, state, solve)
