"""How sure a number is: exact binomial intervals, t-intervals of means, and resampled records and replicates.

The population that an interval is about is that of new records and, with several replicates, of new replicates: other
members drawn and other models trained. Nodes, the parties of a view and the references are taken as they are: that all
replicates are compared with the same references is in no interval. A record stands in every replicate and, as a
non-member, before every attacked node, and counts as one; two records, and what a replicate does to all its records,
are taken as independent of each other.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

LEVEL = 0.95
TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
LEAST_ALARMS = 5  # different records among the false alarms of a rate, below which its TPR has no interval


def t_width(values: Float[np.ndarray, "S"]) -> float:
    """Returns the half-width of the t-interval of a mean over replicates; NaN for one replicate."""
    if len(values) < 2:
        return float("nan")
    return float(special.stdtrit(len(values) - 1, (1 + LEVEL) / 2) * np.std(values, ddof=1) / np.sqrt(len(values)))


class Interval(NamedTuple):
    """Both ends of an interval at `LEVEL`."""

    low: float
    high: float


def clopper_pearson(successes: int | float, trials: int | float, *, level: float = LEVEL) -> Interval:
    """Returns the exact interval of a share.

    Source: Clopper and Pearson (1934).

    Args:
      successes: between 0 and `trials`; need not be an integer where it stands for an average of several counts.
      trials: greater than 0.
      level: two-sided.
    """
    tail = (1 - level) / 2
    low = special.betaincinv(successes, trials - successes + 1, tail) if successes > 0 else 0.0
    high = special.betaincinv(successes + 1, trials - successes, 1 - tail) if successes < trials else 1.0
    return Interval(float(low), float(high))


class Variance(NamedTuple):
    """Variances of one number, an average over replicates, when something is drawn anew.

    Attributes:
      records: records drawn anew, each as one for all replicates.
      replicates: replicates drawn anew; 0 where there is one.
      within: the part of `replicates` that is there although all replicates are alike: that a record is a member in one
        and not in another, and is scored by another model.
      num_replicates: how many there are.
    """

    records: float
    replicates: float = 0.0
    within: float = 0.0
    num_replicates: int = 1


def share_interval(
    value: float, variance: Variance, *, trials: float, resamples: Float[np.ndarray, "R"] | None = None
) -> Interval:
    """Returns an interval of a number between 0 and 1 over records, and over replicates where there are several.

    Over records it is the percentile interval of the resamples, or else that of a normal logit. Of the variance over
    replicates counts what goes beyond their records; it stretches the interval, in logits, by the ratio of standard
    deviations, and by that of t to normal quantiles, since a few replicates say little about it. Source: Efron and
    Tibshirani (1993), section 13; Owen and Eckles (2012) on resampling in two ways; Satterthwaite (1946).

    Args:
      value: the number.
      variance: its parts.
      trials: distinct records, for the exact interval of a number that is 0 or 1 or that no record moves.
      resamples: the number when records are drawn anew.
    """
    if variance.records == 0 or value in (0.0, 1.0):
        return clopper_pearson(value * trials, trials)
    centre = special.logit(value)
    if resamples is None:
        over_records = special.ndtri(TAILS) * np.sqrt(variance.records) / (value * (1 - value))
    else:
        over_records = special.logit(np.quantile(resamples, TAILS)) - centre
    low, high = special.expit(centre + _stretch(variance) * over_records)
    return Interval(min(float(low), value), max(float(high), value))


def difference_interval(value: float, variance: Variance, *, share: float, trials: float) -> Interval:
    """Returns an interval of the difference of two such numbers, over the same records and replicates.

    It is normal over records, and stretched as `share_interval` is. Where no record moves the difference, both numbers
    come from the same scores and do not differ; or they are both 0 or both 1, and it is as wide as the exact interval
    of a share that is 0.

    Args:
      value: the difference.
      variance: its parts.
      share: one of the two numbers.
      trials: distinct records, for a difference that no record moves.
    """
    if variance.records == 0:
        reach = clopper_pearson(0, trials).high if share in (0.0, 1.0) else 0.0
    else:
        reach = float(_stretch(variance) * special.ndtri(TAILS[1]) * np.sqrt(variance.records))
    return Interval(value - reach, value + reach)


def _stretch(variance: Variance) -> float:
    """How much wider an interval over records is when replicates are drawn anew too."""
    beyond = max(0.0, variance.replicates - variance.within)
    total = variance.records + beyond
    freedom = total**2 / variance.replicates**2 * (variance.num_replicates - 1) if beyond else np.inf
    return float(np.sqrt(total / variance.records) * special.stdtrit(freedom, TAILS[1]) / special.ndtri(TAILS[1]))
