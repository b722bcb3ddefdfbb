"""Difficulty calibration: a record's loss, less what it loses at models that were not trained on it.

Source: Watson, Guo, Cormode and Sablayrolles (2022), Eq. (3), signal: loss, averaged over the references without it.
"""

import jax
import jax.numpy as jnp

from fedmia_jax import options
from fedmia_jax.attacks import contract, moments, signals


def make_attack(settings: options.NoOptions, setup: contract.Setup) -> contract.ReferenceAttack:
    """Builds the calibrated loss at every snapshot, mean loss outside less loss here."""
    del settings, setup

    def fit(key: jax.Array, references: contract.KnownRecords) -> contract.Fitted:
        del key
        outside = (references.owners < 0).astype(references.phi.dtype)
        total = moments.total(signals.loss(references.phi), outside)
        return {"expected": total / jnp.maximum(outside.sum(axis=0), 1)}

    def prepare(fitted: contract.Fitted, node: jax.Array) -> jax.Array:
        del node
        return fitted["expected"]

    def score(expected: jax.Array, phi: jax.Array) -> jax.Array:
        return expected - signals.loss(phi)

    return contract.ReferenceAttack(fit, prepare, score)


CALIBRATION = contract.ReferenceAttackFactory(make_attack)
