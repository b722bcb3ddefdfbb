"""The law of a record's trajectory with it and without it, from reference federations: means, scale and tails.

A record's trajectory is multivariate t around its mean, with one covariance for members of a node and one for
non-members, times a scale of the record. Means, scales and degrees of freedom are empirical Bayes: their priors are
fitted on all records of the references. Source: Lange, Little and Taylor (1989), the t by weights; Efron and Morris
(1973), shrinkage towards what all records have in common, here direction by direction of the errors' covariance.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from fedmia_jax.attacks import contract, moments

NUM_ROUNDS = 4  # of means, scales, tails and covariances in turn
MOST_LEVERAGE = 0.9  # of an observation on the mean that it is compared with
FREEDOMS = np.geomspace(1.5, 1_000.0, 80).astype(np.float32)  # degrees that are tried; the last is as good as normal


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Law:
    """How trajectories are distributed with their records and without them; N nodes where several are stacked."""

    inside: Shaped[Array, "*N T M"]  # f32, means of members
    outside: Shaped[Array, "*N T M"]  # f32, means of non-members
    of_inside: Shaped[Array, "*N T T"]  # f32, scatter of members at scale 1
    of_outside: Shaped[Array, "*N T T"]  # f32, scatter of non-members at scale 1
    scale: Shaped[Array, "*N M"]  # f32, variance of each record, geometric mean 1
    freedom: Shaped[Array, "*N"]  # f32, degrees of freedom
    trust: Shaped[Array, "*N M"]  # f32, how far the shift of each record is its own, see `_shift`


def whiten(root: Float[Array, "T T"], values: Float[Array, "M T"]) -> Float[Array, "M T"]:
    """Returns values, by record, in coordinates where the covariance with this Cholesky root is the identity.

    By record, since sums over coordinates follow: over the first axis they would take a CPU six times as long.
    """
    inverse = jax.scipy.linalg.solve_triangular(root, jnp.eye(len(root), dtype=root.dtype), lower=True)
    return values @ inverse.T


def shrunk_covariance(
    errors: Float[Array, "P T"], weights: Float[Array, "P"], count: Float[Array, ""]
) -> Float[Array, "T T"]:
    """Returns weighted second moments over observations, shrunk towards their diagonal.

    Of as many observations as dimensions, half of a correlation is left. Source: Ledoit and Wolf (2004), the idea.
    """
    sample = (errors * weights[:, None]).T @ errors / jnp.maximum(count, 1)
    share = len(sample) / (len(sample) + count)
    return (1 - share) * sample + jnp.diag(share * jnp.diag(sample) + moments.FLOOR)


def find_freedom(spread: Float[Array, ""], size: int) -> Float[Array, ""]:
    """Returns the degrees of freedom of a t in `size` dimensions from the variance of its log squared distance.

    The log of an F variable with (size, nu) degrees has variance trigamma(size / 2) + trigamma(nu / 2).
    """
    trigamma = jax.scipy.special.polygamma(1, jnp.asarray(FREEDOMS) / 2)
    target = spread - jax.scipy.special.polygamma(1, jnp.asarray(size / 2, jnp.float32))
    return jnp.asarray(FREEDOMS)[jnp.argmin(jnp.abs(trigamma - target))]


def find_scale(logs: Float[Array, "J M"], counted: Float[Array, "J M"]) -> tuple[Float[Array, "M"], Float[Array, ""]]:
    """Returns the variance of each record and how log squared distances spread within a record.

    A log-normal prior: the mean log distance of a record leans on that of all, the more the fewer its observations.
    """
    count = counted.sum(axis=0)
    own = (logs * counted).sum(axis=0) / jnp.maximum(count, 1)
    within = ((logs - own) ** 2 * counted).sum() / jnp.maximum(jnp.maximum(count - 1, 0).sum(), 1)
    known = count > 0
    centre = (own * known).sum() / jnp.maximum(known.sum(), 1)
    noise = within / jnp.maximum(count, 1)
    between = jnp.maximum((((own - centre) ** 2 - noise) * known).sum() / jnp.maximum(known.sum(), 1), 0)
    trust = jnp.where(known, between / (between + noise + moments.FLOOR), 0)
    return jnp.exp(trust * (own - centre)), within


@dataclasses.dataclass(frozen=True)
class _Group:
    """The observations of members, or of non-members: pairs of a reference and a record, side by side.

    Few pairs are of a member of one node, so that all that is done pair by pair is done on these alone.
    """

    reference: jax.Array  # i32[P], J behind the last
    record: jax.Array  # i32[P]
    real: jax.Array  # f32[P], 0 behind the last
    phi: jax.Array  # f32[P, T]

    def spread(self, values: jax.Array, like: jax.Array) -> jax.Array:
        """Puts a number of each observation in its place, 0 elsewhere: f32[J, M]."""
        return jnp.zeros_like(like).at[self.reference, self.record].set(values, mode="drop")


def _gather(phi: jax.Array, belongs: jax.Array, *, most: int) -> _Group:
    """The observations that belong to a group, of each reference so many at most."""
    reference, record = jnp.nonzero(belongs, size=len(phi) * most, fill_value=(len(phi), 0))
    real = (reference < len(phi)).astype(phi.dtype)
    seen = phi.at[reference, :, record].get(mode="fill", fill_value=0.0)
    return _Group(reference.astype(jnp.int32), record.astype(jnp.int32), real, seen)


@dataclasses.dataclass(frozen=True)
class _Counted:
    """Weighted counts and means of members and non-members."""

    inside: jax.Array  # f32[M]
    outside: jax.Array  # f32[M]
    common: jax.Array  # f32[T, M], mean of all
    difference: jax.Array  # f32[T, M], members' mean less non-members'


def _count(phi: jax.Array, members: jax.Array, others: jax.Array) -> _Counted:
    """Weighted means of both classes; their difference says nothing of the error of their common mean."""
    inside, outside = members.sum(axis=0), others.sum(axis=0)
    of_members, of_others = (moments.total(phi, each) for each in (members, others))
    common = (of_members + of_others) / jnp.maximum(inside + outside, 1e-3)
    both = (inside > 0) & (outside > 0)
    means = of_members / jnp.maximum(inside, 1e-3), of_others / jnp.maximum(outside, 1e-3)
    return _Counted(inside, outside, common, jnp.where(both, means[0] - means[1], 0.0))


def _shift(counted: _Counted, scatter: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What membership changes in each record f32[T, M], and how far it is the record's own f32[M].

    The prior is a regression on the common mean; around it, each direction in which records differ beyond the noise
    is trusted as far as it does.
    """
    pairs = counted.inside * counted.outside / jnp.maximum(counted.inside + counted.outside, 1e-3)
    prior = moments.regress(counted.difference[None], pairs[None], counted.common)
    known, root = pairs > 0, jnp.linalg.cholesky(scatter)
    white = whiten(root, jnp.where(known, counted.difference - prior, 0.0).T)
    precision = jnp.where(known, pairs / scale, 0.0)
    second = (white.T * precision) @ white - known.sum() * jnp.eye(len(root), dtype=root.dtype)
    values, axes = jnp.linalg.eigh(second / jnp.maximum(precision.sum(), moments.FLOOR))
    signal = jnp.maximum(values, 0)[:, None]
    trust = signal * precision / (signal * precision + 1)
    return prior + root @ (axes @ (trust * (axes.T @ white.T))), trust.mean(axis=0)


