"""What one visit does to a record: the model just after a node trained, against the model just before.

Source: Salem et al. (2020) (what an update tells of the records behind it); Jagielski et al. (2022) (two snapshots:
difference and ratio of losses). Departure: mean over all visits to the node that the view brackets; for the union of
all nodes the largest over nodes.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fedmia_jax import options
from fedmia_jax.attacks import contract, signals
from fedmia_jax.schedule import Schedule

KINDS = {
    "delta_loss": lambda phi: -signals.loss(phi),
    "delta_phi": lambda phi: phi,
    "delta_ratio": lambda phi: -jnp.log(signals.loss(phi) + 1e-12),  # the difference of logs is the log of the ratio
}
NAMES_NODES = "delta_phi"  # the kind that names the holder of a record; the others would order the nodes much alike


def steps(values: Float[Array, "T M"], sight: contract.Sight) -> tuple[Float[Array, "T M"], Bool[Array, "T"]]:
    """Returns what the training behind each snapshot added to a value, and whether both of its ends are seen.

    A snapshot that was not trained, or that was trained from the initial model, has no step and is never seen as one.
    """
    start = jnp.maximum(sight.before, 0)
    added = values - values[start]
    seen = sight.mask & sight.mask[start] & (sight.before >= 0)
    return added, seen


def at_visits(
    values: Float[Array, "T M"], seen: Bool[Array, "T"], visits: Int[Array, "C N"]
) -> tuple[Float[Array, "C N M"], Float[Array, "C N"]]:
    """Returns the values at each node's hand-off of each cycle, and 1 where it took place and is seen, else 0."""
    rows = jnp.maximum(visits, 0)
    weights = (seen[rows] & (visits >= 0)).astype(values.dtype)
    return values[rows], weights


def mean_over_cycles(values: Float[Array, "C N M"], weights: Float[Array, "C N"]) -> Float[Array, "N M"]:
    """Returns the weighted mean of each node's visits; -inf for a node without weight."""
    total = jnp.einsum("cnm,cn->nm", values, weights)
    count = weights.sum(axis=0)[:, None]
    return jnp.where(count > 0, total / jnp.maximum(count, 1), -jnp.inf)


def mean_by_node(values: Float[Array, "T M"], seen: Bool[Array, "T"], visits: Int[Array, "C N"]) -> Float[Array, "N M"]:
    """Returns the mean over what is seen at the hand-offs of each node; -inf where nothing is.

    Args:
      values: of each snapshot and record.
      seen: the snapshots that count.
      visits: the snapshot that each node handed on in each cycle, -1 where it did not train.
    """
    return mean_over_cycles(*at_visits(values, seen, visits))


def by_node(values: Float[Array, "T M"], sight: contract.Sight) -> Float[Array, "N M"]:
    """Returns the mean step over the seen visits to each node; -inf for a node without one."""
    return mean_by_node(*steps(values, sight), sight.visits)


def make_attack(settings: options.NoOptions, setup: contract.Setup, *, kind: str) -> contract.ReferenceAttack:
    """Builds the difference over a visit.

    Args:
      settings: nothing to set.
      setup: not needed; the schedule says who trained what.
      kind: name in `KINDS`.
    """
    del settings, setup

    def prepare(fitted: tuple[()], node: jax.Array) -> jax.Array:
        del fitted
        return node

    def score(node: jax.Array, phi: jax.Array, sight: contract.Sight) -> jax.Array:
        return by_node(KINDS[kind](phi), sight)[node]

    def suffices(schedule: Schedule, mask: np.ndarray, node: int) -> bool:
        return len(schedule.bracketed(mask, node)) > 0

    return contract.ReferenceAttack(
        contract.no_fit,
        prepare,
        score,
        combine=contract.largest,
        suffices=suffices,
        names_nodes=kind == NAMES_NODES,
    )


FACTORIES = {kind: contract.ReferenceAttackFactory(functools.partial(make_attack, kind=kind)) for kind in KINDS}
