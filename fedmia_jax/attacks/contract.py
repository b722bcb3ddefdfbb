"""What every attack gives.

Two kinds. A `ModelAttack` reads the logits of one model, and learns from models whose training records it knows. A
`ReferenceAttack` reads one number for each record and snapshot, such as `signals.phi`, and compares it with what
reference federations, trained like the target, say of the same record. A registry holds the factory of either, which
also says what options the attack has, and which signal it reads.

A node is an index from 0, and the index N stands for the union of all nodes.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from fedmia_jax import options, types
from fedmia_jax.attacks import signals
from fedmia_jax.schedule import Schedule

Fitted = Mapping[str, Any]  # arrays by name, nested mappings allowed


class ModelAttack(NamedTuple):
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
class KnownRecords:
    """What J reference federations say of M records, as arrays for compiled programs."""

    phi: Shaped[Array, "J T M"]  # f32, or the signal that the attack's factory names instead
    owners: Shaped[Array, "J M"]  # i32, index of the node that trained on the record, -1 for none


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sight:
    """What an adversary sees of one federation, or of S stacked, and what it knows of who trained what."""

    mask: Shaped[Array, "*S T"]  # bool, the snapshots seen
    before: Shaped[Array, "*S T"]  # i32, the snapshot that each one's training started from, -1 for none
    visits: Shaped[Array, "*S C N"]  # i32, the snapshot that each node handed on in each cycle, -1 for none


def _always(schedule: Schedule, mask: np.ndarray, node: int) -> bool:
    """Any snapshot will do."""
    del schedule, node
    return bool(mask.any())


class ReferenceAttack(NamedTuple):
    """A membership inference attack with reference federations, as pure functions, not jitted.

    Attributes:
      fit: `(key, KnownRecords) -> fitted`.
      prepare: `(fitted, node i32[]) -> ready`, what it takes to attack one node; without `combine`, N stands for the
        union of all.
      score: `(ready, phi f32[T, M]) -> f32[T, M]` at each snapshot by itself, or `(ready, phi, Sight) -> f32[M]` from
        all snapshots seen, where there is a `combine`; higher means member. Another signal comes in place of phi where
        the factory names one.
      combine: `(f32[N, M]) -> f32[M]`, the score of the union from those of the nodes. An attack that reads several
        snapshots together has one, since trajectories of different nodes' members have little in common.
      suffices: `(schedule, mask bool[T], node) -> bool`, on the host: whether a view shows what the attack needs; for
        the union it must suffice for some node.
      names_nodes: whether the node with the highest score is the one that the attack holds to own a record.
      by_the_dozen: whether it is cheap enough to be asked for every coalition of some size.
    """

    fit: Callable[[jax.Array, KnownRecords], Any]
    prepare: Callable[[Any, jax.Array], Any]
    score: Callable[..., jax.Array]
    combine: Callable[[jax.Array], jax.Array] | None = None
    suffices: Callable[[Schedule, np.ndarray, int], bool] = _always
    names_nodes: bool = False
    by_the_dozen: bool = True


class Most(NamedTuple):
    """Records of a reference that a node holds, and that nobody holds, at most: static, so that shapes can be."""

    held: int
    outside: int

    @classmethod
    def of(cls, owners: np.ndarray) -> "Most":
        """Counts them where `owners` i32[J, M] is the node's index, or negative for a record outside."""
        held = [int((owners == node).sum(axis=1).max()) for node in np.unique(owners[owners >= 0])]
        return cls(max(held, default=0), int((owners < 0).sum(axis=1).max()))


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a reference attack is made for.

    Attributes:
      nodes: N.
      masks: bool[T] each, the views that it will be asked for; one that is there twice counts twice.
      before: i32[T], see `Sight`; of the first federation where they go in different orders.
      visits: i32[C, N], see `Sight`.
      most: of the references that attacks are fitted on; None where that is not known, so that it may be all.
    """

    nodes: int
    masks: Sequence[np.ndarray]
    before: np.ndarray
    visits: np.ndarray
    most: Most | None = None

    @classmethod
    def of(cls, schedule: Schedule, masks: Sequence[np.ndarray]) -> "Setup":
        """Returns what attacks are made for where snapshots stand in the order of a schedule."""
        return cls(schedule.nodes, masks, schedule.before, schedule.visits)


@dataclasses.dataclass(frozen=True)
class ModelAttackFactory:
    """An attack on one model in a registry.

    Attributes:
      make: `(options, num_classes) -> ModelAttack`.
      options: the group of options that it reads, declared beside it.
    """

    make: Callable[[Any, int], ModelAttack]
    options: type = options.NoOptions


def _reads_phi(settings: Any) -> signals.Signal:
    """What attacks read that name no signal."""
    del settings
    return signals.PHI


@dataclasses.dataclass(frozen=True)
class ReferenceAttackFactory:
    """An attack with reference federations in a registry.

    Attributes:
      make: `(options, Setup) -> ReferenceAttack`.
      options: the group of options that it reads, declared beside it.
      signal: `(options) -> Signal`, what the attack reads of every record at every snapshot, of targets and references.
    """

    make: Callable[[Any, Setup], ReferenceAttack]
    options: type = options.NoOptions
    signal: Callable[[Any], signals.Signal] = _reads_phi


Factory = ModelAttackFactory | ReferenceAttackFactory


def any_node(scores: Float[Array, "N M"]) -> Float[Array, "M"]:
    """Returns log odds of the union from log odds of the nodes; a member of the union is one of any node."""
    return jax.nn.logsumexp(scores, axis=0) - np.log(scores.shape[0])


def largest(scores: Float[Array, "N M"]) -> Float[Array, "M"]:
    """Returns the score of the node that shows most, as that of the union."""
    return scores.max(axis=0)


def no_fit(key: jax.Array, references: KnownRecords) -> tuple[()]:
    """Learns nothing."""
    del key, references
    return ()


def num_held_out(num_shadows: int) -> int:
    """Returns how many shadows only check the attack: one in ten, at least one."""
    return max(1, num_shadows // 10)


def gain_at_end(curve: np.ndarray) -> float:
    """Returns how much accuracy on held-out shadows the second half of fitting still brought.

    Args:
      curve: f32[..., E], see `ModelAttack.curve`.

    Returns:
      The largest gain over the leading axes: mean of the last tenth less mean of the tenth before the middle. An
      attack that is still gaining has not converged, and makes models look more private than they are.
    """
    tenth, middle = max(1, curve.shape[-1] // 10), curve.shape[-1] // 2
    before = curve[..., max(0, middle - tenth) : max(1, middle)].mean(axis=-1)
    return float((curve[..., -tenth:].mean(axis=-1) - before).max())


def balance(membership: Bool[Array, "*m"], weights: Float[Array, "*m"]) -> Float[Array, "*m"]:
    """Reweights records so that members and non-members count alike, with mean weight 1 over all slots.

    Args:
      membership: whether each record is a member.
      weights: 0 for padding.

    Returns:
      Weights of which the members' sum to half of the total.
    """
    members = weights * membership
    others = weights * ~membership
    return 0.5 * membership.size * (members / members.sum() + others / others.sum())


NodeIndex = Int[Array, ""]  # 0..N-1, or N for the union
