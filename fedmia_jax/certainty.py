"""How sure a number is: exact binomial intervals, bootstraps over records and replicates, and a lower bound on epsilon.

On the host, in NumPy and SciPy: a few sorts of each attack's scores. A record stands in every replicate and, as a
non-member, before every attacked node; it is resampled as one, and intervals of rates count each record as one trial.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95
RESAMPLES = 400


def t_width(values: np.ndarray) -> float:
    """Returns the half-width of the t-interval of a mean over replicates; NaN for one replicate."""
    if len(values) < 2:
        return float("nan")
    return float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


class Interval(NamedTuple):
    """Both ends of an interval at `LEVEL`."""

    low: float
    high: float


def clopper_pearson(successes: float, trials: float, *, level: float = LEVEL) -> Interval:
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


def placements(members: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each member the share of non-members it beats, and for each non-member the share it loses to.

    Ties count half; the mean of either is the AUC. Source: DeLong, DeLong and Clarke-Pearson (1988), Eq. (5).

    Args:
      members: f[m] scores.
      others: f[n] scores.
    """
    return beaten(members, np.sort(others)), 1 - beaten(others, np.sort(members))


def beaten(values: np.ndarray, ranked: np.ndarray) -> np.ndarray:
    """Returns for each value the share of the ranked ones that it exceeds; ties count half."""
    return (np.searchsorted(ranked, values, "left") + np.searchsorted(ranked, values, "right")) / 2 / len(ranked)


def auc_interval(wins: np.ndarray, members: np.ndarray, others: np.ndarray, *, seed: int) -> tuple[Interval, Interval]:
    """Percentile bootstraps of a mean AUC: over records, and over records and replicates.

    To first order an AUC is linear in the weights of its records, so that one pass over the placements serves all
    resamples. Source: Efron and Tibshirani (1993), section 13; DeLong et al. (1988).

    Args:
      wins: f[I, S, M], placements by attacked party, replicate and record, 0 for records of neither group.
      members: bool[I, S, M].
      others: bool[I, S, M].
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
    found = (resampled(members) + resampled(others) - auc).mean(axis=1)  # an AUC and the other group's deviation
    chosen = rng.multinomial(num_replicates, np.full(num_replicates, 1 / num_replicates), RESAMPLES) / num_replicates
    tails = [50 * (1 - LEVEL), 50 * (1 + LEVEL)]
    over_records = np.percentile(found.mean(axis=1), tails)
    over_both = np.percentile((found * chosen).sum(axis=1), tails)
    return Interval(*map(float, over_records)), Interval(*map(float, over_both))


def best_threshold(members: np.ndarray, others: np.ndarray) -> float:
    """Returns the threshold with the largest TPR - FPR; records above it count as members.

    Args:
      members: f[m] scores of records known to be members.
      others: f[n] scores of records known not to be.
    """
    values = np.concatenate([members, others])
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    step = np.where(order < len(members), -1 / len(members), 1 / len(others))
    gain = np.where(np.append(ranked[1:] > ranked[:-1], True), np.cumsum(step), -1.0)  # of saying yes above a place
    place = int(np.argmax(gain))
    return float(ranked[place] if place + 1 == len(ranked) else (ranked[place] + ranked[place + 1]) / 2)


@functools.lru_cache(maxsize=1)
def _weights(num_records: int, seed: int) -> np.ndarray:
    """How often each record is drawn in each resample: f32[RESAMPLES, M]."""
    return np.random.default_rng(seed).poisson(1.0, (RESAMPLES, num_records)).astype(np.float32)


class Roc(NamedTuple):
    """Scores in order."""

    members: np.ndarray  # f[m], ascending
    others: np.ndarray  # f[n], ascending
    above: np.ndarray  # f[n], share of the non-members' weight behind each place


class Operating(NamedTuple):
    """One point of a ROC: the lowest threshold that keeps a false-positive rate."""

    threshold: float
    tpr: float
    fpr: float


def make_roc(members: np.ndarray, others: np.ndarray, weights: np.ndarray | None = None) -> Roc:
    """Sorts scores once for any number of questions.

    Args:
      members: f[m] scores.
      others: f[n] scores.
      weights: f[n] of the non-members; None for equal ones.
    """
    if weights is None or np.ptp(weights) == 0:
        ranked, upto = np.sort(others), np.arange(1.0, len(others) + 1)
    else:
        order = np.argsort(others)
        ranked, upto = others[order], np.cumsum(weights[order], dtype=np.float64)
    return Roc(np.sort(members), ranked, 1 - upto / upto[-1])


def rates_above(roc: Roc, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns TPR and FPR at thresholds, f64[...] each; records above a threshold count."""
    tpr = (len(roc.members) - np.searchsorted(roc.members, thresholds, "right")) / len(roc.members)
    place = np.searchsorted(roc.others, thresholds, "right")
    return tpr, np.where(place > 0, roc.above[place - 1], 1.0)


def at_rate(roc: Roc, rate: float) -> Operating:
    """Returns the point with the largest TPR whose FPR does not exceed a rate in [0, 1)."""
    place = len(roc.above) - np.searchsorted(roc.above[::-1], rate + 1e-12, "right")  # `above` falls
    threshold = roc.others[place]
    tpr, fpr = rates_above(roc, threshold)
    return Operating(float(threshold), float(tpr), float(fpr))


class Half(NamedTuple):
    """Scores of one half of the records."""

    members: np.ndarray  # f[m]
    others: np.ndarray  # f[n]
    weights: np.ndarray  # f[n], of the non-members
    trials: tuple[int, int]  # distinct records among members and non-members


def epsilon(first: Half, second: Half) -> float:
    """Returns a lower bound, at 95%, on the epsilon of (epsilon, 0)-differentially private training.

    A threshold is chosen on the first half, for either direction, and counted on the second with Clopper-Pearson
    ends. Source: Jagielski, Ullman and Oprea (2020), section 3; Nasr et al. (2021). Departure: several records of one
    model are tried, rather than one record of many models, as if they were independent.

    Returns:
      A bound of at least 0.
    """
    pooled = np.concatenate([first.members, first.others])
    thresholds = np.unique(np.quantile(pooled, np.linspace(0, 1, 400), method="nearest"))
    bounds = _bounds(first, thresholds)
    direction, place = np.unravel_index(int(np.argmax(bounds)), bounds.shape)
    return max(0.0, float(_bounds(second, thresholds[place : place + 1])[direction, 0]))


def _bounds(half: Half, thresholds: np.ndarray) -> np.ndarray:
    """Lower bounds f64[2, thresholds]: from what is flagged, and from what is not."""
    total, outside = half.trials
    tpr, fpr = rates_above(make_roc(half.members, half.others, half.weights), thresholds)
    hits, alarms = tpr * total, fpr * outside
    tail = (1 - LEVEL) / 2  # both ends of a bound hold together at the level

    def low(successes, trials):
        return np.where(successes > 0, stats.beta.ppf(tail, np.maximum(successes, 1e-9), trials - successes + 1), 0.0)

    def high(successes, trials):
        left = np.maximum(trials - successes, 1e-9)
        return np.where(successes < trials, stats.beta.ppf(1 - tail, successes + 1, left), 1.0)

    with np.errstate(divide="ignore"):
        flagged = np.log(low(hits, total)) - np.log(high(alarms, outside))
        passed = np.log(low(outside - alarms, outside)) - np.log(high(total - hits, total))
    return np.stack([flagged, passed])
