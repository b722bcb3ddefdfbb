"""Scores of parties -> tables: rows of the results, intervals of each attack and view, ROC, coalitions, naming."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from fedmia_jax.audit import attribution, evidence, intervals, metrics, roc, rows, scoring

FALSE_POSITIVE_RATES = np.geomspace(1e-4, 1.0, 61)


def _rate_columns(rate: float) -> list[str]:
    """Columns of one false-positive rate: TPR, the FPR that was realised, both ends of both, and the threshold."""
    names = [f"tpr_at_fpr_{rate}{end}" for end in ("", "_low", "_high")]
    return names + [f"fpr_{rate}{end}" for end in ("", "_low", "_high")] + [f"threshold_{rate}"]


HEAD = {"attack": pl.String, "view": pl.String, "attacked": pl.String}
COUNTS = ("parties", "replicates", "scored_members", "scored_non_members", "members", "non_members")
AUC = ("auc", "auc_low", "auc_high", "auc_low_replicates", "auc_high_replicates")
AT_RATES = tuple(column for rate in rows.RATES for column in _rate_columns(rate))
SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "rows": rows.SCHEMA,
    "intervals": HEAD
    | dict.fromkeys(COUNTS, pl.Int64)
    | dict.fromkeys((*AUC, *AT_RATES, "epsilon", "advantage"), pl.Float64),
    "roc": HEAD | dict.fromkeys(("fpr", "tpr", "tpr_low", "tpr_high"), pl.Float64),
    "coalitions": {
        "attack": pl.String,
        "size": pl.Int64,
        "party": pl.String,
        "attacked": pl.String,
        "replicate": pl.Int64,
        "auc": pl.Float64,
        **{f"tpr_at_fpr_{rate}": pl.Float64 for rate in rows.RATES},
    },
    "attribution": dict.fromkeys(("way", "view", "true", "named"), pl.String) | {"count": pl.Int64},
}


@dataclasses.dataclass(frozen=True)
class Findings:
    """What an audit says, as tables.

    Attributes:
      rows: one row per replicate, snapshot, attacked party, attack and view.
      intervals: one row per attack, view and whether nodes or their union are attacked, replicates pooled.
      roc: the points of the ROC behind each row of `intervals`.
      coalitions: one row per attack, coalition of `all_coalitions:k`, attacked node and replicate.
      attribution: one row per way, view, true and named node: how often.
    """

    rows: pl.DataFrame
    intervals: pl.DataFrame
    roc: pl.DataFrame
    coalitions: pl.DataFrame
    attribution: pl.DataFrame


def study(
    scorer: scoring.Scorer,
    names: Sequence[str],
    *,
    advance: Callable[[float], None],
    on_broken: Callable[[str], None],
) -> Findings:
    """Attacks every target under every view.

    Args:
      scorer: the evidence, the views and the attacks with references.
      names: the attacks, in the order of the tables.
      advance: called with 1 after each attack.
      on_broken: called with a line about each attack whose scores are not numbers; its numbers are null.
    """
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in SCHEMAS}
    for name in names:
        single = name in scorer.arrays.model_scores
        by_view: dict[str, list[scoring.Scored]] = {}
        for scored in (scoring.score_on_one_model if single else scoring.score_with_references)(scorer, name):
            if scoring.is_many(scored.view):
                tables["coalitions"] += _coalition_rows(scorer.arrays, scored)
                continue
            tables["rows"] += _rows(scorer, scored)
            if scored.view != rows.SNAPSHOT:
                by_view.setdefault(scored.view, []).append(scored)
        for view, attacked, group in _groups(scorer.nodes, by_view):
            head = {"attack": name, "view": view, "attacked": attacked}
            pooled, curve = pool(scorer.arrays, group)
            if not curve:
                on_broken(
                    f"attack {name}: scores are not numbers, its rows stay empty; a reference or a target exploded"
                )
            tables["intervals"].append(head | pooled)
            tables["roc"] += [head | point for point in curve]
        advance(1)
    tables["attribution"] = list(attribution.attribute(scorer))
    frames = {
        name: pl.DataFrame([{column: row.get(column) for column in SCHEMAS[name]} for row in table], SCHEMAS[name])
        for name, table in tables.items()
    }
    return Findings(**frames)


def _rows(scorer: scoring.Scorer, scored: scoring.Scored) -> Iterator[dict[str, Any]]:
    """A row of the results for each target."""
    arrays, name = scorer.arrays, rows.attacked_names(scorer.nodes)[scored.node]
    groups = zip(arrays.members(scored.node), arrays.others(scored.node), strict=True)
    for replicate, (members, others) in enumerate(groups):
        scores, threshold = scored.scores[replicate], scored.thresholds[replicate]
        measured = metrics.measure(scores, members, others, scores.dtype.type(threshold), rates=rows.RATES)
        broken = bool(np.isnan(scores[members | others]).any())
        right = None if broken or arrays.correct is None else arrays.correct[replicate, scored.last[replicate]]
        read = None if scored.snapshots is None else int(scored.snapshots[replicate])
        where = {"replicate": replicate, **rows.place(scorer.known.scored[replicate], read), "attacked": name}
        yield rows.make_row(
            where | {"attack": scored.attack, "view": scored.party},
            measured,
            threshold=threshold,
            members=np.flatnonzero(members),
            others=np.flatnonzero(others),
            correct=None if right is None else np.asarray(right),
            held_out=None if scored.held_out is None else scored.held_out[replicate],
        )


def _groups(
    nodes: int, by_view: Mapping[str, Sequence[scoring.Scored]]
) -> Iterator[tuple[str, str, list[scoring.Scored]]]:
    """By view, what attacks nodes, each by itself, and what attacks their union."""
    for view, group in by_view.items():
        single = [scored for scored in group if scored.node < nodes]
        union = [scored for scored in group if scored.node == nodes]
        yield from ((view, name, some) for name, some in (("node", single), ("union", union)) if some)


def pool(arrays: evidence.Evidence, group: Sequence[scoring.Scored]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Pools one attack under one view over its parties, attacked nodes and replicates.

    Args:
      arrays: who owned what.
      group: the scores.

    Returns:
      One row of intervals, and the points of its ROC; where scores are not numbers the counts alone, and no points.
    """
    scores = np.stack([scored.scores for scored in group])  # [I, S, M]
    members = np.stack([arrays.members(scored.node) for scored in group])
    others = np.stack([arrays.others(scored.node) for scored in group])
    row: dict[str, Any] = {"parties": len({scored.party for scored in group}), "replicates": scores.shape[1]}
    row |= {"scored_members": int(members.sum()), "scored_non_members": int(others.sum())}
    row["members"], row["non_members"] = _distinct(members, others)
    if np.isnan(scores[members | others]).any():  # NaN cannot be ranked, and must not look like privacy
        return row, []
    row |= _auc(scores, members, others)
    whole = _pool(scores, members, others, np.ones(scores.shape[2], bool))
    curve = roc.make_roc(whole.members, whole.others, whole.weights)
    for rate in rows.RATES:
        row |= _at_rate(rate, curve, whole.trials)
    side = np.random.default_rng(0).random((scores.shape[2],)) < 0.5
    row["epsilon"] = intervals.epsilon(*(_pool(scores, members, others, half) for half in (side, ~side)))
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


