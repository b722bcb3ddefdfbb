"""Perturbation of what is handed off: the update of a node clipped to a norm, and Gaussian noise added.

What a node hands off after a visit differs from what it received by its update, the only thing in it that depends on
its records. `update_noise` perturbs that at every hand-off. `output_perturbation` does the same once, to the model
that is published at the end, whose update is all that training has changed since the start; everything before is as
without it.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from fedmia_jax import errors, options, types
from fedmia_jax.defenses import accounting, contract

_NOISE = "standard deviation of the noise on every parameter, as a multiple of the norm that it is clipped to"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Update(accounting.Options):
    """Of the update of a node's visit."""

    update_clip: float = options.option(
        1.0, "norm that the update of a visit is clipped to; 1e30 clips nothing", above=0.0, traced=True
    )
    update_noise: float = options.option(0.0, _NOISE, low=0.0, traced=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output(accounting.Options):
    """Of all that training has changed."""

    output_clip: float = options.option(
        1.0, "norm that the change since the start is clipped to; 1e30 clips nothing", above=0.0, traced=True
    )
    output_noise: float = options.option(0.0, _NOISE, low=0.0, traced=True)


def perturb(
    before: types.Params, after: types.Params, key: jax.Array, *, clip: types.Scalar, noise_multiplier: types.Scalar
) -> types.Params:
    """Clips the change from some parameters to others to a norm, and adds Gaussian noise.

    Source: McMahan et al. (2018), algorithm 1 (clipped updates), the noise added by the node itself; Dwork and Roth
    (2014), appendix A (Gaussian mechanism).

    Args:
      before: parameters that are known.
      after: parameters to be given away.
      key: of the noise.
      clip: f32[], the largest norm over all parameters together; may be infinite where there is no noise.
      noise_multiplier: f32[], standard deviation of the noise over `clip`.

    Returns:
      Parameters; those of `after` bit by bit where the change is within the norm and there is no noise.
    """
    change = jax.tree.map(jnp.subtract, after, before)
    norm = optax.tree.norm(change)
    scale, within = clip / jnp.maximum(norm, clip), norm <= clip
    deviation = jnp.where(noise_multiplier > 0, noise_multiplier * clip, 0.0)
    leaves, structure = jax.tree.flatten(after)
    keys = jax.tree.unflatten(structure, [jax.random.fold_in(key, place) for place in range(len(leaves))])

    def noisy(old: jax.Array, new: jax.Array, change: jax.Array, key: jax.Array) -> jax.Array:
        clipped = jnp.where(within, new, old + scale * change)
        return clipped + deviation * jax.random.normal(key, new.shape)

    return jax.tree.map(noisy, before, after, change, keys)


def make_update_noise(settings: Update) -> contract.Defense:
    """Builds the perturbation of every hand-off."""
    del settings

    def hand_off(
        received: types.Params, trained: types.Params, key: jax.Array, levels: contract.Levels
    ) -> types.Params:
        return perturb(received, trained, key, clip=levels["update_clip"], noise_multiplier=levels["update_noise"])

    return contract.Defense(hand_off=hand_off)


def make_output_perturbation(settings: Output) -> contract.Defense:
    """Builds the perturbation of the last model alone."""
    del settings

    def publish(initial: types.Params, final: types.Params, key: jax.Array, levels: contract.Levels) -> types.Params:
        return perturb(initial, final, key, clip=levels["output_clip"], noise_multiplier=levels["output_noise"])

    return contract.Defense(publish=publish)


def release_epsilon(noise_multiplier: float, num_releases: int, delta: float) -> float:
    """Returns the epsilon of perturbed changes, whatever of the records behind them differs.

    Both of two changes lie within the norm that they are clipped to, so they are at most twice that norm apart; that
    is so for one record as for all, since training says no less about the one.

    Args:
      noise_multiplier: standard deviation of the noise over the norm.
      num_releases: of changes that read the same records.
      delta: between 0 and 1.
    """
    return accounting.gaussian_epsilon(noise_multiplier / 2, num_releases, delta)


def state_update_noise(settings: Update, use: contract.Use) -> tuple[contract.Guarantee, ...]:
    """States the epsilon of a node over its visits.

    Raises:
      InputError: an optimizer's state would travel beside the perturbed parameters.
    """
    if use.carries_optimizer_state:
        raise errors.InputError(
            "federation.carry_optimizer_state=True: defense.names='update_noise' perturbs parameters, and an "
            "optimizer's state would be handed on beside them as it is; set it to False"
        )
    return (
        contract.Guarantee(
            protects="the records of a node",
            against="all other parties",
            epsilon=release_epsilon(settings.update_noise, use.cycles, settings.delta),
            delta=settings.delta,
            how=f"Gaussian, {use.cycles:,} releases, exact",
        ),
    )


def state_output_perturbation(settings: Output, use: contract.Use) -> tuple[contract.Guarantee, ...]:
    """States the epsilon of the one model that is published."""
    releases = min(use.cycles, 1)
    return (
        contract.Guarantee(
            protects="the records of all nodes",
            against="who sees the last model alone",
            epsilon=release_epsilon(settings.output_noise, releases, settings.delta),
            delta=settings.delta,
            how="Gaussian, 1 release, exact",
        ),
    )[:releases]


UPDATE_NOISE = contract.Factory(make_update_noise, Update, state_update_noise)
OUTPUT_PERTURBATION = contract.Factory(make_output_perturbation, Output, state_output_perturbation)
