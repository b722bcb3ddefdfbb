"""Sequence LiRA: one likelihood ratio of all that a party saw of a record, hand-off after hand-off.

The trajectory of phi over the seen snapshots is Gaussian, with the record and without it; means as in `moments.py`, one
covariance for members of a node and one for non-members, of the errors with which a reference is predicted from the
others, shrunk towards their diagonals. Source: Carlini et al. (2022), section VI-C (several queries as a multivariate
normal); Ledoit and Wolf (2004) (shrinkage). Departure: the queries are snapshots, not augmentations.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fedmia_jax import options
from fedmia_jax.attacks import contract, moments

# Trajectories have heavier tails than a normal: trusting every small correlation of fifty snapshots makes an adversary
# who sees all of them worse than one who sees ten. A fifth off costs a normal toy nothing that counts.
LEAST_SHRINKAGE = 0.2


def prediction_errors(
    phi: Float[Array, "J T M"], weights: Float[Array, "J M"], prior: Float[Array, "T M"]
) -> Float[Array, "J T M"]:
    """Returns how far each reference is from the mean that the others predict, see `moments.estimate`."""
    count = weights.sum(axis=0)
    own, _, within, between = moments.spreads(phi, weights, prior)
    freedom = jnp.maximum(count - 1, 0)
    others = (own * count - phi) / jnp.maximum(freedom, 1)
    trust = freedom * between / (freedom * between + jnp.maximum(within, moments.FLOOR))
    return phi - (prior + trust * (others - prior))


def shrunk_covariance(errors: Float[Array, "J T M"], weights: Float[Array, "J M"]) -> Float[Array, "T T"]:
    """Returns second moments of the errors over references and records, shrunk towards their diagonal."""
    count = weights.sum()
    sample = jnp.einsum("jtm,jum,jm->tu", errors, errors, weights) / jnp.maximum(count, 1)
    size = sample.shape[0]
    share = jnp.maximum(LEAST_SHRINKAGE, size / (size + count))  # of as many observations as dimensions, half is left
    diagonal = jnp.diag(sample) + moments.FLOOR
    return (1 - share) * sample + jnp.diag(share * diagonal + (1 - share) * moments.FLOOR)


def log_density(
    values: Float[Array, "T M"], covariance: Float[Array, "T T"], mask: Bool[Array, "T"]
) -> Float[Array, "M"]:
    """Returns the log of the centred normal density of the seen snapshots, up to a constant of the mask."""
    both = mask[:, None] & mask
    seen = jnp.where(both, covariance, jnp.eye(len(mask), dtype=covariance.dtype))
    root = jnp.linalg.cholesky(seen)
    inverse = jax.scipy.linalg.solve_triangular(root, jnp.eye(len(mask), dtype=root.dtype), lower=True)
    white = inverse @ jnp.where(mask[:, None], values, 0.0)
    return -0.5 * (white**2).sum(axis=0) - jnp.log(jnp.diag(root)).sum()


def make_attack(settings: options.NoOptions, setup: contract.Setup) -> contract.ReferenceAttack:
    """Builds the likelihood ratio over the seen snapshots."""
    del settings

    def fit(key: jax.Array, references: contract.KnownRecords) -> contract.Fitted:
        del key
        phi, owners = references.phi, references.owners
        out = moments.outside(phi, owners)
        weights = (owners < 0).astype(phi.dtype)
        prior = jnp.einsum("jtm,jm->t", phi, weights) / jnp.maximum(weights.sum(), 1)
        errors = prediction_errors(phi, weights, jnp.broadcast_to(prior[:, None], out.mean.shape))
        return {"phi": phi, "owners": owners, "mean": out.mean, "covariance": shrunk_covariance(errors, weights)}

    def prepare(fitted: contract.Fitted, node: jax.Array) -> Any:
        phi, out = fitted["phi"], fitted["mean"]
        weights = moments.membership(fitted["owners"], node, nodes=setup.nodes).astype(phi.dtype)
        prior = moments.regress(phi, weights, out)
        inside = moments.estimate(phi, weights, prior).mean
        of_inside = shrunk_covariance(prediction_errors(phi, weights, prior), weights)
        return (inside, of_inside), (out, fitted["covariance"])

    def score(ready: Any, phi: jax.Array, sight: contract.Sight) -> jax.Array:
        (inside, of_inside), (out, of_out) = ready
        return log_density(phi - inside, of_inside, sight.mask) - log_density(phi - out, of_out, sight.mask)

    return contract.ReferenceAttack(fit, prepare, score, combine=contract.any_node, names_nodes=True)


SEQUENCE_LIRA = contract.ReferenceAttackFactory(make_attack)
