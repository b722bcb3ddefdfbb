"""One attack under one view, pooled over parties, attacked nodes and replicates: numbers with intervals, and a ROC.

One estimator for every table: each party sets for each node that it attacks one threshold over all replicates, and what
is reported is the mean over parties and nodes. An AUC is taken replicate by replicate, and the mean is reported.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from fedmia_jax.audit import coalitions, evidence, intervals, resampling, roc, rows, scorers

FALSE_POSITIVE_RATES = np.geomspace(1e-4, 1.0, 61)
COUNTS = ("parties", "replicates", "scored_members", "scored_non_members", "members", "non_members")
AUC = ("auc", "auc_low", "auc_high", "auc_low_replicates", "auc_high_replicates")
WORST = ("node", "party")


def rate_columns(rate: float) -> list[str]:
    """Returns the columns of one rate: TPR with both ends of its interval, and the FPR that was realised."""
    return [f"tpr_at_fpr_{rate}{end}" for end in ("", "_low", "_high")] + [f"fpr_{rate}"]


def worst_columns(which: str) -> list[str]:
    """Returns the columns of the worst node, or the worst party: its numbers and its name."""
    return [f"{number}_worst_{which}" for number in coalitions.NUMBERS] + [f"worst_{which}"]


NUMBERS = (
    *AUC,
    *(column for rate in rows.RATES for column in rate_columns(rate)),
    *(column for which in WORST for column in worst_columns(which)[:-1]),
    "advantage",
)
NAMES = tuple(worst_columns(which)[-1] for which in WORST)


class Pooled(NamedTuple):
    """What one attack says under one view.

    Attributes:
      row: of the intervals; the counts alone where scores are not numbers, or where there is nothing to compare.
      curve: points of the ROC, none where the row has no numbers.
      measured: what each party says of each node, none where the row has no numbers.
      influence: f[S, M] by node, how each record moves the sum of the mean AUCs of the parties that attack it; where it
        is asked for.
    """

    row: dict[str, Any]
    curve: list[dict[str, Any]]
    measured: list[coalitions.Measured]
    influence: dict[int, Float[np.ndarray, "S M"]]


def is_broken(arrays: evidence.Evidence, scored: scorers.Scored) -> bool:
    """Returns whether scores are NaN, which cannot be ranked and must not look like privacy."""
    return bool(np.isnan(scored.scores[arrays.members(scored.node) | arrays.others(scored.node)]).any())


def pool(
    arrays: evidence.Evidence,
    group: Iterable[scorers.Scored],
    *,
    with_curve: bool = True,
    with_influence: bool = False,
) -> Pooled:
    """Pools the scores of one attack under one view.

    Args:
      arrays: who owned what.
      group: the scores, at least one, which are read once and not kept.
      with_curve: whether the ROC is wanted.
      with_influence: whether that of each record on the AUC of each node is wanted.
    """
    rates = np.concatenate([rows.RATES, FALSE_POSITIVE_RATES if with_curve else []])
    seen = np.zeros((2, *arrays.owners.shape), int)  # how often a record stands among members, and among non-members
    influence, parties, complete = np.zeros(arrays.owners.shape), set(), True
    by_node: dict[int, np.ndarray] = {}
    measured, advantages = [], []
    for scored in group:
        inside, outside = groups = np.stack([arrays.members(scored.node), arrays.others(scored.node)])
        seen += groups
        parties.add(scored.party)
        complete &= bool(groups.any(axis=2).all()) and not is_broken(arrays, scored)
        if complete:
            auc, moved = _auc(scored.scores, inside, outside)
            influence += moved
            if with_influence:
                by_node[scored.node] = by_node.get(scored.node, 0.0) + moved
            distinct = map(int, groups.any(axis=1).sum(axis=1))
            at_rates = resampling.at_rates(scored.scores, inside, outside, rates)
            measured.append(coalitions.Measured(scored.party, scored.node, auc, at_rates, *distinct))
            advantages.append(_advantage(scored, inside, outside))
    row: dict[str, Any] = {"parties": len(parties), "replicates": len(arrays.owners)}
    row |= dict(zip(COUNTS[2:], map(int, [*seen.sum(axis=(1, 2)), *seen.any(axis=1).sum(axis=1)]), strict=True))
    if not complete:
        return Pooled(row, [], [], {})
    points = _points(measured, rates, row)
    row |= _auc_columns(measured, influence / len(measured), row)
    for rate, point in zip(rows.RATES, points, strict=False):
        row |= dict(zip(rate_columns(rate), point.values(), strict=True))
    row |= _worst_columns(measured, arrays.nodes)
    row["advantage"] = rows.number(np.mean(advantages))
    return Pooled(row, _curve(points[len(rows.RATES) :], rates[len(rows.RATES) :]), measured, by_node)


def _auc(
    scores: Float[np.ndarray, "S M"], members: Bool[np.ndarray, "S M"], others: Bool[np.ndarray, "S M"]
) -> tuple[Float[np.ndarray, "S"], Float[np.ndarray, "S M"]]:
    """The AUC of each replicate, and how each record moves their mean, to first order in its weight.

    Source: DeLong, DeLong and Clarke-Pearson (1988).
    """
    influence, auc = np.zeros(scores.shape), np.zeros(len(scores))
    for replicate, (inside, outside) in enumerate(zip(members, others, strict=True)):
        wins = roc.placements(scores[replicate, inside], scores[replicate, outside])
        auc[replicate] = wins[0].mean()
        for group, placed in zip((inside, outside), wins, strict=True):
            influence[replicate, group] = (placed - auc[replicate]) / len(placed) / len(scores)
    return auc, influence


def _auc_columns(
    measured: list[coalitions.Measured], influence: Float[np.ndarray, "S M"], row: dict[str, Any]
) -> dict[str, float]:
    """The mean AUC, with its interval over records and that over records and replicates."""
    by_replicate = np.mean([each.auc for each in measured], axis=0)
    auc, count = float(by_replicate.mean()), len(by_replicate)
    variance = intervals.Variance(float((influence.sum(axis=0) ** 2).sum()))
    trials = min(row["members"], row["non_members"])
    over_records = intervals.share_interval(auc, variance, trials=trials)
    if count > 1:
        apart = count / (count - 1) * ((influence - influence.mean(axis=0)) ** 2).sum()
        variance = intervals.Variance(variance.records, by_replicate.var(ddof=1) / count, float(apart), count)
    over_both = intervals.share_interval(auc, variance, trials=trials)
    return dict(zip(AUC, (auc, *over_records, *over_both), strict=True))


def _points(
    measured: list[coalitions.Measured], rates: Float[np.ndarray, "Q"], row: dict[str, Any]
) -> list[dict[str, float | None]]:
    """TPR at each rate with its interval, and the FPR that was realised; null where the sample cannot resolve them.

    A rate must allow one false alarm, and for an interval several of different records, on average over what is pooled.
    """
    tpr = resampling.average([each.rates.tpr for each in measured])
    fpr = np.mean([each.rates.fpr for each in measured], axis=0)
    alarms = np.mean([each.rates.alarms for each in measured], axis=0)
    fewest, table = min(each.others for each in measured), []
    for place, (rate, variance) in enumerate(zip(rates, resampling.variances(tpr), strict=True)):
        point: dict[str, float | None] = dict.fromkeys(("tpr", "tpr_low", "tpr_high", "fpr"))
        if roc.allowed_alarms(float(rate), fewest) >= 1:
            point |= {"tpr": float(tpr.value[place]), "fpr": float(fpr[place])}
            if alarms[place] >= intervals.LEAST_ALARMS:
                value, resamples = float(tpr.value[place]), tpr.records[place]
                ends = intervals.share_interval(value, variance, trials=row["members"], resamples=resamples)
                point |= {"tpr_low": ends.low, "tpr_high": ends.high}
        table.append(point)
    return table


def _curve(points: list[dict[str, float | None]], rates: Float[np.ndarray, "Q"]) -> list[dict[str, Any]]:
    """The ROC at the rates that the sample resolves."""
    return [point | {"fpr": float(rate)} for point, rate in zip(points, rates, strict=True) if point["tpr"] is not None]


def _worst_columns(measured: list[coalitions.Measured], nodes: int) -> dict[str, Any]:
    """The worst node and the worst party."""
    names = rows.attacked_names(nodes)
    columns: dict[str, Any] = {}
    for which, name in zip(WORST, (lambda each: names[each.node], lambda each: each.party), strict=True):
        label, numbers = coalitions.worst(measured, name)
        columns |= dict(zip(worst_columns(which), [*numbers, label], strict=True))
    return columns


def _advantage(
    scored: scorers.Scored, members: Bool[np.ndarray, "S M"], others: Bool[np.ndarray, "S M"]
) -> np.floating:
    """TPR - FPR at the thresholds from references, mean over targets; NaN without thresholds."""
    above = scored.scores > scored.thresholds[:, None]
    tpr, fpr = ((above & group).sum(axis=1) / group.sum(axis=1) for group in (members, others))
    return np.where(np.isnan(scored.thresholds), np.nan, tpr - fpr).mean()
