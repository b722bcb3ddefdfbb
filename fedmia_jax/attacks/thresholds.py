"""Thresholds on one number: correctness, confidence, entropy, modified entropy, loss; global or a class each.

Sources: Yeom et al. (2018) (`loss`: below the mean training loss; `correctness`: the label is answered); Song and
Mittal (2021), sections 3.2 and 3.3 (`confidence`, `entropy`, `modified_entropy`, thresholds of each class, from
shadows). Departure: confidence is the logit of the label's probability, which orders records alike and never
saturates. A threshold maximises the shadows' balanced accuracy.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from fedmia_jax import compilation, options, types
from fedmia_jax.attacks import contract, grouping, shadows, signals

VALUES = {  # higher means member
    "correctness": lambda seen: signals.correct(seen).astype(jnp.float32),
    "confidence": signals.phi,
    "entropy": lambda seen: -signals.entropy(seen),
    "modified_entropy": lambda seen: -signals.modified_entropy(seen),
    "loss": lambda seen: -signals.loss(signals.phi(seen)),
}
PER_CLASS = ("confidence", "entropy", "modified_entropy")


def best(
    values: Float[Array, "n"],
    labels: Int[Array, "n"],
    members: Float[Array, "n"],
    others: Float[Array, "n"],
    *,
    num_classes: int,
) -> Float[Array, "K"]:
    """Returns for each class the threshold with the largest TPR - FPR, half way between two values.

    Args:
      values: of each record, higher means member.
      labels: in 0..K-1.
      members: weights, 0 for a record that is none.
      others: weights of the non-members.
      num_classes: K.

    Returns:
      NaN for a class without members or without others, or where no threshold beats saying yes to all.
    """
    counted = (members + others) > 0
    labels = jnp.where(counted, labels, num_classes)  # padding stands behind all classes
    by_value = jnp.argsort(values)  # one for all groupings of the same values, where the compiler sees that
    order = by_value[grouping.order(labels[by_value], num_groups=num_classes + 1)]
    values, labels, members, others = (array[order] for array in (values, labels, members, others))
    above_members, above_others = (_share_above(weights, labels, num_classes + 1) for weights in (members, others))
    following = jnp.roll(values, -1)
    edge = (jnp.roll(labels, -1) == labels) & (following > values)
    gain = jnp.where(edge, above_members - above_others, -jnp.inf)
    top = jax.ops.segment_max(gain, labels, num_classes + 1)
    place = jax.ops.segment_min(
        jnp.where(gain == top[labels], jnp.arange(len(values)), len(values) - 1), labels, num_classes + 1
    )[:num_classes]
    place = jnp.minimum(place, len(values) - 1)  # a class without records has none
    middle = (values[place] + following[place]) / 2
    return jnp.where(top[:num_classes] > 0, middle, jnp.nan)


def _share_above(weights: jax.Array, labels: jax.Array, num_groups: int) -> jax.Array:
    """The share of a class's weight behind each place, where records are sorted by class and then value: f32[n]."""
    total = jax.ops.segment_sum(weights, labels, num_groups)
    before = jnp.cumsum(total) - total
    upto = jnp.cumsum(weights) - before[labels]
    return 1 - upto / total[labels]


def best_overall(
    values: Float[types.Array, "n"], members: Shaped[types.Array, "n"], others: Shaped[types.Array, "n"]
) -> float:
    """Returns the threshold with the largest TPR - FPR, for callers on the host; records above it count as members.

    Args:
      values: of each record, higher means member.
      members: whether a record counts as one, or its weight as one.
      others: whether a record counts as a non-member, or its weight as one.

    Returns:
      Half way between two values; where no threshold beats saying yes to all, the largest value, which says no to all.
    """
    members, others = np.asarray(members, np.float32), np.asarray(others, np.float32)
    threshold = float(_best_of_one_class(np.asarray(values, np.float32), members, others))
    return float(np.max(values, where=members + others > 0, initial=-np.inf)) if np.isnan(threshold) else threshold


@compilation.jit
def _best_of_one_class(values: jax.Array, members: jax.Array, others: jax.Array) -> jax.Array:
    """The threshold where all records are of one class, f32[]; NaN where none helps."""
    return best(values, jnp.zeros(values.shape, jnp.int32), members, others, num_classes=1)[0]


def make_attack(
    settings: options.NoOptions, num_classes: int, *, value: str, per_class: bool = False
) -> contract.ModelAttack:
    """Builds a threshold attack.

    Args:
      settings: nothing to set.
      num_classes: K.
      value: name in `VALUES`.
      per_class: a threshold for each class; a class that the shadows cannot place gets the global one.

    Returns:
      The attack; its score is how far the value lies above the threshold.
    """
    del settings
    read = VALUES[value]

    def fit(key: jax.Array, seen: types.Signals, membership: jax.Array, weights: jax.Array) -> contract.Fitted:
        del key
        known, checked = shadows.hold_out(seen, membership, weights)
        thresholds = _place(value, known, num_classes, per_class=per_class)
        right = (read(checked.signals) > thresholds[checked.signals.labels]) == checked.membership
        check_weights = contract.balance(checked.membership, checked.weights)
        return {"thresholds": thresholds, "curve": jnp.mean(right * check_weights)[None]}

    def score(fitted: contract.Fitted, seen: types.Signals) -> jax.Array:
        return read(seen) - fitted["thresholds"][seen.labels]

    return contract.ModelAttack(fit, score, lambda fitted: jnp.zeros(()), lambda fitted: fitted["curve"])


def _place(value: str, known: shadows.Shadows, num_classes: int, *, per_class: bool) -> jax.Array:
    """Thresholds of a value for each class, from shadows: f32[K]."""
    values, labels = VALUES[value](known.signals).reshape(-1), known.signals.labels.reshape(-1)
    members = (known.weights * known.membership).reshape(-1)
    others = (known.weights * ~known.membership).reshape(-1)
    if value == "correctness":
        return jnp.full(num_classes, 0.5)
    if value == "loss":
        return jnp.full(num_classes, jnp.sum(values * members) / jnp.sum(members))
    everywhere = best(values, jnp.zeros_like(labels), members, others, num_classes=1)[0]
    everywhere = jnp.where(jnp.isnan(everywhere), jnp.min(values), everywhere)
    if not per_class:
        return jnp.full(num_classes, everywhere)
    by_class = best(values, labels, members, others, num_classes=num_classes)
    return jnp.where(jnp.isnan(by_class), everywhere, by_class)


FACTORIES = {
    **{value: contract.ModelAttackFactory(functools.partial(make_attack, value=value)) for value in VALUES},
    **{
        f"{value}_per_class": contract.ModelAttackFactory(functools.partial(make_attack, value=value, per_class=True))
        for value in PER_CLASS
    },
}