def _pool(
    scores: Float[np.ndarray, "I S M"],
    members: Bool[np.ndarray, "I S M"],
    others: Bool[np.ndarray, "I S M"],
    side: Bool[np.ndarray, "M"],
) -> intervals.Half:
    """All scores of some records; non-members weigh as the members that they stand beside."""
    members, others = members & side, others & side
    weights = members.sum(axis=2, keepdims=True) / members.sum(axis=2).mean() * np.ones(scores.shape, np.float32)
    return intervals.Half(scores[members], scores[others], weights[others], _distinct(members, others))


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
    names = _rate_columns(rate)
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


def _coalition_rows(arrays: evidence.Evidence, scored: scoring.Scored) -> list[dict[str, Any]]:
    """One row for each replicate, of one coalition and one node that it attacks."""
    head = {"attack": scored.attack, "size": int(scored.view.partition(":")[2]), "party": scored.party}
    head["attacked"] = rows.attacked_names(arrays.nodes)[scored.node]
    members, others, table = arrays.members(scored.node), arrays.others(scored.node), []
    for replicate, scores in enumerate(scored.scores):
        inside, outside = scores[members[replicate]], scores[others[replicate]]
        curve = roc.make_roc(inside, outside)
        if np.isnan(inside).any() or np.isnan(outside).any():
            continue
        numbers: dict[str, Any] = {"replicate": replicate, "auc": float(roc.beaten(inside, curve.others).mean())}
        for rate in rows.RATES:
            enough = len(outside) * rate >= 1
            numbers[f"tpr_at_fpr_{rate}"] = roc.at_rate(curve, rate).tpr if enough else None
        table.append(head | numbers)
    return table
