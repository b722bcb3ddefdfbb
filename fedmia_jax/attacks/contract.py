"""What every attack gives.

Two kinds. An `Attack` reads the logits of one model, and learns from models whose training records it knows. A
`Comparison` reads one number for each record and snapshot, `signals.phi`, and compares it with what reference
federations, trained like the target, say of the same record.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class References:
    """What J reference federations say of M records."""

    phi: jax.Array  # f32[J, T, M]
    owners: jax.Array  # i32[J, M], index of the node that trained on the record, -1 for none


def _always(mask: np.ndarray, node: int) -> bool:
    """Any snapshot will do."""
    del node
    return bool(mask.any())


class Comparison(NamedTuple):
    """A membership inference attack with reference federations, as pure functions, not jitted.

    Attributes:
      fit: `(key, references) -> fitted`.
      prepare: `(fitted, node i32[]) -> ready`, what it takes to attack one node; without `combine`, -1 stands for the
        union of all.
      score: `(ready, phi f32[T, M]) -> f32[T, M]` at each snapshot by itself, or `(ready, phi, mask bool[T]) -> f32[M]`
        from all snapshots seen, where there is a `combine`; higher means member.
      combine: `(f32[N, M]) -> f32[M]`, the score of the union from those of the nodes. An attack that reads several
        snapshots together has one, since trajectories of different nodes' members have little in common.
      suffices: `(mask, node) -> bool`, on the host: whether a view shows what the attack needs; for the union it must
        suffice for some node.
    """

    fit: Callable[[jax.Array, References], Any]
    prepare: Callable[[Any, jax.Array], Any]
    score: Callable[..., jax.Array]
    combine: Callable[[jax.Array], jax.Array] | None = None
    suffices: Callable[[np.ndarray, int], bool] = _always


def any_node(scores: jax.Array) -> jax.Array:
    """Log odds of the union from log odds of the nodes, a member of the union being one of any node: [N, M] -> [M]."""
    return jax.nn.logsumexp(scores, axis=0) - np.log(scores.shape[0])


def num_held_out(num_shadows: int) -> int:
    """Returns how many shadows only check the attack: one in ten, at least one."""
    return max(1, num_shadows // 10)


def gain_at_end(curve: np.ndarray) -> float:
    """Returns how much accuracy on held-out shadows the second half of fitting still brought.

    Args:
      curve: f32[..., E], see `Attack.curve`.

    Returns:
      The largest gain over the leading axes: mean of the last tenth less mean of the tenth before the middle. An
      attack that is still gaining has not converged, and makes models look more private than they are.
    """
    tenth, middle = max(1, curve.shape[-1] // 10), curve.shape[-1] // 2
    before = curve[..., max(0, middle - tenth) : max(1, middle)].mean(axis=-1)
    return float((curve[..., -tenth:].mean(axis=-1) - before).max())


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
