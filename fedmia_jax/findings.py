"""Scores of adversaries -> tables: rows of the results, certainty of each attack and view, ROC, coalitions, naming."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import polars as pl

from fedmia_jax import adversary, auditing, certainty, metrics, parts, results, stages, workload
from fedmia_jax.auditing import Evidence, Scored

FALSE_POSITIVE_RATES = np.geomspace(1e-4, 1.0, 61)


@dataclasses.dataclass(frozen=True)
class Findings:
    """Tables of all points."""

    rows: pl.DataFrame  # for results.parquet
    certainty: pl.DataFrame  # one row per attack and view, replicates pooled
    roc: pl.DataFrame
    coalitions: pl.DataFrame  # one row per attack, coalition, attacked node and replicate
    attribution: pl.DataFrame  # one row per way, view, true and named node


def points_of(runs: Sequence[workload.Run]) -> list[list[workload.Run]]:
    """Returns the replicates of each point that has reference federations."""
    points: dict[str, list[workload.Run]] = {}
    for run in runs:
        if run.audit is not None:
            points.setdefault(results.run_id(run), []).append(run)
    return list(points.values())


def study(
    planned: stages.Plan,
    kept: parts.Parts,
    advance: Callable[[float], None],
    *,
    on_broken: Callable[[str], None],
) -> Findings:
    """Attacks every target under every view.

    Args:
      planned: the runs, and where their signals are; some with reference federations.
      kept: what the stages have left.
      advance: called with 1 after each attack of each point.
      on_broken: called with a line about each attack whose scores are not numbers; their rows are empty.
    """
    # Normal equations and covariances need all the bits that an accelerator would rather save.
    with jax.default_matmul_precision("highest"):
        found = [_study(auditing.gather(planned, kept, runs), advance, on_broken) for runs in points_of(planned.runs)]
    names = [field.name for field in dataclasses.fields(Findings)]
    return Findings(*(pl.concat([one[name] for one in found], how="diagonal_relaxed") for name in names))


def _study(
    evidence: Evidence, advance: Callable[[float], None], on_broken: Callable[[str], None]
) -> dict[str, pl.DataFrame]:
    """The tables of one point."""
    tables: dict[str, list[dict[str, Any]]] = {"certainty": [], "roc": [], "coalitions": []}
    rows: list[dict[str, Any]] = []
    for name in evidence.runs[0].settings.attack.names:
        single = name in evidence.single
        by_view: dict[str, list[Scored]] = {}
        for one in (auditing.score_single if single else auditing.score_compared)(evidence, name):
            if one.view.startswith(auditing.EVERY):
                tables["coalitions"] += _coalition(evidence, one)
                continue
            rows += _rows(evidence, one)
            if one.view != adversary.SNAPSHOT:
                by_view.setdefault(one.view, []).append(one)
        for view, found in by_view.items():
            for attacked, some in _split(evidence, found).items():
                head = {"attack": name, "view": view, "attacked": attacked}
                sure, curve = certain(evidence, some)
                if not curve:
                    on_broken(
                        f"attack {name}: scores are not numbers, its rows stay empty; a reference or a target exploded"
                    )
                tables["certainty"].append(head | sure)
                tables["roc"] += [head | point for point in curve]
        advance(1)
    tables["attribution"] = list(auditing.attribute(evidence))
    head = {name: value for name, value in results.head(evidence.runs[0]).items() if name != "replicate"}
    frames = {name: pl.DataFrame([head | row for row in found]) for name, found in tables.items()}
    return frames | {"rows": pl.DataFrame(rows, schema=results.schema_of(evidence.runs[0]))}


@functools.cache
def _make_measure() -> Callable[..., metrics.Metrics]:
    """`measure(scores [S, M], members [S, M], non_members [S, M], thresholds [S])` -> metrics, leaves [S, 1]."""
    measure = metrics.make_metrics(rates=results.RATES)
    return jax.jit(
        jax.vmap(lambda scores, members, others, threshold: measure(scores, members[None], others, threshold))
    )


def _rows(evidence: Evidence, one: Scored) -> list[dict[str, Any]]:
    """A row of the results for each replicate."""
    members, others = evidence.members(one.node), evidence.others
    measured = jax.device_get(_make_measure()(one.scores, members, others, one.thresholds.astype(np.float32)))
    read = one.snapshot
    place = {"cycle": None, "node": None, "snapshot": None} if read is None else results.place(read + 1, evidence.nodes)
    rows = []
    for row, run in enumerate(evidence.runs):
        right = evidence.correct[row, one.last]
        rows.append(
            {
                **results.head(run),
                **place,
                "phase": "federated",
                "attacked": results.attacked_names(evidence.nodes)[one.node],
                "attack": one.attack,
                "view": one.party,
                "threshold": results.number(one.thresholds[row]),
                **results.measured(measured, row, 0),
                "num_members": int(members[row].sum()),
                "num_non_members": int(others[row].sum()),
                "target_train_accuracy": float(right[members[row]].mean()),
                "target_test_accuracy": float(right[others[row]].mean()),
                "attack_held_out_accuracy": None,
            }
        )
    return rows


def _split(evidence: Evidence, found: Sequence[Scored]) -> dict[str, list[Scored]]:
    """What attacks nodes, each by itself, and what attacks their union."""
    nodes = [one for one in found if one.node < evidence.nodes]
    union = [one for one in found if one.node == evidence.nodes]
    return {name: some for name, some in (("node", nodes), ("union", union)) if some}


def certain(evidence: Evidence, found: Sequence[Scored]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Pools one attack under one view over its parties, attacked nodes and replicates.

    Args:
      evidence: who owned what.
      found: the scores.

    Returns:
      One row of certainty, and the points of its ROC.
    """
    scores = np.stack([one.scores for one in found])  # [I, S, M]
    members = np.stack([evidence.members(one.node) for one in found])
    others = np.broadcast_to(evidence.others, members.shape)
    row: dict[str, Any] = {"parties": len({one.party for one in found}), "replicates": scores.shape[1]}
    row |= {"scored_members": int(members.sum()), "scored_non_members": int(others.sum())}
    row["members"], row["non_members"] = _distinct(members, others)
    if np.isnan(scores[members | others]).any():  # NaN cannot be ranked, and must not look like privacy
        return row, []
    wins = np.zeros(scores.shape, np.float32)
    for index in np.ndindex(*scores.shape[:2]):
        inside, outside = members[index], others[index]
        wins[(*index, inside)], wins[(*index, outside)] = certainty.placements(
            scores[(*index, inside)], scores[(*index, outside)]
        )
    records, both = certainty.auc_interval(wins, members, others, seed=0)
    row["auc"] = float(((wins * members).sum(axis=2) / members.sum(axis=2)).mean())
    row |= {"auc_low": records.low, "auc_high": records.high}
    row |= {"auc_low_replicates": both.low, "auc_high_replicates": both.high}
    whole = _pool(scores, members, others, np.ones(scores.shape[2], bool))
    roc = certainty.make_roc(whole.members, whole.others, whole.weights)
    for rate in results.RATES:
        row |= _at_rate(rate, roc, whole.trials)
    half = np.random.default_rng(0).random((scores.shape[2],)) < 0.5
    halves = [_pool(scores, members, others, side) for side in (half, ~half)]
    row["epsilon"] = certainty.epsilon(*halves)
    row["advantage"] = float(np.mean([_advantage(one, evidence.members(one.node), evidence.others) for one in found]))
    return row, _curve(roc, whole.trials)


