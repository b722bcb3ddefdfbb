"""Sequence LiRA: one likelihood ratio of all that a party saw of a record, hand-off after hand-off.

The trajectory of phi over the seen snapshots is multivariate t, with the record and without it, see `trajectories`:
an error of a record's scale multiplies with the number of snapshots, so that each record has its own. Source: Carlini
et al. (2022), section VI-C (several queries as a multivariate normal). Departure: the queries are snapshots, not
augmentations; the tails and the scale of a record are fitted.
"""

import jax

from fedmia_jax import options
from fedmia_jax.attacks import contract, trajectories


def make_attack(settings: options.NoOptions, setup: contract.Setup) -> contract.ReferenceAttack:
    """Builds the likelihood ratio of the seen snapshots.

    Args:
      settings: nothing to set.
      setup: how many records the references hold.
    """
    del settings

    def fit(key: jax.Array, references: contract.KnownRecords) -> contract.Fitted:
        del key
        return {"phi": references.phi, "owners": references.owners}

    def prepare(fitted: contract.Fitted, node: jax.Array) -> trajectories.Law:
        return trajectories.find_law(fitted["phi"], fitted["owners"], node, most=setup.most)

    def score(law: trajectories.Law, phi: jax.Array, sight: contract.Sight) -> jax.Array:
        inside = trajectories.log_density(phi - law.inside, law.of_inside, sight.mask, law.scale, law.freedom)
        return inside - trajectories.log_density(phi - law.outside, law.of_outside, sight.mask, law.scale, law.freedom)

    return contract.ReferenceAttack(fit, prepare, score, combine=contract.any_node, names_nodes=True)


SEQUENCE_LIRA = contract.ReferenceAttackFactory(make_attack)
