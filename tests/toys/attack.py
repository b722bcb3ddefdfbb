"""A toy attack on one model with an option of its own: a threshold on phi that the user sets."""

import dataclasses

import jax.numpy as jnp

from fedmia_jax import options
from fedmia_jax.attacks import contract, signals


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Where the attack says member."""

    toy_threshold: float = options.option(0.0, "phi above which a record is called a member")


def make_attack(settings: Options, num_classes: int) -> contract.ModelAttack:
    """Builds a threshold on phi; nothing is learnt, and held-out accuracy is said to be one half."""
    del num_classes
    return contract.ModelAttack(
        fit=lambda key, seen, membership, weights: {"curve": jnp.full(1, 0.5)},
        score=lambda fitted, seen: signals.phi(seen) - settings.toy_threshold,
        threshold=lambda fitted: jnp.zeros(()),
        curve=lambda fitted: fitted["curve"],
    )


TOY = contract.ModelAttackFactory(make_attack, Options)
