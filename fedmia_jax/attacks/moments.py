"""How a record's signal is distributed with it and without it, from reference federations.

One-way random effects: a record's mean is drawn around a prior, what a federation then says of it around that mean.
Both spreads are estimated from all records, so that a record that was a member in few references leans on the prior,
and one with many on itself. With many references this is the plain mean of Carlini et al. (2022).
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from fedmia_jax.attacks import contract

CURVE = 2  # degree of the polynomial that predicts a member's mean from its mean as a non-member
FLOOR = 1e-6  # least variance


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean and predictive variance of a signal, by snapshot and record."""

    mean: Shaped[Array, "*shape"]  # f32[T, M]
    variance: Shaped[Array, "*shape"]  # f32[T, M]


def total(
    phi: Float[Array, "J T M"], weights: Float[Array, "J M"], *, around: Float[Array, "T M"] | None = None
) -> Float[Array, "T M"]:
    """Returns the weighted sum over references of a signal, or of its squared distance from something.

    One reference after the other: a reduction over the first axis would take a CPU eight times as long.
    """

    def add(reference: jax.Array, sums: jax.Array) -> jax.Array:
        values = phi[reference] if around is None else (phi[reference] - around) ** 2
        return sums + values * weights[reference]

    return jax.lax.fori_loop(0, len(phi), add, jnp.zeros_like(phi[0]))


def outside(phi: Float[Array, "J T M"], owners: Int[Array, "J M"], *, per_record: bool = False) -> Moments:
    """Returns the moments of every record where it was no member.

    The prior is the mean over all records of a snapshot.

    Args:
      phi: the signal at J reference federations.
      owners: -1 for a record that the federation did not train on.
      per_record: a variance for each record, rather than one for all records of a snapshot.
    """
    weights = (owners < 0).astype(phi.dtype)
    prior = total(phi, weights).sum(axis=1) / jnp.maximum(weights.sum(), 1)
    return estimate(phi, weights, jnp.broadcast_to(prior[:, None], phi.shape[1:]), per_record=per_record)


def inside(
    phi: Float[Array, "J T M"],
    owners: Int[Array, "J M"],
    node: contract.NodeIndex,
    out_mean: Float[Array, "T M"],
    *,
    nodes: int,
    per_record: bool = False,
) -> Moments:
    """Returns the moments of every record where it was a member of one node, or of any.

    With N nodes a record is in a given one in one of 2N references, so its prior is a regression, at each snapshot, of
    members upon their mean as non-members.

    Args:
      phi: see `outside`.
      owners: see `outside`.
      node: index of the node; N for the union of all.
      out_mean: mean of each record as a non-member.
      nodes: N.
      per_record: see `outside`.
    """
    weights = membership(owners, node, nodes=nodes).astype(phi.dtype)
    return estimate(phi, weights, regress(phi, weights, out_mean), per_record=per_record)


def membership(owners: Int[Array, "*shape"], node: contract.NodeIndex, *, nodes: int) -> Bool[Array, "*shape"]:
    """Returns whether a record is one of a node's, or one of any node's where `node` is N."""
    return jnp.where(node == nodes, owners >= 0, owners == node)


def regress(
    phi: Float[Array, "J T M"], weights: Float[Array, "J M"], out_mean: Float[Array, "T M"]
) -> Float[Array, "T M"]:
    """Returns what least squares predict of a signal from a polynomial in `out_mean`, snapshot by snapshot."""
    count, sums = weights.sum(axis=0), total(phi, weights)
    centre = (out_mean * count).sum(axis=1, keepdims=True) / jnp.maximum(count.sum(), 1)
    spread = jnp.sqrt(((out_mean - centre) ** 2 * count).sum(axis=1, keepdims=True) / jnp.maximum(count.sum(), 1))
    powers = ((out_mean - centre) / jnp.maximum(spread, FLOOR))[..., None] ** jnp.arange(CURVE + 1)  # [T, M, P]
    gram = jnp.einsum("tmp,tmq,m->tpq", powers, powers, count) + 1e-3 * jnp.eye(CURVE + 1)
    slopes = jnp.linalg.solve(gram, jnp.einsum("tmp,tm->tp", powers, sums)[..., None])[..., 0]
    return jnp.einsum("tmp,tp->tm", powers, slopes)


def spreads(
    phi: Float[Array, "J T M"], weights: Float[Array, "J M"], prior: Float[Array, "T M"]
) -> tuple[Float[Array, "T M"], Float[Array, "T M"], Float[Array, "T 1"], Float[Array, "T 1"]]:
    """Returns each record's own mean and sum of squares around it, then the variance within and between records.

    Args:
      phi: see `estimate`.
      weights: see `estimate`.
      prior: see `estimate`.
    """
    count = weights.sum(axis=0)
    own = total(phi, weights) / jnp.maximum(count, 1)
    around = total(phi, weights, around=own)
    freedom = jnp.maximum(count - 1, 0).sum()
    every = total(phi, weights, around=prior).sum(axis=1) / jnp.maximum(count.sum(), 1)
    # Where no record has two observations, all of the spread counts as within.
    within = jnp.where(freedom > 0, around.sum(axis=1) / jnp.maximum(freedom, 1), every)[:, None]
    return own, around, within, jnp.maximum(every[:, None] - within, FLOOR)


def estimate(
    phi: Float[Array, "J T M"],
    weights: Float[Array, "J M"],
    prior: Float[Array, "T M"],
    *,
    per_record: bool = False,
) -> Moments:
    """Returns means shrunk to a prior, and the variance of the next observation: empirical Bayes.

    Args:
      phi: see `outside`.
      weights: 1 for the references that count for a record, else 0.
      prior: what the mean of each record is drawn around.
      per_record: see `outside`.
    """
    count = weights.sum(axis=0)
    own, around, within, between = spreads(phi, weights, prior)
    freedom = jnp.maximum(count - 1, 0)
    spread = jnp.broadcast_to(within, own.shape)
    if per_record:
        spread = jnp.where(freedom > 0, around / jnp.maximum(freedom, 1), spread)
    spread = jnp.maximum(spread, FLOOR)
    trust = count * between / (count * between + spread)
    return Moments(prior + trust * (own - prior), spread + (1 - trust) * between)
