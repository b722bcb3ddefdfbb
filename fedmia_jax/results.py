"""Scores -> the tidy table: one row per (run, replicate, snapshot, attacked, attack, view)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from fedmia_jax import config, metrics, store, workload

RATES = (0.01, 0.001)
METRICS = ("accuracy", "precision", "recall", "f1", "auc")
ALWAYS = ("data.name", "data.num_classes", "federation.nodes", "federation.local_epochs")


SCHEMA = {
    "run_id": pl.String,
    "replicate": pl.Int64,
    "phase": pl.String,
    "data.name": pl.String,
    "data.num_classes": pl.Int64,
    "federation.nodes": pl.Int64,
    "federation.local_epochs": pl.Int64,
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


def tabulate(context: workload.Context, fitted: dict[str, Any], scored: dict[str, Any]) -> pl.DataFrame:
    """Takes the metrics of every attacked party from the score arrays.

    Args:
      context: runs and settings.
      fitted: fitted attacks by name, leaves [R, 1 + T, ...].
      scored: what `attacking.score` returns; the centralised target first, then the snapshots.

    Returns:
      The results; columns as the design's contract, `tpr_at_fpr_*` null where the sample cannot resolve them.
    """
    rows = [row for index in range(len(context.runs)) for row in _rows(context, fitted, scored, index)]
    # One file order for readers: the baseline of all runs, then the federations.
    return pl.DataFrame(rows, schema=SCHEMA).sort("phase", maintain_order=True)


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


def _rows(
    context: workload.Context, fitted: dict[str, Any], scored: dict[str, Any], index: int
) -> list[dict[str, Any]]:
    """All rows of one run."""
    run, nodes = context.runs[index], context.settings.federation.nodes
    members, non_members = membership(run.owners, nodes)
    correct = scored["correct"][index]  # bool[T, M]
    train_accuracy = np.stack([correct[:, owned].mean(axis=1) for owned in members], axis=1)
    test_accuracy = correct[:, non_members].mean(axis=1)
    rows = []
    for attack, scores in scored["scores"].items():
        thresholds = scored["threshold"][attack][index]
        measured = jax.device_get(_measure(scores[index], members, jnp.asarray(non_members), thresholds))
        held_out = fitted[attack]["curve"][index][:, -1]
        for t, a in np.ndindex(train_accuracy.shape):
            rows.append(
                {
                    **_head(context, run, t),
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
                    "attack_held_out_accuracy": float(held_out[t]),
                }
            )
    return rows


def _head(context: workload.Context, run: workload.Run, t: int) -> dict[str, Any]:
    """Which run and target; snapshots count from 1 and are null for the centralised target, which is target 0."""
    run_id = store.fingerprint(dataclasses.replace(run.settings, replicates=1), context.dataset)
    always = {name: config.get(run.settings, name) for name in ALWAYS}
    always["data.num_classes"] = context.dataset.num_classes
    cycle, node = (t - 1) // run.settings.federation.nodes + 1, (t - 1) % run.settings.federation.nodes + 1
    return {
        "run_id": run_id,
        "replicate": run.replicate,
        "phase": "federated" if t else "centralised",
        **always,
        "cycle": cycle if t else None,
        "node": node if t else None,
        "snapshot": f"C{cycle}N{node}" if t else None,
    }


def _number(value: np.floating) -> float | None:
    """A metric, or None where the sample cannot resolve it."""
    return None if np.isnan(value) else float(value)
