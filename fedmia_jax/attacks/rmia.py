"""RMIA: how often a record's likelihood ratio beats that of a population record.

Source: Zarifzadeh, Liu and Shokri (2024), Eq. (4) and (10): Pr_z[LR(x, z) >= gamma], where LR(x, z) is
(p(x | target) / p(x)) / (p(z | target) / p(z)) and p(.) the mean over reference models. Departure: z are drawn from the
scored records, whose membership the attack does not look at.
"""

import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import config, signals
from fedmia_jax.attacks import contract

NUM_POPULATION = 2_500
LEAST_KNOWN = 0.75  # share of records that some reference trained on
LEAST = 1e-30  # probabilities below count as this; exp(-69)


def log_mean(phi: jax.Array, weights: jax.Array) -> jax.Array:
    """Log of the mean probability of the label over references: f32[J, T, M], f32[J, M] -> f32[T, M]."""
    logs = -signals.loss(phi)
    total = jax.nn.logsumexp(logs, axis=0, b=weights[:, None])
    return jnp.maximum(total - jnp.log(jnp.maximum(weights.sum(axis=0), 1)), jnp.log(LEAST))


def ratios(phi: jax.Array, reference: jax.Array) -> jax.Array:
    """Log of p(x | target) / p(x): f32[...]."""
    return -signals.loss(phi) - reference


def dominated(values: jax.Array, population: jax.Array, *, gamma: float) -> jax.Array:
    """Share of the population with LR(x, z) >= gamma: f32[M] and f32[Z] logs of ratios -> f32[M].

    Args:
      values: of the records.
      population: of the population records.
      gamma: at least 1.
    """
    beaten = jnp.searchsorted(jnp.sort(population), values - np.log(gamma), side="right")
    return beaten.astype(values.dtype) / population.shape[0]


def make_attack(settings: config.Attack, *, online: bool) -> contract.Comparison:
    """Builds RMIA at every snapshot.

    Args:
      settings: `gamma`, and `offline_a` for p(x) = ((1 + a) p_out(x) + (1 - a)) / 2, Eq. (11).
      online: p(x) is the mean of references with and without the record, each half; else from those without.
    """

    def fit(key, references):
        del key
        out = log_mean(references.phi, (references.owners < 0).astype(references.phi.dtype))
        held = (references.owners >= 0).astype(references.phi.dtype)
        if online:
            known = held.sum(axis=0) > 0
            known &= jnp.mean(known) > LEAST_KNOWN  # else the references are those of the offline attack
            both = jnp.logaddexp(out, log_mean(references.phi, held)) - jnp.log(2.0)
            return {"reference": jnp.where(known, both, out)}
        a = settings.offline_a
        return {"reference": jnp.log(((1 + a) * jnp.exp(out) + (1 - a)) / 2)}

    def prepare(fitted, node):
        del node
        return fitted["reference"]

    def score(reference, phi):
        values = ratios(phi, reference)
        step = max(1, phi.shape[1] // NUM_POPULATION)
        return jax.vmap(lambda row: dominated(row, row[::step], gamma=settings.gamma))(values)

    return contract.Comparison(fit, prepare, score)
