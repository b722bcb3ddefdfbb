"""Sequence LiRA: one likelihood ratio of all that a party saw of a record, hand-off after hand-off.

The trajectory of phi over the seen snapshots is Gaussian, with the record and without it; means as in `moments.py`, one
covariance for members of a node and one for non-members, of the errors with which a reference is predicted from the
others, shrunk towards their diagonals. Source: Carlini et al. (2022), section VI-C (several queries as a multivariate
normal); Ledoit and Wolf (2004) (shrinkage). Departure: the queries are snapshots, not augmentations.
"""

import jax
import jax.numpy as jnp

from fedmia_jax import config
from fedmia_jax.attacks import contract, moments

# Trajectories have heavier tails than a normal: trusting every small correlation of fifty snapshots makes an adversary
# who sees all of them worse than one who sees ten. A fifth off costs a normal toy nothing that counts.
LEAST_SHRINKAGE = 0.2


def errors_of(phi: jax.Array, weights: jax.Array, prior: jax.Array) -> jax.Array:
    """How far each reference is from the mean that the others predict: f32[J, T, M], see `moments.estimate`."""
    count = weights.sum(axis=0)
    own, _, within, between = moments.spreads(phi, weights, prior)
    freedom = jnp.maximum(count - 1, 0)
    others = (own * count - phi) / jnp.maximum(freedom, 1)
    trust = freedom * between / (freedom * between + jnp.maximum(within, moments.FLOOR))
    return phi - (prior + trust * (others - prior))


def covariance(errors: jax.Array, weights: jax.Array) -> jax.Array:
    """Second moments of the errors over references and records, shrunk towards their diagonal: f32[T, T]."""
    count = weights.sum()
    found = jnp.einsum("jtm,jum,jm->tu", errors, errors, weights) / jnp.maximum(count, 1)
    size = found.shape[0]
    share = jnp.maximum(LEAST_SHRINKAGE, size / (size + count))  # of as many observations as dimensions, half is left
    diagonal = jnp.diag(found) + moments.FLOOR
    return (1 - share) * found + jnp.diag(share * diagonal + (1 - share) * moments.FLOOR)


def log_density(values: jax.Array, covariance: jax.Array, mask: jax.Array) -> jax.Array:
    """Log of the centred normal density of the seen part, up to a constant of the mask: [T, M], [T, T], [T] -> [M]."""
    both = mask[:, None] & mask
    seen = jnp.where(both, covariance, jnp.eye(len(mask), dtype=covariance.dtype))
    root = jnp.linalg.cholesky(seen)
    inverse = jax.scipy.linalg.solve_triangular(root, jnp.eye(len(mask), dtype=root.dtype), lower=True)
    white = inverse @ jnp.where(mask[:, None], values, 0.0)
    return -0.5 * (white**2).sum(axis=0) - jnp.log(jnp.diag(root)).sum()


def make_attack(settings: config.Attack) -> contract.Comparison:
    """Builds the likelihood ratio over the seen snapshots."""
    del settings

    def fit(key, references):
        del key
        phi, owners = references.phi, references.owners
        out = moments.outside(phi, owners)
        weights = (owners < 0).astype(phi.dtype)
        prior = jnp.einsum("jtm,jm->t", phi, weights) / jnp.maximum(weights.sum(), 1)
        errors = errors_of(phi, weights, jnp.broadcast_to(prior[:, None], out.mean.shape))
        return {"phi": phi, "owners": owners, "mean": out.mean, "covariance": covariance(errors, weights)}

    def prepare(fitted, node):
        phi, out = fitted["phi"], fitted["mean"]
        weights = moments.membership(fitted["owners"], node).astype(phi.dtype)
        prior = moments.regress(phi, weights, out)
        inside = moments.estimate(phi, weights, prior).mean
        return (inside, covariance(errors_of(phi, weights, prior), weights)), (out, fitted["covariance"])

    def score(ready, phi, mask):
        (inside, of_inside), (out, of_out) = ready
        return log_density(phi - inside, of_inside, mask) - log_density(phi - out, of_out, mask)

    return contract.Comparison(fit, prepare, score, combine=contract.any_node)
