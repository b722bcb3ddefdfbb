"""Scores -> the tidy table: one row per (run, replicate, snapshot, attacked, attack, view)."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import polars as pl

from fedmia_jax import adversary, attacking, config, metrics, parts, shadow, stages, workload

RATES = (0.01, 0.001)
METRICS = ("accuracy", "precision", "recall", "f1", "auc")
ALWAYS = ("data.name", "data.num_classes", "federation.nodes", "federation.local_epochs")
COLUMN_TYPES = {int: pl.Int64, float: pl.Float64, bool: pl.Boolean, str: pl.String}
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


def tabulate(planned: stages.Plan, kept: parts.Parts, advance: Callable[[float], None]) -> pl.DataFrame:
    """Takes the metrics of every attacked party from the kept scores.

    Args:
      planned: the runs, and where their scores are.
      kept: what the stages have left.
      advance: called with 1 after each run.

    Returns:
      The results; columns as the design's contract, those that a sweep varies among them, null where the sample
      cannot resolve a number or training went non-finite.
    """
    tables, schema = [], schema_of(planned.runs[0])
    for run, recipe in zip(planned.runs, planned.recipes, strict=True):
        tables.append(pl.DataFrame(_rows(run, _collect(planned, kept, run, recipe)), schema=schema))
        advance(1)
    # One file order for readers: the baseline of all runs, then the federations.
    return pl.concat(tables).sort("phase", maintain_order=True)


def schema_of(run: workload.Run) -> dict[str, Any]:
    """Returns the columns of the results, those that the run's sweep varies among them."""
    swept = {name: COLUMN_TYPES.get(config.kind(name), pl.String) for name in run.values}
    swept = {name: kind for name, kind in swept.items() if name not in SCHEMA}
    names = list(SCHEMA)
    first = names.index(ALWAYS[0])
    return {name: SCHEMA[name] for name in names[:first]} | swept | {name: SCHEMA[name] for name in names[first:]}


def _collect(planned: stages.Plan, kept: parts.Parts, run: workload.Run, recipe: stages.Recipe) -> dict[str, Any]:
    """Scores of one run, the centralised target first: `correct` [1 + T, M]; by attack scores, threshold, held_out."""
    sources = [(recipe.baseline, recipe.baseline_reader, "scores", 0)]
    if recipe.federation and recipe.federation_reader:
        cycles = range(run.settings.federation.cycles)
        sources += [(recipe.federation, recipe.federation_reader, f"c{cycle + 1}", cycle) for cycle in cycles]
    found = []
    for key, reader, piece, cycle in sources:
        scored = kept.read(planned.address[key], piece)
        mine = scored[str(planned.work[key].readers.index(reader))]
        fitted, length = planned.fitted(kept, reader, cycle), len(scored["correct"])
        curves = attacking.curves(reader.attack, fitted, num_classes=run.dataset.num_classes)
        held_out = {name: np.broadcast_to(curve[:, -1], length) for name, curve in curves.items()}
        found.append({"correct": scored["correct"], **mine, "held_out": held_out})
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)


def attacked_names(num_nodes: int) -> list[str]:
    """Names of the attacked parties: N1 .. NN, union."""
    return [f"N{node + 1}" for node in range(num_nodes)] + ["union"]


def membership(owners: np.ndarray, num_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Members bool[N + 1, M] of every node and of the union, and non-members bool[M], from owners i32[M]."""
    nodes = owners == np.arange(num_nodes)[:, None]
    return np.concatenate([nodes, nodes.any(axis=0, keepdims=True)]), owners == -1


@functools.cache
def _make_measure() -> Callable[..., metrics.Metrics]:
    """`measure((members, non_members), (scores [T, M], thresholds [T]))` -> metrics by snapshot, leaves [T, A]."""
    measure = metrics.make_metrics(rates=RATES)
    return shadow.make_parallel(lambda parties, one: measure(one[0], *parties, one[1]))


def _rows(run: workload.Run, scored: dict[str, Any]) -> list[dict[str, Any]]:
    """All rows of one run."""
    nodes = run.settings.federation.nodes
    members, non_members = membership(run.owners, nodes)
    correct = scored["correct"]  # bool[1 + T, M]
    train_accuracy = np.stack([correct[:, owned].mean(axis=1) for owned in members], axis=1)
    test_accuracy = correct[:, non_members].mean(axis=1)
    rows, common = [], head(run)
    for attack in run.attack.names:
        scores = scored["scores"][attack]
        thresholds, held_out = scored["threshold"][attack], scored["held_out"][attack]
        found = jax.device_get(_make_measure()((members, non_members), (scores, thresholds)))
        broken = np.isnan(found.accuracy).all(axis=1)  # a target or an attack that is not finite
        for t, a in np.ndindex(train_accuracy.shape):
            rows.append(
                {
                    **common,
                    **place(t, nodes),
                    "attacked": attacked_names(nodes)[a],
                    "attack": attack,
                    "view": adversary.SNAPSHOT,
                    "threshold": number(thresholds[t]),
                    **measured(found, t, a),
                    "num_members": int(members[a].sum()),
                    "num_non_members": int(non_members.sum()),
                    "target_train_accuracy": None if broken[t] else float(train_accuracy[t, a]),
                    "target_test_accuracy": None if broken[t] else float(test_accuracy[t]),
                    "attack_held_out_accuracy": number(held_out[t]),
                }
            )
    return rows


@functools.lru_cache(maxsize=4096)
def run_id(run: workload.Run) -> str:
    """Fingerprint of a point: its settings without replicates, and the content of its records."""
    plain = dataclasses.asdict(dataclasses.replace(run.settings, replicates=1))
    del plain["data"]["path"]  # the content counts, wherever it lies
    plain["data"]["num_classes"] = run.dataset.num_classes
    return config.fingerprint(plain, run.dataset.fingerprint)


def head(run: workload.Run) -> dict[str, Any]:
    """Returns what all rows of a run share."""
    always = {name: config.get(run.settings, name) for name in ALWAYS}
    always["data.num_classes"] = run.dataset.num_classes
    swept = {name: value if config.kind(name) in COLUMN_TYPES else str(value) for name, value in run.values.items()}
    return {"run_id": run_id(run), "replicate": run.replicate, **swept, **always}


def place(t: int, nodes: int) -> dict[str, Any]:
    """Returns which target: snapshots count from 1, and are null for the centralised one, which is target 0."""
    if not t:
        return {"phase": "centralised", "cycle": None, "node": None, "snapshot": None}
    cycle, node = (t - 1) // nodes + 1, (t - 1) % nodes + 1
    return {"phase": "federated", "cycle": cycle, "node": node, "snapshot": f"C{cycle}N{node}"}


def measured(found: metrics.Metrics, *index: int) -> dict[str, float | None]:
    """Returns the metrics' columns of one row, from metrics with leading axes."""
    columns = {name: number(getattr(found, name)[index]) for name in METRICS}
    return columns | {
        f"tpr_at_fpr_{rate}": number(np.asarray(found.tpr_at_fpr)[index][i]) for i, rate in enumerate(RATES)
    }


def number(value: np.floating) -> float | None:
    """Returns a metric, or None where the sample cannot resolve it."""
    return None if np.isnan(value) else float(value)
