"""LiRA, the likelihood ratio of a record's signal with it and without it.

Source: Carlini et al. (2022), algorithm 1 (online) and its offline form; the signal is phi, see `signals.phi`.
Departure: a record's mean as a member of one node leans on a regression, see `moments.inside`; for the union of all
nodes, where half of the references hold a record, it is in effect the record's own mean.
"""

import functools

import jax
import jax.numpy as jnp

from fedmia_jax import config
from fedmia_jax.attacks import contract, moments


def log_density(values: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
    """Log of the normal density: f32[...]."""
    return -0.5 * ((values - mean) ** 2 / variance + jnp.log(2 * jnp.pi * variance))


def likelihood_ratio(values: jax.Array, inside: moments.Moments, outside: moments.Moments) -> jax.Array:
    """Log likelihood ratio of member against non-member, Eq. (4): f32[...], natural log."""
    return log_density(values, inside.mean, inside.variance) - log_density(values, outside.mean, outside.variance)


def deviation(values: jax.Array, outside: moments.Moments) -> jax.Array:
    """Standard deviations above the mean of a non-member: f32[...].

    The offline score 1 - Pr[Z > phi] is the normal distribution function of this, which saturates; the order is the
    same.
    """
    return (values - outside.mean) / jnp.sqrt(outside.variance)


def make_attack(settings: config.Attack, *, online: bool) -> contract.Comparison:
    """Builds LiRA at every snapshot.

    Args:
      settings: `variance`, pooled over records or for each.
      online: compare with references that trained on the record; else only with those that did not.
    """
    estimate = functools.partial(moments.outside, per_record=settings.variance == "per_record")

    def fit(key, references):
        del key
        return {"phi": references.phi, "owners": references.owners, "out": estimate(references.phi, references.owners)}

    def prepare(fitted, node):
        per_record = settings.variance == "per_record"
        phi, owners, out = fitted["phi"], fitted["owners"], fitted["out"]
        return (moments.inside(phi, owners, node, out.mean, per_record=per_record) if online else None), out

    def score(ready, phi):
        inside, out = ready
        return likelihood_ratio(phi, inside, out) if online else deviation(phi, out)

    return contract.Comparison(fit, prepare, score)
