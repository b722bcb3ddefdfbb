"""LiRA, the likelihood ratio of a record's signal with it and without it.

Source: Carlini et al. (2022), algorithm 1 (online) and its offline form; the signal is phi, see `signals.phi`.
Departure: a record's mean as a member of one node leans on a regression, see `moments.inside`; for the union of all
nodes, where half of the references hold a record, it is in effect the record's own mean. By default each record has a
variance of its own, which leans on that of all, and the density is t, see `scales`.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fedmia_jax import options
from fedmia_jax.attacks import contract, moments, scales


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How the spread of a signal is estimated."""

    variance: str = options.option(
        "empirical_bayes",
        "LiRA: variance of each record leaning on that of all, with tails; of all records; of each",
        choices=("empirical_bayes", "pooled", "per_record"),
    )


def log_density(
    values: Float[Array, "..."], mean: Float[Array, "..."], variance: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Returns the log of the normal density."""
    return -0.5 * ((values - mean) ** 2 / variance + jnp.log(2 * jnp.pi * variance))


def likelihood_ratio(
    values: Float[Array, "*shape"], inside: moments.Moments, outside: moments.Moments
) -> Float[Array, "*shape"]:
    """Returns the log likelihood ratio of member against non-member, Eq. (4), natural log."""
    return log_density(values, inside.mean, inside.variance) - log_density(values, outside.mean, outside.variance)


def deviation(values: Float[Array, "*shape"], outside: moments.Moments) -> Float[Array, "*shape"]:
    """Returns how many standard deviations a value lies above the mean of a non-member.

    The offline score 1 - Pr[Z > phi] is the normal distribution function of this, which saturates; the order is the
    same.
    """
    return (values - outside.mean) / jnp.sqrt(outside.variance)


def make_attack(settings: Options, setup: contract.Setup, *, online: bool) -> contract.ReferenceAttack:
    """Builds LiRA at every snapshot.

    Args:
      settings: `variance`, of each record leaning on that of all, pooled over records, or of each alone.
      setup: the number of nodes, which as a node stands for the union.
      online: compare with references that trained on the record; else only with those that did not.
    """
    if settings.variance == "empirical_bayes":
        return _make_online(setup) if online else _make_offline()
    per_record = settings.variance == "per_record"

    def fit(key: jax.Array, references: contract.KnownRecords) -> contract.Fitted:
        del key
        out = moments.outside(references.phi, references.owners, per_record=per_record)
        return {"phi": references.phi, "owners": references.owners, "out": out}

    def prepare(fitted: contract.Fitted, node: jax.Array) -> tuple[moments.Moments | None, moments.Moments]:
        phi, owners, out = fitted["phi"], fitted["owners"], fitted["out"]
        if not online:
            return None, out
        return moments.inside(phi, owners, node, out.mean, nodes=setup.nodes, per_record=per_record), out

    def score(ready: tuple[moments.Moments | None, moments.Moments], phi: jax.Array) -> jax.Array:
        inside, out = ready
        return deviation(phi, out) if inside is None else likelihood_ratio(phi, inside, out)

    return contract.ReferenceAttack(fit, prepare, score)


def _make_online(setup: contract.Setup) -> contract.ReferenceAttack:
    """LiRA with the scale of each record, against members of the attacked node."""

    def fit(key: jax.Array, references: contract.KnownRecords) -> contract.Fitted:
        del key
        return {"phi": references.phi, "owners": references.owners}

    def prepare(fitted: contract.Fitted, node: jax.Array) -> scales.Law:
        phi, owners = fitted["phi"], fitted["owners"]
        members = moments.membership(owners, node, nodes=setup.nodes)
        return scales.find_law(phi, *(each.astype(phi.dtype) for each in (owners < 0, members)))

    def score(law: scales.Law, phi: jax.Array) -> jax.Array:
        outside, inside = (scales.log_density(phi, group, law.freedom) for group in law.groups)
        return inside - outside

    return contract.ReferenceAttack(fit, prepare, score)


def _make_offline() -> contract.ReferenceAttack:
    """LiRA with the scale of each record, from non-members alone; equal tails of all records leave the order alone."""

    def fit(key: jax.Array, references: contract.KnownRecords) -> contract.Fitted:
        del key
        return {"out": scales.find_law(references.phi, (references.owners < 0).astype(references.phi.dtype)).groups[0]}

    def prepare(fitted: contract.Fitted, node: jax.Array) -> moments.Moments:
        del node
        return fitted["out"]

    def score(outside: moments.Moments, phi: jax.Array) -> jax.Array:
        return deviation(phi, outside)

    return contract.ReferenceAttack(fit, prepare, score)


ONLINE = contract.ReferenceAttackFactory(functools.partial(make_attack, online=True), Options)
OFFLINE = contract.ReferenceAttackFactory(functools.partial(make_attack, online=False), Options)
