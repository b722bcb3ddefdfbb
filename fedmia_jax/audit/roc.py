"""The receiver operating characteristic of scores, in NumPy and 64 bits: the one place for ROC, AUC and TPR at a rate.

A record counts as a member where its score is above a threshold, so that a threshold falls between distinct scores.
Ties count half in the AUC, which is the Mann-Whitney statistic over its maximum. Source: Fawcett (2006).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Roc(NamedTuple):
    """Scores in order."""

    members: np.ndarray  # f[m], ascending
    others: np.ndarray  # f[n], ascending
    above: np.ndarray  # f64[n], share of the non-members' weight behind each place


class Operating(NamedTuple):
    """One point of a ROC: the lowest threshold that keeps a false-positive rate."""

    threshold: float
    tpr: float
    fpr: float


def make_roc(
    members: Float[np.ndarray, "m"], others: Float[np.ndarray, "n"], weights: Float[np.ndarray, "n"] | None = None
) -> Roc:
    """Sorts scores once for any number of questions.

    Args:
      members: scores of the members.
      others: scores of the non-members.
      weights: of the non-members; None for equal ones.
    """
    if weights is None:
        ranked, upto = np.sort(others), np.arange(1.0, len(others) + 1)
    else:
        order = np.argsort(others)
        ranked, upto = others[order], np.cumsum(weights[order], dtype=np.float64)
    return Roc(np.sort(members), ranked, 1 - upto / upto[-1])


def rates_above(
    roc: Roc, thresholds: Float[np.ndarray | np.floating, "..."]
) -> tuple[Float[np.ndarray | np.floating, "..."], Float[np.ndarray, "..."]]:
    """Returns TPR and FPR at thresholds; records above a threshold count."""
    tpr = (len(roc.members) - np.searchsorted(roc.members, thresholds, "right")) / len(roc.members)
    place = np.searchsorted(roc.others, thresholds, "right")
    return tpr, np.where(place > 0, roc.above[place - 1], 1.0)


def at_rate(roc: Roc, rate: float) -> Operating:
    """Returns the point with the largest TPR whose FPR does not exceed a rate in [0, 1)."""
    place = len(roc.above) - np.searchsorted(roc.above[::-1], rate + 1e-12, "right")  # `above` falls
    threshold = roc.others[place]
    tpr, fpr = rates_above(roc, threshold)
    return Operating(float(threshold), float(tpr), float(fpr))


def placements(
    members: Float[np.ndarray, "m"], others: Float[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "m"], Float[np.ndarray, "n"]]:
    """Returns for each member the share of non-members it beats, and for each non-member the share it loses to.

    Ties count half; the mean of either is the AUC. Source: DeLong, DeLong and Clarke-Pearson (1988), Eq. (5).

    Args:
      members: scores of the members.
      others: scores of the non-members.
    """
    return beaten(members, np.sort(others)), 1 - beaten(others, np.sort(members))


def beaten(values: Float[np.ndarray, "k"], ranked: Float[np.ndarray, "n"]) -> Float[np.ndarray, "k"]:
    """Returns for each value the share of the ranked ones, ascending, that it exceeds; ties count half."""
    return (np.searchsorted(ranked, values, "left") + np.searchsorted(ranked, values, "right")) / 2 / len(ranked)


def allowed_alarms(rate: float, num_others: int) -> int:
    """Returns how many false alarms a false-positive rate allows; with none, the sample cannot resolve the rate."""
    return int(np.floor(rate * num_others + 1e-4))
