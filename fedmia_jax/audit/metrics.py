"""Scores -> metrics, members and non-members weighted 50/50 without sampling.

Every test record is a non-member and the two groups count alike, which is the expectation of the paper's equal-sized
samples with less variance: accuracy = (TPR + 1 - FPR) / 2, precision = TPR / (TPR + FPR). In NumPy and 64 bits.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from fedmia_jax.audit import roc


class Metrics(NamedTuple):
    """How well scores tell members from non-members."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    auc: float
    tpr_at_fpr: tuple[float, ...]  # one for each rate; NaN where the sample cannot resolve the rate


def measure(
    scores: Float[np.ndarray, "M"],
    members: Bool[np.ndarray, "M"],
    others: Bool[np.ndarray, "M"],
    threshold: float | np.floating,
    *,
    rates: tuple[float, ...],
) -> Metrics:
    """Returns the metrics of one attack on one party, see `measure_ranked`.

    Args:
      scores: higher means member; records of neither group have no influence.
      members: the records attacked.
      others: the non-members.
      threshold: a score above it says member.
      rates: false-positive rates for `tpr_at_fpr`, between 0 and 1.
    """
    return measure_ranked(scores[members], np.sort(scores[others]), threshold, rates=rates)


def measure_ranked(
    members: Float[np.ndarray, "m"],
    others: Float[np.ndarray, "n"],
    threshold: float | np.floating,
    *,
    rates: tuple[float, ...],
) -> Metrics:
    """Returns the metrics of one attack on one party, whose non-members were sorted before.

    TPR at a rate is that of the lowest threshold whose FPR does not exceed it. A rate r needs 1 / r non-members.
    Source: Carlini et al. (2022), section III (TPR at low FPR).

    Args:
      members: scores of the members.
      others: scores of the non-members, ascending, NaN last.
      threshold: a score above it says member.
      rates: false-positive rates for `tpr_at_fpr`, between 0 and 1.

    Returns:
      The metrics; all NaN without members or non-members, and where a score is NaN, which cannot be ranked and must
      not look like a perfect attack.
    """
    if not all(0 < rate < 1 for rate in rates):
        raise ValueError(f"rates={rates!r}: a false-positive rate lies between 0 and 1")
    if not len(members) or not len(others) or np.isnan(others[-1]) or np.isnan(members).any():
        return unknown(rates)
    recall = float(np.count_nonzero(members > threshold)) / len(members)
    fpr = (len(others) - int(np.searchsorted(others, threshold, "right"))) / len(others)
    precision = recall / (recall + fpr) if recall + fpr > 0 else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    auc = float(roc.beaten(members, others).mean())
    tpr = tuple(_tpr_at(rate, members, others) for rate in rates)
    return Metrics((recall + 1 - fpr) / 2, precision, recall, f1, auc, tpr)


def unknown(rates: tuple[float, ...]) -> Metrics:
    """Returns the metrics of what cannot be measured."""
    nan = float("nan")
    return Metrics(nan, nan, nan, nan, nan, (nan,) * len(rates))


def _tpr_at(rate: float, members: Float[np.ndarray, "m"], others: Float[np.ndarray, "n"]) -> float:
    """The largest TPR at as many false alarms as a rate allows."""
    alarms = roc.allowed_alarms(rate, len(others))
    if alarms < 1:
        return float("nan")
    threshold = others[max(0, len(others) - 1 - alarms)]
    return float(np.count_nonzero(members > threshold)) / len(members)
