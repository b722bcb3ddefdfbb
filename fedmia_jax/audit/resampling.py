"""TPR at low FPR when records and replicates are drawn again: thresholds are taken anew under every weighting.

On the host, in NumPy and SciPy. The weights are drawn once for all attacks, views and nodes, so that numbers of several
nodes may be averaged draw by draw. Each score falls between two thresholds, and one sparse product counts what lies
between them under all weightings.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from fedmia_jax.audit import intervals

RESAMPLES = 300  # of records
WITHIN = 100  # of the replicates of each record
FINE = 0.02  # up to this share of the non-members, each of them is a threshold
STEP = 1.05  # and above it, ratio of the ranks of two neighbouring thresholds


class Draws(NamedTuple):
    """Weights of scores, a column for each weighting; the places of scores go by replicate and then by record."""

    records: Float[np.ndarray, "M R"]  # how often each record is drawn, in all replicates alike
    places: Float[np.ndarray, "P K"]  # once each; without each replicate in turn; replicates of each record drawn anew


class Resampled(NamedTuple):
    """Numbers under every weighting; with one replicate `without` and `within` are empty."""

    value: Float[np.ndarray, "Q"]
    without: Float[np.ndarray, "Q S"]  # each replicate left out in turn
    records: Float[np.ndarray, "Q R"]  # records drawn anew
    within: Float[np.ndarray, "Q W"]  # the replicates of each record drawn anew


class Rates(NamedTuple):
    """What one attacked party's scores say at some false-positive rates."""

    tpr: Resampled
    fpr: Float[np.ndarray, "Q"]  # as realised
    thresholds: Float[np.ndarray, "Q"]
    alarms: Int[np.ndarray, "Q"]  # different records among the false alarms; where they are many, at least how many


@functools.lru_cache(maxsize=1)
def draw(num_replicates: int, num_records: int) -> Draws:
    """Returns the weights, the same ones in every call.

    A record is drawn a number of times that follows a Poisson law, Hanley and MacGibbon (2006).

    Args:
      num_replicates: S; with one of them P is M and K is 1.
      num_records: M.
    """
    rng = np.random.default_rng(0)
    records = rng.poisson(1.0, (num_records, RESAMPLES)).astype(np.float32)
    once = np.ones((num_replicates * num_records, 1), np.float32)
    if num_replicates == 1:
        return Draws(records, once)
    without = np.repeat(1 - np.eye(num_replicates, dtype=np.float32), num_records, axis=0)
    within = np.zeros((num_replicates, num_records, WITHIN), np.float32)
    for _ in range(num_replicates):
        drawn = rng.integers(num_replicates, size=(num_records, WITHIN), dtype=np.int8)
        within += drawn == np.arange(num_replicates)[:, None, None]
    return Draws(records, np.concatenate([once, without, within.reshape(-1, WITHIN)], axis=1))


def at_rates(
    scores: Float[np.ndarray, "S M"],
    members: Bool[np.ndarray, "S M"],
    others: Bool[np.ndarray, "S M"],
    rates: Float[np.ndarray, "Q"],
) -> Rates:
    """Returns TPR at false-positive rates, replicates pooled, under every weighting.

    The threshold of a rate is the lowest whose FPR does not exceed it, under each weighting by itself.

    Args:
      scores: of one attacked party, higher means member, no NaN.
      members: its records, some.
      others: its non-members, some.
      rates: between 0 and 1.
    """
    inside, outside = np.flatnonzero(members), np.flatnonzero(others)
    values, draws = scores.reshape(-1), draw(*scores.shape)
    thresholds = _thresholds(np.sort(values[outside])[::-1], rates)
    totals = [_totals(group.tobytes(), group.shape) for group in (members, others)]
    above = []
    for weights, total in zip((draws.places, draws.records), zip(*totals, strict=True), strict=True):
        groups = [
            _above(values, places, thresholds, weights) / np.maximum(together, 1e-9)[:, None]
            for places, together in zip((inside, outside), total, strict=True)
        ]
        reached = np.stack([np.searchsorted(fpr, rates + 1e-9, "right") - 1 for fpr in groups[1]])  # [K, Q]
        above.append([np.take_along_axis(rate, reached, axis=1).T for rate in groups] + [reached[0]])
    (tpr, fpr, reached), (over_records, *_) = above
    at = thresholds[reached]
    split = [1, tpr.shape[1] - WITHIN] if len(scores) > 1 else [1, 1]
    value, without, within = np.split(tpr, split, axis=1)
    alarms = _different(values, outside, at, np.rint(fpr[:, 0] * len(outside)).astype(int), scores.shape)
    return Rates(Resampled(value[:, 0], without, over_records, within), fpr[:, 0], at, alarms)


