"""One attack under one view, pooled over parties, attacked nodes and replicates: numbers with intervals, and a ROC."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from fedmia_jax.audit import epsilon, evidence, intervals, roc, rows, scoring

FALSE_POSITIVE_RATES = np.geomspace(1e-4, 1.0, 61)
COUNTS = ("parties", "replicates", "scored_members", "scored_non_members", "members", "non_members")
AUC = ("auc", "auc_low", "auc_high", "auc_low_replicates", "auc_high_replicates")


def rate_columns(rate: float) -> list[str]:
    """Returns the columns of one rate: TPR and the FPR that was realised, each with both ends, and the threshold."""
    names = [f"tpr_at_fpr_{rate}{end}" for end in ("", "_low", "_high")]
    return names + [f"fpr_{rate}{end}" for end in ("", "_low", "_high")] + [f"threshold_{rate}"]


NUMBERS = (*AUC, *(column for rate in rows.RATES for column in rate_columns(rate)), "advantage")


def is_broken(arrays: evidence.Evidence, scored: scoring.Scored) -> bool:
    """Returns whether scores are NaN, which cannot be ranked and must not look like privacy."""
    return bool(np.isnan(scored.scores[arrays.members(scored.node) | arrays.others(scored.node)]).any())


def pool(arrays: evidence.Evidence, group: Sequence[scoring.Scored]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Pools the scores of one attack under one view.

    Args:
      arrays: who owned what.
      group: the scores.

    Returns:
      One row of intervals, and the points of its ROC; the counts alone and no points where scores are not numbers, or
      where there is nothing to compare.
    """
    scores = np.stack([scored.scores for scored in group])  # [I, S, M]
    members = np.stack([arrays.members(scored.node) for scored in group])
    others = np.stack([arrays.others(scored.node) for scored in group])
    row: dict[str, Any] = {"parties": len({scored.party for scored in group}), "replicates": scores.shape[1]}
    row |= {"scored_members": int(members.sum()), "scored_non_members": int(others.sum())}
    row["members"], row["non_members"] = _distinct(members, others)
    empty = not (members.any(axis=2) & others.any(axis=2)).all()
    if empty or any(is_broken(arrays, scored) for scored in group):
        return row, []
    row |= _auc(scores, members, others)
    whole = epsilon.pool(scores, members, others)
    curve = roc.make_roc(whole.members, whole.others, whole.weights)
    for rate in rows.RATES:
        row |= _at_rate(rate, curve, whole.trials)
    row["advantage"] = float(np.mean([_advantage(arrays, scored) for scored in group]))
    return row, _points(curve, whole.trials)


def _auc(
    scores: Float[np.ndarray, "I S M"], members: Bool[np.ndarray, "I S M"], others: Bool[np.ndarray, "I S M"]
) -> dict[str, float]:
    """The mean AUC with both intervals."""
    wins = np.zeros(scores.shape, np.float32)
    for index in np.ndindex(*scores.shape[:2]):
        inside, outside = members[index], others[index]
        wins[(*index, inside)], wins[(*index, outside)] = roc.placements(
            scores[(*index, inside)], scores[(*index, outside)]
        )
    over_records, over_both = intervals.auc_interval(wins, members, others, seed=0)
    auc = float(((wins * members).sum(axis=2) / members.sum(axis=2)).mean())
    return dict(zip(AUC, (auc, *over_records, *over_both), strict=True))


def _distinct(members: Bool[np.ndarray, "I S M"], others: Bool[np.ndarray, "I S M"]) -> tuple[int, int]:
    """Records that are a member, and a non-member, before any node at any target: each is one trial."""
    return int(np.any(members, axis=(0, 1)).sum()), int(np.any(others, axis=(0, 1)).sum())


def _advantage(arrays: evidence.Evidence, scored: scoring.Scored) -> float:
    """TPR - FPR at the thresholds from references, mean over targets."""
    groups = zip(
        scored.scores > scored.thresholds[:, None],
        arrays.members(scored.node),
        arrays.others(scored.node),
        strict=True,
    )
    return float(np.mean([above[members].mean() - above[others].mean() for above, members, others in groups]))


def _at_rate(rate: float, curve: roc.Roc, trials: tuple[int, int]) -> dict[str, float | None]:
    """TPR at a low FPR with what was realised and both intervals; null where the sample cannot resolve it."""
    names = rate_columns(rate)
    inside, outside = trials
    if outside * rate < 1:
        return dict.fromkeys(names)
    point = roc.at_rate(curve, rate)
    tpr = intervals.clopper_pearson(point.tpr * inside, inside)
    fpr = intervals.clopper_pearson(point.fpr * outside, outside)
    return dict(zip(names, [point.tpr, *tpr, point.fpr, *fpr, point.threshold], strict=True))


def _points(curve: roc.Roc, trials: tuple[int, int]) -> list[dict[str, Any]]:
    """The ROC at the rates that the sample resolves, with Clopper-Pearson bands."""
    points = []
    inside, outside = trials
    for rate in FALSE_POSITIVE_RATES[FALSE_POSITIVE_RATES * outside >= 1]:
        tpr = 1.0 if rate == 1.0 else roc.at_rate(curve, float(rate)).tpr
        low, high = intervals.clopper_pearson(tpr * inside, inside)
        points.append({"fpr": float(rate), "tpr": tpr, "tpr_low": low, "tpr_high": high})
    return points
