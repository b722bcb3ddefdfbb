"""Scores -> the tidy table: one row per (run, replicate, snapshot, attacked, attack, view)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from fedmia_jax import config, experiment, metrics, store

RATES = (0.01, 0.001)
METRICS = ("accuracy", "precision", "recall", "f1", "auc")
ALWAYS = ("data.name", "data.num_classes", "federation.nodes", "federation.local_epochs")


@dataclasses.dataclass(frozen=True)
class Phase:
    """The attacks on the centralised model, or on all snapshots of the federation."""

    name: str  # centralised or federated
    fitted: dict[str, Any]  # leaves [R, T, ...] or [R, 1, ...]
    scored: dict[str, Any]  # see `experiment.score`


def tabulate(context: "experiment.Context", phases: Sequence[Phase]) -> pl.DataFrame:
    """Takes the metrics of every attacked party from the score arrays.

    Args:
      context: runs and settings.
      phases: scores of the centralised and of the federated targets.

    Returns:
      The results; columns as the design's contract, `tpr_at_fpr_*` null where the sample cannot resolve them.
    """
    rows = [row for phase in phases for index in range(len(context.runs)) for row in _rows(context, phase, index)]
    return pl.DataFrame(rows, infer_schema_length=None)


def attacked_names(num_nodes: int) -> list[str]:
    """Names of the attacked parties: N1 .. NN, union."""
    return [f"N{node + 1}" for node in range(num_nodes)] + ["union"]


def membership(owners: np.ndarray, num_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Members bool[N + 1, M] of every node and of the union, and non-members bool[M], from owners i32[M]."""
    nodes = owners == np.arange(num_nodes)[:, None]
    return np.concatenate([nodes, nodes.any(axis=0, keepdims=True)]), owners < 0


@jax.jit
def _measure(scores, members, non_members, thresholds) -> metrics.Metrics:
    """Metrics of every snapshot, leaves [T, A]."""
    measure = metrics.make_metrics(rates=RATES)
    return jax.lax.map(lambda pair: measure(pair[0], members, non_members, pair[1]), (scores, thresholds))


def _rows(context: "experiment.Context", phase: Phase, index: int) -> list[dict[str, Any]]:
    """All rows of one run in one phase."""
    run, nodes = context.runs[index], context.settings.federation.nodes
    members, non_members = membership(run.owners, nodes)
    correct = phase.scored["correct"][index].astype(np.float32)  # [T, M]
    train_accuracy = correct @ (members / members.sum(axis=1, keepdims=True)).T.astype(np.float32)
    test_accuracy = correct[:, non_members].mean(axis=1)
    head = _head(context, run, phase)
    rows = []
    for attack, scores in phase.scored["scores"].items():
        thresholds = phase.scored["threshold"][attack][index]
        measured = jax.device_get(_measure(scores[index], members, jnp.asarray(non_members), thresholds))
        curve = phase.fitted[attack]["curve"][index]
        for t, a in np.ndindex(train_accuracy.shape):
            rows.append(
                {
                    **head,
                    **_snapshot(phase, t, nodes),
                    "attacked": attacked_names(nodes)[a],
                    "attack": attack,
                    "view": "snapshot",
                    "threshold": float(thresholds[t]),
                    **{name: float(getattr(measured, name)[t, a]) for name in METRICS},
                    **{f"tpr_at_fpr_{rate}": _number(measured.tpr_at_fpr[t, a, i]) for i, rate in enumerate(RATES)},
                    "num_members": int(members[a].sum()),
                    "num_non_members": int(non_members.sum()),
                    "target_train_accuracy": float(train_accuracy[t, a]),
                    "target_test_accuracy": float(test_accuracy[t]),
                    "attack_held_out_accuracy": float(curve[min(t, len(curve) - 1), -1]),
                }
            )
    return rows


def _head(context: "experiment.Context", run: "experiment.Run", phase: Phase) -> dict[str, Any]:
    """What all rows of a run share."""
    always = {name: config.get(run.settings, name) for name in ALWAYS}
    always["data.num_classes"] = context.dataset.num_classes
    run_id = store.fingerprint(dataclasses.replace(run.settings, replicates=1), context.dataset)
    return {"run_id": run_id, "replicate": run.replicate, "phase": phase.name, **always}


def _snapshot(phase: Phase, t: int, num_nodes: int) -> dict[str, Any]:
    """Which snapshot, 1-based; null where centralised."""
    if phase.name == "centralised":
        return {"cycle": None, "node": None, "snapshot": None}
    cycle, node = t // num_nodes + 1, t % num_nodes + 1
    return {"cycle": cycle, "node": node, "snapshot": f"C{cycle}N{node}"}


def _number(value: np.floating) -> float | None:
    """A metric, or None where the sample cannot resolve it."""
    return None if np.isnan(value) else float(value)
