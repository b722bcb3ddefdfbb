"""Scores -> rows of the results: one for each replicate, snapshot, attacked party, attack and view."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from fedmia_jax import types
from fedmia_jax.audit import evidence, metrics
from fedmia_jax.schedule import Schedule

SNAPSHOT = "snapshot"  # the view of an attack on each snapshot by itself
RATES = (0.01, 0.001)
METRICS = ("accuracy", "precision", "recall", "f1", "auc")
SCHEMA = {
    "replicate": pl.Int64,
    "cycle": pl.Int64,
    "node": pl.Int64,
    "snapshot": pl.String,
    "attacked": pl.String,
    "attack": pl.String,
    "view": pl.String,
    "threshold": pl.Float64,
    **dict.fromkeys(METRICS, pl.Float64),
    **{f"tpr_at_fpr_{rate}": pl.Float64 for rate in RATES},
    "num_members": pl.Int64,
    "num_non_members": pl.Int64,
    "target_train_accuracy": pl.Float64,
    "target_test_accuracy": pl.Float64,
    "attack_held_out_accuracy": pl.Float64,
}


def attacked_names(nodes: int) -> list[str]:
    """Returns the names of the attacked parties: N1 .. NN, union."""
    return [f"N{node + 1}" for node in range(nodes)] + ["union"]


def membership(owners: Int[np.ndarray, "M"], nodes: int) -> tuple[Bool[np.ndarray, "A M"], Bool[np.ndarray, "M"]]:
    """Returns the members of every node and, last, of the union, and the non-members, from the owners of records."""
    members = np.stack([evidence.members_of(owners, node, nodes=nodes) for node in range(nodes + 1)])
    return members, owners == evidence.OUTSIDE


def number(value: float | np.floating | None) -> float | None:
    """Returns a metric, or None where the sample cannot resolve it."""
    return None if value is None or np.isnan(value) else float(value)


def place(schedule: Schedule | None, snapshot: int | None) -> dict[str, Any]:
    """Returns which snapshot, counted from 1; null for a centralised model and for several snapshots together."""
    if schedule is None or snapshot is None:
        return {"cycle": None, "node": None, "snapshot": None}
    return {
        "cycle": int(schedule.cycle[snapshot]) + 1,
        "node": schedule.node(snapshot),
        "snapshot": schedule.label(snapshot),
    }


def share(correct: Bool[np.ndarray, "M"] | None, records: Int[np.ndarray, "m"]) -> float | None:
    """Returns the accuracy on some records; None where it is not known or there are none."""
    return None if correct is None or not len(records) else float(correct[records].mean())


def make_row(
    where: dict[str, Any],
    measured: metrics.Metrics,
    *,
    threshold: float | np.floating,
    members: Int[np.ndarray, "m"],
    others: Int[np.ndarray, "n"],
    correct: Bool[np.ndarray, "M"] | None,
    held_out: float | np.floating | None,
) -> dict[str, Any]:
    """Returns one row of the results.

    Args:
      where: values of replicate, cycle, node, snapshot, attacked, attack and view.
      measured: at the rates of `RATES`.
      threshold: of the attack.
      members: the records attacked, by index.
      others: the non-members, by index.
      correct: whether the model answers the label; None where it is not known, or where an attack or the model is
        broken.
      held_out: accuracy of the attack on models that it was not fitted on.
    """
    tpr = zip(RATES, measured.tpr_at_fpr, strict=True)
    return {
        **where,
        "threshold": number(threshold),
        **{name: number(getattr(measured, name)) for name in METRICS},
        **{f"tpr_at_fpr_{rate}": number(value) for rate, value in tpr},
        "num_members": len(members),
        "num_non_members": len(others),
        "target_train_accuracy": share(correct, members),
        "target_test_accuracy": share(correct, others),
        "attack_held_out_accuracy": number(held_out),
    }


def snapshot_rows(
    schedule: Schedule | None,
    *,
    scores: Float[types.Array, "T M"],
    thresholds: Float[types.Array, "T"],
    held_out: Float[types.Array, "T"] | None,
    correct: Bool[types.Array, "T M"] | None,
    owners: Int[types.Array, "M"],
    nodes: int,
    attack: str,
    view: str = SNAPSHOT,
    replicate: int = 0,
    assigned: Int[types.Array, "M"] | None = None,
) -> list[dict[str, Any]]:
    """Returns a row for each snapshot of one target and each attacked party, nodes and then the union.

    Args:
      schedule: of the target; None for a centralised model, which is one snapshot.
      scores: of an attack that says the same whichever node it attacks; higher means member.
      thresholds: a score above it says member.
      held_out: accuracy of the attack on models that it was not fitted on, or None.
      correct: whether the model answers the label, or None.
      owners: index of the node that trained on the record, -1 for a non-member, -2 for a record that does not count.
      nodes: N.
      attack: name.
      view: name.
      replicate: index of the target.
      assigned: see `evidence.Evidence`.
    """
    groups = _Groups.of(np.asarray(owners), assigned, nodes)
    table = []
    for snapshot, threshold in enumerate(np.asarray(thresholds, scores.dtype)):
        measured, broken = groups.measure(np.asarray(scores[snapshot]), threshold)
        answers = None if correct is None or broken else np.asarray(correct[snapshot])
        fitting = None if held_out is None else np.asarray(held_out)[snapshot]
        where = {"replicate": replicate, **place(schedule, snapshot)}
        for node, name in enumerate(attacked_names(nodes)):
            row = make_row(
                where | {"attacked": name, "attack": attack, "view": view},
                measured[node],
                threshold=threshold,
                members=groups.members[node],
                others=groups.others[node],
                correct=answers,
                held_out=fitting,
            )
            table.append(row)
    return table


class _Groups(NamedTuple):
    """The records that count, by index: of every node and, last, of the union."""

    members: Sequence[np.ndarray]
    others: Sequence[np.ndarray]

    @classmethod
    def of(cls, owners: np.ndarray, assigned: types.Array | None, nodes: int) -> "_Groups":
        """Sorts records by their owners; parties with the same non-members share one array."""
        members = [np.flatnonzero(evidence.members_of(owners, node, nodes=nodes)) for node in range(nodes + 1)]
        others = [np.flatnonzero(evidence.others_of(owners, assigned, node, nodes=nodes)) for node in range(nodes + 1)]
        return cls(members, [others[-1] if np.array_equal(group, others[-1]) else group for group in others])

    def measure(self, scores: np.ndarray, threshold: np.floating) -> tuple[list[metrics.Metrics], bool]:
        """The metrics of every party at one snapshot, and whether its scores are not numbers."""
        if np.isnan(scores[self.members[-1]]).any() or np.isnan(scores[self.others[-1]]).any():
            return [metrics.unknown(RATES)] * len(self.members), True
        shared = np.sort(scores[self.others[-1]])  # once for all parties with the same non-members
        measured = []
        for members, others in zip(self.members, self.others, strict=True):
            ranked = shared if others is self.others[-1] else np.sort(scores[others])
            measured.append(metrics.measure_ranked(scores[members], ranked, threshold, rates=RATES))
        return measured, False
