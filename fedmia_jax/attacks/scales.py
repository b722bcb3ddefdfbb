"""How a record's signal at one snapshot is distributed with it and without it: means, a scale of the record, tails.

The signal is t around its mean. Its squared scale is that of all members, or of all non-members, times a scale of the
record, which both have in common, since few references hold a record at a given node. A record's scale is drawn from a
log-normal prior, as wide as records differ beyond chance; degrees of freedom are those of all observations. Source:
Efron and Morris (1973), empirical Bayes; Lange, Little and Taylor (1989), the t by weights.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from fedmia_jax.attacks import moments, trajectories

NUM_ROUNDS = 3  # of means, scales, levels and tails in turn
LEAST = 1e-3  # of a sum of weights


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Law:
    """How a signal is distributed at each snapshot without each record, and with it where members were given."""

    groups: tuple[moments.Moments, ...]  # of non-members, then of members; the variance is the squared scale of the t
    freedom: Shaped[Array, "*T"]  # f32, degrees of freedom


class _Group(NamedTuple):
    """What members, or non-members, say at one snapshot."""

    mean: jax.Array  # f32[M], shrunk to the prior
    doubt: jax.Array  # f32[M], variance of the true mean around it
    errors: jax.Array  # f32[J, M], of each observation from the mean that the others give
    squares: jax.Array  # f32[J, M], weighted, around the records' own means


class _Scales(NamedTuple):
    """The scale of each record."""

    scale: jax.Array  # f32[M]
    without: jax.Array  # f32[J, M], as the observations other than this give it


class _State(NamedTuple):
    """What the rounds improve at one snapshot."""

    scale: jax.Array  # f32[M]
    levels: jax.Array  # f32[G], squared scale of each group where the record's is 1
    freedom: jax.Array  # f32[]
    tails: jax.Array  # f32[J, M], weight of each observation


def find_law(
    phi: Float[Array, "J T M"], others: Float[Array, "J M"], members: Float[Array, "J M"] | None = None
) -> Law:
    """Returns the law of every record's signal, snapshot by snapshot.

    Args:
      phi: the signal at J reference federations.
      others: 1 for a record that the federation did not train on, else 0.
      members: 1 for a member of the attacked node; None leaves members out.
    """
    groups = (others,) if members is None else (others, members)
    return jax.lax.map(lambda at_snapshot: _find(at_snapshot, groups), phi.swapaxes(0, 1))


def log_density(values: Float[Array, "T M"], law: moments.Moments, freedom: Float[Array, "T"]) -> Float[Array, "T M"]:
    """Returns the log of the t density, up to a constant of the degrees of freedom."""
    degrees = freedom[:, None]
    distance = (values - law.mean) ** 2 / law.variance
    return -0.5 * ((degrees + 1) * jnp.log1p(distance / degrees) + jnp.log(law.variance))


def _find(phi: Float[Array, "J M"], groups: Sequence[jax.Array]) -> Law:
    """The law at one snapshot."""
    counted = jnp.stack(groups).sum(axis=0)
    degrees = jnp.stack([jnp.maximum(weights.sum(axis=0) - 1, 0) for weights in groups]).sum(axis=0)

    def improve(_: Any, state: _State) -> _State:
        described = _describe(phi, groups, state)
        scales = find_scales(_relative(described, state.levels), degrees, state.freedom)
        distances = [
            group.errors**2 / jnp.maximum(scales.without * level + group.doubt, moments.FLOOR)
            for group, level in zip(described, state.levels, strict=True)
        ]
        distance = sum(weights * each for weights, each in zip(groups, distances, strict=True))
        logs = jnp.log(jnp.maximum(distance, moments.FLOOR))
        total = jnp.maximum(counted.sum(), 1)
        spread = ((logs - (logs * counted).sum() / total) ** 2 * counted).sum() / total
        freedom = trajectories.find_freedom(spread, 1).astype(phi.dtype)
        tails = (freedom + 1) / (freedom + distance)
        growth = [(tails * distance * weights).sum() / jnp.maximum(weights.sum(), 1) for weights in groups]
        return _State(scales.scale, jnp.maximum(state.levels * jnp.stack(growth), moments.FLOOR), freedom, tails)

    start = jnp.stack([_pooled(phi, weights) for weights in groups])
    normal = jnp.asarray(trajectories.FREEDOMS[-1], phi.dtype)
    state = jax.lax.fori_loop(0, NUM_ROUNDS, improve, _State(jnp.ones_like(phi[0]), start, normal, jnp.ones_like(phi)))
    variances = [level * state.scale for level in state.levels]
    found = tuple(
        moments.Moments(group.mean, jnp.maximum(variance + group.doubt, moments.FLOOR))
        for group, variance in zip(_describe(phi, groups, state), variances, strict=True)
    )
    return Law(found, state.freedom)


def _pooled(phi: Float[Array, "J M"], weights: Float[Array, "J M"]) -> Float[Array, ""]:
    """The variance around records' own means."""
    _, _, within, _ = moments.spreads(phi[:, None], weights, jnp.zeros_like(phi[:1]))
    return jnp.maximum(within[0, 0], moments.FLOOR)


