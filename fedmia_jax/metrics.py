"""Scores -> metrics, members and non-members weighted 50/50 without sampling.

Every test record is a non-member and the two groups count alike, which is the expectation of the paper's equal-sized
samples with less variance: accuracy = (TPR + 1 - FPR) / 2, precision = TPR / (TPR + FPR).
"""

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Metrics:
    """How well scores tell members from non-members; every field f32[...]."""

    accuracy: jax.Array
    precision: jax.Array
    recall: jax.Array
    f1: jax.Array
    auc: jax.Array
    tpr_at_fpr: jax.Array  # f32[..., number of rates]; NaN where the sample cannot resolve the rate


def make_metrics(*, rates: tuple[float, ...] = (0.01, 0.001)):
    """Builds the metrics of one snapshot.

    AUC counts ties half (the Mann-Whitney statistic over its maximum); TPR at a rate is that of the lowest threshold
    whose FPR does not exceed it, a threshold always falling between distinct scores. A rate r needs 1 / r
    non-members. Counts are integers, divided once.

    Source: Carlini et al. (2022), section III (TPR at low FPR); Fawcett (2006) (ROC with ties).

    Args:
      rates: false-positive rates for `tpr_at_fpr`.

    Returns:
      `metrics(scores f32[M], members bool[A, M], non_members bool[M], threshold f32[]) -> Metrics` with leading axis
      A, one entry for each attacked party. Each needs a member, and there must be a non-member; else NaN.
    """
    if not all(0 < rate < 1 for rate in rates):
        raise ValueError(f"rates={rates!r}: a false-positive rate lies between 0 and 1")

    def metrics(scores, members, non_members, threshold):
        above = scores > threshold
        recall = (members & above).sum(axis=1) / members.sum(axis=1)
        fpr = (non_members & above).sum() / non_members.sum()
        hits = recall + fpr
        precision = jnp.where(hits > 0, recall / jnp.where(hits > 0, hits, 1.0), 0.0)
        total = precision + recall
        f1 = jnp.where(total > 0, 2 * precision * recall / jnp.where(total > 0, total, 1.0), 0.0)
        auc, tpr = _roc(scores, members, non_members, rates)
        found = Metrics((recall + 1 - fpr) / 2, precision, recall, f1, auc, tpr)
        used = members.any(axis=0) | non_members
        broken = jnp.any(used & jnp.isnan(scores))  # NaN cannot be ranked, and must not look like a perfect attack
        return jax.tree.map(lambda value: jnp.where(broken, jnp.nan, value), found)

    return metrics


def _roc(scores: jax.Array, members: jax.Array, non_members: jax.Array, rates: tuple[float, ...]):
    """AUC f32[A] and TPR at the rates f32[A, R], from counts along one descending sort."""
    order = jnp.argsort(-scores)
    ranked = scores[order]
    last = jnp.append(ranked[1:] != ranked[:-1], True)  # of a run of equal scores
    hits = jnp.cumsum(members[:, order], axis=1, dtype=jnp.int32)  # counts are exact
    alarms = jnp.cumsum(non_members[order], dtype=jnp.int32)
    num_members, num_non_members = hits[:, -1:], alarms[-1]
    # The non-members ranked above a record's run, and up to the end of its run.
    positions = jnp.arange(scores.size)
    end = jax.lax.cummin(jnp.where(last, positions, scores.size), reverse=True)
    first = jax.lax.cummax(jnp.where(jnp.append(True, last[:-1]), positions, 0))
    above, upto = jnp.where(first > 0, alarms[first - 1], 0), alarms[end]
    beaten = 1 - (above + upto) / (2 * num_non_members)
    auc = (members[:, order] * beaten).sum(axis=1) / num_members[:, 0]
    limits = jnp.floor(jnp.array(rates, jnp.float32) * num_non_members + 1e-4)  # false alarms that a rate allows
    allowed = last & (alarms <= limits[:, None])  # bool[R, M]
    tpr = jnp.max(jnp.where(allowed[None], hits[:, None], 0), axis=2) / num_members
    return auc, jnp.where(limits >= 1, tpr, jnp.nan)