def _common(counted: _Counted, scatter: jax.Array, scale: jax.Array) -> jax.Array:
    """The common mean of each record, shrunk to that of all: f32[T, M]."""
    count = counted.inside + counted.outside
    centre = (counted.common * count).sum(axis=1, keepdims=True) / jnp.maximum(count.sum(), 1)
    noise = jnp.diag(scatter)[:, None] * scale / jnp.maximum(count, 1e-3)
    spread = (((counted.common - centre) ** 2 - noise) * (count > 0)).mean(axis=1, keepdims=True)
    spread = jnp.maximum(spread, moments.FLOOR)
    return centre + spread / (spread + noise) * (counted.common - centre)


def _means(
    counted: _Counted, scatter: jax.Array, scale: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array], jax.Array]:
    """Means f32[T, M] of both classes, what an observation of weight 1 moves its own by f32[M], and trust f32[M]."""
    shift, trust = _shift(counted, scatter, scale)
    common, total = _common(counted, scatter, scale), jnp.maximum(counted.inside + counted.outside, 1e-3)
    shares = counted.outside / total, counted.inside / total
    means = common + shares[0] * shift, common - shares[1] * shift
    counts = counted.inside, counted.outside
    first, second = (
        1 / total + trust * share / jnp.maximum(count, 1e-3) for share, count in zip(shares, counts, strict=True)
    )
    return means, (first, second), trust