def _describe(phi: Float[Array, "J M"], groups: Sequence[jax.Array], state: _State) -> list[_Group]:
    """Each group's means: the prior is one mean for non-members, and a regression upon these for members."""
    weighted = [weights * state.tails for weights in groups]
    centre = (phi * weighted[0]).sum() / jnp.maximum(weighted[0].sum(), LEAST)
    described = [_describe_one(phi, weighted[0], centre, state.scale * state.levels[0])]
    for weights, level in zip(weighted[1:], state.levels[1:], strict=True):
        prior = moments.regress(phi[:, None], weights, described[0].mean[None])[0]
        described.append(_describe_one(phi, weights, prior, state.scale * level))
    return described


def _describe_one(phi: jax.Array, weights: jax.Array, prior: jax.Array, variance: jax.Array) -> _Group:
    """One group's means, shrunk to a prior as far as they do not differ from it beyond chance."""
    count = weights.sum(axis=0)
    at_least = jnp.maximum(count, LEAST)
    own, noise = (phi * weights).sum(axis=0) / at_least, variance / at_least
    between = jnp.sum(((own - prior) ** 2 - noise) * count) / jnp.maximum(count.sum(), 1)
    between = jnp.maximum(between, moments.FLOOR)
    trust = jnp.where(count > 0, between / (between + noise), 0)
    mean = prior + trust * (own - prior)
    leverage = weights * trust / at_least
    errors = (phi - mean) / jnp.maximum(1 - leverage, 1 - trajectories.MOST_LEVERAGE)
    return _Group(mean, (1 - trust) * between, errors, weights * (phi - own) ** 2)


def _relative(described: Sequence[_Group], levels: jax.Array) -> Float[Array, "J M"]:
    """Squares of all groups, each in units of its level."""
    return sum((group.squares / level for group, level in zip(described, levels, strict=True)), jnp.zeros(()))


def find_scales(squares: Float[Array, "J M"], degrees: Float[Array, "M"], freedom: Float[Array, ""]) -> _Scales:
    """Returns the scale of each record, shrunk to that of all as far as they do not differ beyond chance.

    The log of a sum of squares has the mean and variance of a log chi-squared; that of squares weighted for a t of nu
    degrees is worth nu / (nu + 3) of it, the Fisher information of a scale.

    Args:
      squares: squared errors at scale 1.
      degrees: how many of them are free.
      freedom: nu.
    """
    half = 0.5 * jnp.maximum(degrees, 1) * freedom / (freedom + 3)
    chance, bias = jax.scipy.special.polygamma(1, half), jax.scipy.special.digamma(half) - jnp.log(half)

    def log_mean(total: jax.Array, count: jax.Array) -> jax.Array:
        return jnp.log(jnp.maximum(total, moments.FLOOR) / jnp.maximum(count, 1)) - bias

    total, known = squares.sum(axis=0), jnp.maximum(degrees.sum(), 1)
    logs = log_mean(total, degrees)
    centre = (logs * degrees).sum() / known
    between = jnp.maximum((((logs - centre) ** 2 - chance) * degrees).sum() / known, 0)
    trust = jnp.where(degrees > 0, between / (between + chance), 0)
    without = log_mean(total - squares, degrees - 1)
    return _Scales(jnp.exp(trust * (logs - centre)), jnp.exp(trust * (without - centre)))
