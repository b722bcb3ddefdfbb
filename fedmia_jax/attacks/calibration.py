"""Difficulty calibration: a record's loss, less what it loses at models that were not trained on it.

Source: Watson, Guo, Cormode and Sablayrolles (2022), Eq. (3), signal: loss, averaged over the references without it.
"""

import jax.numpy as jnp

from fedmia_jax import config, signals
from fedmia_jax.attacks import contract


def make_attack(settings: config.Attack) -> contract.Comparison:
    """Builds the calibrated loss at every snapshot, mean loss outside less loss here."""
    del settings

    def fit(key, references):
        del key
        outside = (references.owners < 0).astype(references.phi.dtype)
        total = jnp.einsum("jtm,jm->tm", signals.loss(references.phi), outside)
        return {"expected": total / jnp.maximum(outside.sum(axis=0), 1)}

    def prepare(fitted, node):
        del node
        return fitted["expected"]

    def score(expected, phi):
        return expected - signals.loss(phi)

    return contract.Comparison(fit, prepare, score)
