"""BASE: a record's log-probability, less the log of its mean probability at references.

Source: Lassila, Östman and Ngo (2025), Practical Bayes-Optimal Membership Inference Attacks (arXiv 2505.24089): the
loss against a threshold for each record, a log-mean-exp of negative losses at reference models; offline a share of that
threshold. Departure: online the references with and without a record count half each, however many there are of both,
which is what the paper's draw of half of the records gives.
"""

import dataclasses
import functools

import jax

from fedmia_jax import options
from fedmia_jax.attacks import contract, rmia, signals


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is read, and how much of the threshold counts without references that trained on the record."""

    base_temperature: float = options.option(
        2.0, "BASE: number that logits are divided by before their softmax", above=0.0
    )
    base_scale: float = options.option(
        0.33, "BASE offline: share of the threshold from references without the record", low=0.0, high=1.0
    )


def make_attack(settings: Options, setup: contract.Setup, *, online: bool) -> contract.ReferenceAttack:
    """Builds BASE at every snapshot.

    Args:
      settings: `base_scale` for the offline attack.
      setup: not needed.
      online: thresholds come from references with and without the record; else from those without.
    """
    del setup

    def fit(key: jax.Array, references: contract.KnownRecords) -> contract.Fitted:
        del key
        if online:
            return {"threshold": rmia.log_marginal(references)}
        out = rmia.log_mean(references.phi, (references.owners < 0).astype(references.phi.dtype))
        return {"threshold": settings.base_scale * out}

    def prepare(fitted: contract.Fitted, node: jax.Array) -> jax.Array:
        del node
        return fitted["threshold"]

    def score(threshold: jax.Array, phi: jax.Array) -> jax.Array:
        return rmia.ratios(phi, threshold)

    return contract.ReferenceAttack(fit, prepare, score)


def signal(settings: Options) -> signals.Signal:
    """Returns the logit of the label's probability at the attack's temperature."""
    return signals.at_temperature(settings.base_temperature)


ONLINE = contract.ReferenceAttackFactory(functools.partial(make_attack, online=True), Options, signal)
OFFLINE = contract.ReferenceAttackFactory(functools.partial(make_attack, online=False), Options, signal)