def _improve(
    phi: jax.Array, groups: Sequence[_Group], every: jax.Array, law: Law, tails: jax.Array
) -> tuple[Law, jax.Array]:
    """One round: means, scales, tails and covariances, and then what each observation counts, f32[2, J, M] by class."""
    counts, scatters = every.sum(axis=(1, 2)), (law.of_inside, law.of_outside)
    both = (law.of_inside * counts[1] + law.of_outside * counts[0]) / jnp.maximum(counts[0] + counts[1], 1)
    means, leverages, trust = _means(_count(phi, tails[0], tails[1]), both, law.scale)
    errors, distances = [], []
    for group, mean, moved, weights, scatter in zip(groups, means, leverages, tails, scatters, strict=True):
        # What an observation moves its own mean by; taken out, its error is that of a prediction.
        leverage = weights.at[group.reference, group.record].get(mode="fill", fill_value=0.0) * moved[group.record]
        kept = jnp.maximum(1 - leverage, 1 - MOST_LEVERAGE)
        # Held, or it would be computed anew by each of its readers.
        errors.append(jax.lax.optimization_barrier((group.phi - mean.T[group.record]) / kept[:, None]))
        squares = (whiten(jnp.linalg.cholesky(scatter), errors[-1]) ** 2).sum(axis=1)
        distances.append(jnp.maximum(squares, moments.FLOOR))
    logs = [group.spread(jnp.log(far), every[0]) for group, far in zip(groups, distances, strict=True)]
    scale, spread = find_scale(logs[0] + logs[1], every[0] + every[1])
    size = phi.shape[1]
    freedom = find_freedom(spread, size)
    counted = [
        group.real * (freedom + size) / (freedom + far / scale[group.record])
        for group, far in zip(groups, distances, strict=True)
    ]
    of_inside, of_outside = (
        shrunk_covariance(error, weights / scale[group.record], count)
        for error, group, weights, count in zip(errors, groups, counted, counts, strict=True)
    )
    tails = jnp.stack([group.spread(each, every[0]) for group, each in zip(groups, counted, strict=True)])
    return Law(*means, of_inside, of_outside, scale, freedom, trust), tails


def find_law(
    phi: Float[Array, "J T M"], owners: Int[Array, "J M"], node: contract.NodeIndex, *, most: contract.Most | None
) -> Law:
    """Returns the law of every record's trajectory with it at one node and without it.

    Args:
      phi: the signal at J reference federations.
      owners: -1 for a record that the federation did not train on.
      node: index of the node.
      most: records of a reference that a node holds, and that nobody holds, at most; None for all.
    """
    belongs = owners == node, owners < 0
    limits = (phi.shape[2],) * 2 if most is None else (most.held, most.outside)
    groups = [_gather(phi, each, most=limit) for each, limit in zip(belongs, limits, strict=True)]
    every = jnp.stack(belongs).astype(phi.dtype)
    counts = every.sum(axis=(1, 2))
    out = moments.outside(phi, owners).mean
    start = shrunk_covariance(groups[1].phi - out.T[groups[1].record], groups[1].real, counts[1])
    ones = jnp.ones(phi.shape[2], phi.dtype)
    known = Law(out, out, start, start, ones, jnp.asarray(FREEDOMS[-1], phi.dtype), jnp.zeros_like(ones))

    def improve(_: Any, state: tuple[Law, jax.Array]) -> tuple[Law, jax.Array]:
        return _improve(phi, groups, every, *state)

    return jax.lax.fori_loop(0, NUM_ROUNDS, improve, (known, every))[0]


def log_density(
    values: Float[Array, "T M"],
    scatter: Float[Array, "T T"],
    mask: Bool[Array, "T"],
    scale: Float[Array, "M"],
    freedom: Float[Array, ""],
) -> Float[Array, "M"]:
    """Returns the log of the centred t density of the seen snapshots, up to a constant of mask and freedom."""
    both = mask[:, None] & mask
    root = jnp.linalg.cholesky(jnp.where(both, scatter, jnp.eye(len(mask), dtype=scatter.dtype)))
    distance = (whiten(root, jnp.where(mask[:, None], values, 0.0).T) ** 2).sum(axis=1) / scale
    size = mask.sum()
    determinant = jnp.log(jnp.diag(root)).sum() + 0.5 * size * jnp.log(scale)
    return -0.5 * (freedom + size) * jnp.log1p(distance / freedom) - determinant