def first_order(
    influence: Float[np.ndarray, "A S M"],
) -> tuple[Float[np.ndarray, "A R"], Float[np.ndarray, "A W"]]:
    """Returns what moves numbers that are linear in the weights, when records and their replicates are drawn anew.

    Args:
      influence: of each record in each replicate on a number, with the sum 0.

    Returns:
      What comes to each number, under the weightings `records` and `within` of `Resampled`.
    """
    num_replicates = influence.shape[1]
    draws, moved = draw(*influence.shape[1:]), influence.astype(np.float32)
    within = draws.places[:, 1 + num_replicates :]  # none with one replicate
    return moved.sum(axis=1) @ draws.records, moved.reshape(len(moved), -1) @ within


def average(parties: list[Resampled]) -> Resampled:
    """Returns the mean over attacked parties, weighting by weighting."""
    return Resampled(*(np.mean(arrays, axis=0) for arrays in zip(*parties, strict=True)))


def variances(resampled: Resampled) -> list[intervals.Variance]:
    """Returns the parts of the variance of each number."""
    over_records = resampled.records.var(axis=1, ddof=1)
    count = resampled.without.shape[1]
    if not count:
        return [intervals.Variance(float(records)) for records in over_records]
    replicates = (count - 1) * resampled.without.var(axis=1)  # the jackknife
    within = count / (count - 1) * resampled.within.var(axis=1, ddof=1)
    parts = zip(over_records.tolist(), replicates.tolist(), within.tolist(), strict=True)
    return [intervals.Variance(*of_number, count) for of_number in parts]


@functools.lru_cache(maxsize=256)
def _totals(group: bytes, shape: tuple[int, int]) -> tuple[Float[np.ndarray, "K"], Float[np.ndarray, "R"]]:
    """What some scores, bool[S, M] as bytes, weigh together under every weighting, by places and by records."""
    counted = np.frombuffer(group, bool).reshape(shape).astype(np.float32)
    draws = draw(*shape)
    return counted.reshape(-1) @ draws.places, counted.sum(axis=0) @ draws.records


def _thresholds(ranked: Float[np.ndarray, "n"], rates: Float[np.ndarray, "Q"]) -> Float[np.ndarray, "G"]:
    """Thresholds in falling order: each of the highest scores, those at the rates, and some between."""
    number = len(ranked)
    fine = int(FINE * number) + 10
    if rates.max() <= FINE / 2:
        return ranked[:fine]
    coarse = fine * STEP ** np.arange(np.log(max(1.0, number / fine)) / np.log(STEP))
    ranks = np.unique(np.concatenate([np.arange(fine), np.floor(rates * number + 1e-4), coarse]).astype(int))
    return np.append(ranked[ranks[ranks < number]], -np.inf)


def _above(
    values: Float[np.ndarray, "P"],
    places: Int[np.ndarray, "m"],
    thresholds: Float[np.ndarray, "G"],
    weights: Float[np.ndarray, "N K"],
) -> Float[np.ndarray, "K G"]:
    """What the scores above each threshold weigh, under every weighting."""
    places = places[values[places] > thresholds[-1]]
    between = len(thresholds) - np.searchsorted(thresholds[::-1], values[places], "left")
    ones, shape = np.ones(len(places), np.float32), (len(thresholds), len(weights))
    counts = sparse.csr_matrix((ones, (between, places % len(weights))), shape) @ weights
    return np.cumsum(counts.T, axis=1, dtype=np.float64)


def _different(
    values: Float[np.ndarray, "P"],
    outside: Int[np.ndarray, "n"],
    thresholds: Float[np.ndarray, "Q"],
    alarms: Int[np.ndarray, "Q"],
    shape: tuple[int, ...],
) -> Int[np.ndarray, "Q"]:
    """How many records are behind so many false alarms above thresholds; where they are many, at least how many."""
    num_replicates, num_records = shape
    least = -(-alarms // num_replicates)
    for place in np.flatnonzero(least < intervals.LEAST_ALARMS):
        least[place] = len(np.unique(outside[values[outside] > thresholds[place]] % num_records))
    return least
