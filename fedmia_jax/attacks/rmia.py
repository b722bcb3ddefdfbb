"""RMIA: how often a record's likelihood ratio beats that of a population record.

Source: Zarifzadeh, Liu and Shokri (2024), Eq. (4) and (10): Pr_z[LR(x, z) >= gamma], where LR(x, z) is
(p(x | target) / p(x)) / (p(z | target) / p(z)) and p(.) the mean over reference models. Departure: z are drawn from the
scored records, whose membership the attack does not look at. The signal is the logit of p(x), see
`signals.at_temperature`.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fedmia_jax import options
from fedmia_jax.attacks import contract, signals

NUM_POPULATION = 2_500
LEAST_KNOWN = 0.75  # share of records that some reference trained on
LEAST = 1e-30  # probabilities below count as this; exp(-69)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is read, when a record beats another, and what is believed of records that no reference trained on."""

    rmia_temperature: float = options.option(
        2.0, "RMIA: number that logits are divided by before their softmax", above=0.0
    )
    rmia_softmax: str = options.option("softmax", "RMIA: how logits become p(x)", choices=tuple(signals.SOFTMAXES))

    gamma: float = options.option(1.0, "RMIA: ratio by which a record must beat a population record", low=1.0)
    offline_a: float = options.option(
        0.3, "RMIA offline: how far p(x) is believed to exceed its mean without x", low=0.0, high=1.0
    )


def log_mean(phi: Float[Array, "J T M"], weights: Float[Array, "J M"]) -> Float[Array, "T M"]:
    """Returns the log of the mean probability of the label over references."""
    logs = -signals.loss(phi)
    total = jax.nn.logsumexp(logs, axis=0, b=weights[:, None])
    return jnp.maximum(total - jnp.log(jnp.maximum(weights.sum(axis=0), 1)), jnp.log(LEAST))


def log_marginal(references: contract.KnownRecords) -> Float[Array, "T M"]:
    """Returns the log of p(x), the mean of the references with and without each record, each half.

    Where most records are in no reference, the references are those of the offline attack, and p(x) is theirs.
    """
    held = references.owners >= 0
    out = log_mean(references.phi, (~held).astype(references.phi.dtype))
    both = jnp.logaddexp(out, log_mean(references.phi, held.astype(references.phi.dtype))) - jnp.log(2.0)
    known = held.any(axis=0)
    return jnp.where(known & (jnp.mean(known) > LEAST_KNOWN), both, out)


def ratios(phi: Float[Array, "*shape"], reference: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns the log of p(x | target) / p(x)."""
    return -signals.loss(phi) - reference


def dominated(values: Float[Array, "M"], population: Float[Array, "Z"], *, gamma: float) -> Float[Array, "M"]:
    """Returns the share of the population with LR(x, z) >= gamma.

    Args:
      values: logs of the records' ratios.
      population: logs of the population records' ratios.
      gamma: at least 1.
    """
    beaten = jnp.searchsorted(jnp.sort(population), values - np.log(gamma), side="right")
    return beaten.astype(values.dtype) / population.shape[0]


def make_attack(settings: Options, setup: contract.Setup, *, online: bool) -> contract.ReferenceAttack:
    """Builds RMIA at every snapshot.

    Args:
      settings: `gamma`, and `offline_a` for p(x) = ((1 + a) p_out(x) + (1 - a)) / 2, Eq. (11).
      setup: not needed.
      online: p(x) is the mean of references with and without the record, each half; else from those without.
    """
    del setup

    def fit(key: jax.Array, references: contract.KnownRecords) -> contract.Fitted:
        del key
        if online:
            return {"reference": log_marginal(references)}
        a, out = settings.offline_a, log_mean(references.phi, (references.owners < 0).astype(references.phi.dtype))
        return {"reference": jnp.log(((1 + a) * jnp.exp(out) + (1 - a)) / 2)}

    def prepare(fitted: contract.Fitted, node: jax.Array) -> jax.Array:
        del node
        return fitted["reference"]

    def score(reference: jax.Array, phi: jax.Array) -> jax.Array:
        values = ratios(phi, reference)
        step = max(1, phi.shape[1] // NUM_POPULATION)
        return jax.vmap(lambda row: dominated(row, row[::step], gamma=settings.gamma))(values)

    return contract.ReferenceAttack(fit, prepare, score)


def signal(settings: Options) -> signals.Signal:
    """Returns the logit of p(x) at the attack's temperature."""
    return signals.at_temperature(settings.rmia_temperature, softmax=settings.rmia_softmax)


ONLINE = contract.ReferenceAttackFactory(functools.partial(make_attack, online=True), Options, signal)
OFFLINE = contract.ReferenceAttackFactory(functools.partial(make_attack, online=False), Options, signal)