def _distinct(members: np.ndarray, others: np.ndarray) -> tuple[int, int]:
    """Records that are a member, and a non-member, before any node at any target: each is one trial."""
    return int(np.any(members, axis=(0, 1)).sum()), int(np.any(others, axis=(0, 1)).sum())


def _pool(scores: np.ndarray, members: np.ndarray, others: np.ndarray, side: np.ndarray) -> certainty.Half:
    """All scores of some records; non-members weigh as the members that they stand beside, [I, S, M] and bool[M]."""
    members, others = members & side, others & side
    weights = members.sum(axis=2, keepdims=True) / members.sum(axis=2).mean() * np.ones(scores.shape, np.float32)
    return certainty.Half(scores[members], scores[others], weights[others], _distinct(members, others))


def _advantage(one: Scored, members: np.ndarray, others: np.ndarray) -> float:
    """TPR - FPR at the thresholds from references, mean over targets."""
    above = one.scores > one.thresholds[:, None]
    return float(
        np.mean([hit[inside].mean() - hit[out].mean() for hit, inside, out in zip(above, members, others, strict=True)])
    )


def _at_rate(rate: float, roc: certainty.Roc, trials: tuple[int, int]) -> dict[str, Any]:
    """TPR at a low FPR with what was realised and both intervals; null where the sample cannot resolve it."""
    names = [f"tpr_at_fpr_{rate}{end}" for end in ("", "_low", "_high")]
    names += [f"fpr_{rate}{end}" for end in ("", "_low", "_high")] + [f"threshold_{rate}"]
    inside, outside = trials
    if outside * rate < 1:
        return dict.fromkeys(names)
    found = certainty.at_rate(roc, rate)
    tpr = certainty.clopper_pearson(found.tpr * inside, inside)
    fpr = certainty.clopper_pearson(found.fpr * outside, outside)
    return dict(zip(names, [found.tpr, *tpr, found.fpr, *fpr, found.threshold], strict=True))


def _curve(roc: certainty.Roc, trials: tuple[int, int]) -> list[dict[str, Any]]:
    """The ROC at the rates that the sample resolves, with Clopper-Pearson bands."""
    points = []
    inside, outside = trials
    for rate in FALSE_POSITIVE_RATES[FALSE_POSITIVE_RATES * outside >= 1]:
        tpr = 1.0 if rate == 1.0 else certainty.at_rate(roc, float(rate)).tpr
        low, high = certainty.clopper_pearson(tpr * inside, inside)
        points.append({"fpr": float(rate), "tpr": tpr, "tpr_low": low, "tpr_high": high})
    return points


def _coalition(evidence: Evidence, one: Scored) -> list[dict[str, Any]]:
    """One row for each replicate, of one coalition and one node that it attacks."""
    head = {"attack": one.attack, "size": int(one.view.partition(":")[2]), "party": one.party}
    head["attacked"] = results.attacked_names(evidence.nodes)[one.node]
    members, others, rows = evidence.members(one.node), evidence.others, []
    for replicate, scores in enumerate(one.scores):
        inside, outside = scores[members[replicate]], scores[others[replicate]]
        roc = certainty.make_roc(inside, outside)
        if np.isnan(inside).any() or np.isnan(outside).any():
            continue
        found: dict[str, Any] = {"replicate": replicate, "auc": float(certainty.beaten(inside, roc.others).mean())}
        for rate in results.RATES:
            enough = len(outside) * rate >= 1
            found[f"tpr_at_fpr_{rate}"] = certainty.at_rate(roc, rate).tpr if enough else None
        rows.append(head | found)
    return rows
