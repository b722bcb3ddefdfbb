"""How sure a number is: exact binomial intervals, and bootstraps over records and replicates.

On the host, in NumPy and SciPy: a few sorts of each attack's scores. A record stands in every replicate and, as a
non-member, before every attacked node; it is resampled as one, and intervals of rates count each record as one trial.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

LEVEL = 0.95
RESAMPLES = 400


def t_width(values: Float[np.ndarray, "S"]) -> float:
    """Returns the half-width of the t-interval of a mean over replicates; NaN for one replicate."""
    if len(values) < 2:
        return float("nan")
    return float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


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
    low = stats.beta.ppf(tail, successes, trials - successes + 1) if successes > 0 else 0.0
    high = stats.beta.ppf(1 - tail, successes + 1, trials - successes) if successes < trials else 1.0
    return Interval(float(low), float(high))


def auc_interval(
    wins: Float[np.ndarray, "I S M"],
    members: Bool[np.ndarray, "I S M"],
    others: Bool[np.ndarray, "I S M"],
    *,
    seed: int,
) -> tuple[Interval, Interval]:
    """Percentile bootstraps of a mean AUC: over records, and over records and replicates.

    To first order an AUC is linear in the weights of its records, so that one pass over the placements serves all
    resamples. Source: Efron and Tibshirani (1993), section 13; DeLong et al. (1988).

    Args:
      wins: placements by attacked party I, replicate and record, see `roc.placements`; 0 for records of neither group.
      members: of each attacked party.
      others: the non-members of each attacked party.
      seed: of the resamples.
    """
    num_parties, num_replicates, num_records = wins.shape
    weights, rng = _weights(num_records, seed), np.random.default_rng(seed)

    def resampled(group: np.ndarray) -> np.ndarray:  # mean placement of a group, f32[RESAMPLES, I, S]
        values, counted = (wins * group).reshape(-1, num_records), group.reshape(-1, num_records)
        total = weights @ counted.T.astype(np.float32)
        return (weights @ values.T.astype(np.float32) / np.maximum(total, 1e-9)).reshape(
            -1, num_parties, num_replicates
        )

    auc = (wins * members).sum(axis=2) / members.sum(axis=2)
    # An AUC moves by the deviations of both groups.
    resamples = (resampled(members) + resampled(others) - auc).mean(axis=1)
    shares = rng.multinomial(num_replicates, np.full(num_replicates, 1 / num_replicates), RESAMPLES) / num_replicates
    tails = [50 * (1 - LEVEL), 50 * (1 + LEVEL)]
    over_records = np.percentile(resamples.mean(axis=1), tails)
    over_both = np.percentile((resamples * shares).sum(axis=1), tails)
    return Interval(*map(float, over_records)), Interval(*map(float, over_both))


@functools.lru_cache(maxsize=1)
def _weights(num_records: int, seed: int) -> Float[np.ndarray, "R M"]:
    """How often each record is drawn in each of `RESAMPLES` resamples."""
    return np.random.default_rng(seed).poisson(1.0, (RESAMPLES, num_records)).astype(np.float32)
