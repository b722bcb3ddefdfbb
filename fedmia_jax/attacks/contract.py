"""What every attack gives."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from fedmia_jax import types

Fitted = Mapping[str, Any]  # arrays by name, nested mappings allowed


class Attack(NamedTuple):
    """A membership inference attack on one snapshot, as pure functions, not jitted.

    Attributes:
      fit: `(key, signals, membership bool[J, m], weights f32[J, m]) -> fitted`, from the signals of J shadows, logits
        f32[J, m, K]; a weight of 0 marks padding. The last shadow in ten is held out, see `num_held_out`.
      score: `(fitted, signals) -> f32[..., M]`, higher means member.
      threshold: `(fitted) -> f32[]`; a score above it says member.
      curve: `(fitted) -> f32[E]`, accuracy on the held-out shadows in the course of fitting, E may be 1.
    """

    fit: Callable[[jax.Array, types.Signals, jax.Array, jax.Array], Fitted]
    score: Callable[[Fitted, types.Signals], jax.Array]
    threshold: Callable[[Fitted], jax.Array]
    curve: Callable[[Fitted], jax.Array]


def num_held_out(num_shadows: int) -> int:
    """Returns how many shadows only check the attack: one in ten, at least one."""
    return max(1, num_shadows // 10)


def balance(membership: jax.Array, weights: jax.Array) -> jax.Array:
    """Reweights records so that members and non-members count alike, with mean weight 1 over all slots.

    Args:
      membership: bool[...].
      weights: f32[...], 0 for padding.

    Returns:
      f32[...], the members summing to half of the total.
    """
    members = weights * membership
    others = weights * ~membership
    return 0.5 * membership.size * (members / members.sum() + others / others.sum())
