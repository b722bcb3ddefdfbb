"""Thresholds on one number: correctness, confidence, entropy, modified entropy, loss; global or a class each.

Sources: Yeom et al. (2018) (`loss`: below the mean training loss; `correctness`: the label is answered); Song and
Mittal (2021), sections 3.2 and 3.3 (`confidence`, `entropy`, `modified_entropy`, thresholds of each class, from
shadows). Departure: confidence is the logit of the label's probability, which orders records alike and never
saturates. A threshold maximises the shadows' balanced accuracy.
"""

import jax
import jax.numpy as jnp

from fedmia_jax import config, signals, types
from fedmia_jax.attacks import contract

VALUES = {  # higher means member
    "correctness": lambda seen: signals.correct(seen).astype(jnp.float32),
    "confidence": signals.phi,
    "entropy": lambda seen: -signals.entropy(seen),
    "modified_entropy": lambda seen: -signals.modified_entropy(seen),
    "loss": lambda seen: -signals.loss(signals.phi(seen)),
}


def best(values: jax.Array, labels: jax.Array, members: jax.Array, others: jax.Array, *, num_classes: int) -> jax.Array:
    """Returns for each class the threshold with the largest TPR - FPR, half way between two values.

    Args:
      values: f32[n].
      labels: i32[n] in 0..K-1.
      members: f32[n] weights, 0 for a record that is none.
      others: f32[n] weights of the non-members.
      num_classes: K.

    Returns:
      f32[K]; NaN for a class without members or without others, or where no threshold beats saying yes to all.
    """
    counted = (members + others) > 0
    labels = jnp.where(counted, labels, num_classes)  # padding stands behind all classes
    order = jnp.lexsort((values, labels))
    values, labels, members, others = (array[order] for array in (values, labels, members, others))

    def above(weights):  # share of the class's weight that lies above each place
        total = jax.ops.segment_sum(weights, labels, num_classes + 1)
        before = jnp.cumsum(total) - total
        upto = jnp.cumsum(weights) - before[labels]
        return 1 - upto / total[labels]

    following = jnp.roll(values, -1)
    edge = (jnp.roll(labels, -1) == labels) & (following > values)
    gain = jnp.where(edge, above(members) - above(others), -jnp.inf)
    top = jax.ops.segment_max(gain, labels, num_classes + 1)
    place = jax.ops.segment_min(
        jnp.where(gain == top[labels], jnp.arange(len(values)), len(values) - 1), labels, num_classes + 1
    )[:num_classes]
    place = jnp.minimum(place, len(values) - 1)  # a class without records has none
    middle = (values[place] + following[place]) / 2
    return jnp.where(top[:num_classes] > 0, middle, jnp.nan)


def make_attack(settings: config.Attack, *, num_classes: int, value: str, per_class: bool = False) -> contract.Attack:
    """Builds a threshold attack.

    Args:
      settings: unused.
      num_classes: K.
      value: name in `VALUES`.
      per_class: a threshold for each class; a class that the shadows cannot place gets the global one.

    Returns:
      The attack; its score is how far the value lies above the threshold.
    """
    del settings
    read = VALUES[value]

    def place(seen: types.Signals, membership: jax.Array, weights: jax.Array) -> jax.Array:
        values, labels = read(seen).reshape(-1), seen.labels.reshape(-1)
        members, others = (weights * membership).reshape(-1), (weights * ~membership).reshape(-1)
        if value == "correctness":
            return jnp.full(num_classes, 0.5)
        if value == "loss":
            return jnp.full(num_classes, jnp.sum(values * members) / jnp.sum(members))
        everywhere = best(values, jnp.zeros_like(labels), members, others, num_classes=1)[0]
        everywhere = jnp.where(jnp.isnan(everywhere), jnp.min(values), everywhere)
        if not per_class:
            return jnp.full(num_classes, everywhere)
        found = best(values, labels, members, others, num_classes=num_classes)
        return jnp.where(jnp.isnan(found), everywhere, found)

    def fit(key, seen, membership, weights):
        del key
        held_out = contract.num_held_out(membership.shape[0])
        known, checked = (
            (jax.tree.map(lambda leaf, part=part: leaf[part], seen), membership[part], weights[part])
            for part in (slice(-held_out), slice(-held_out, None))
        )
        thresholds = place(*known)
        right = (read(checked[0]) > thresholds[checked[0].labels]) == checked[1]
        return {"thresholds": thresholds, "curve": jnp.mean(right * contract.balance(*checked[1:]))[None]}

    def score(fitted, seen):
        return read(seen) - fitted["thresholds"][seen.labels]

    return contract.Attack(fit, score, lambda fitted: jnp.zeros(()), lambda fitted: fitted["curve"])
