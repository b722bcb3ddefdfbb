"""The table of results: its columns and rows, and its numbers computed once more from the kept models."""

import numpy as np
import polars as pl
import pytest
import scipy.special
import sklearn.metrics

from fedmia_jax.engine.plans import tasks

COLUMNS = {
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
    "accuracy": pl.Float64,
    "precision": pl.Float64,
    "recall": pl.Float64,
    "f1": pl.Float64,
    "auc": pl.Float64,
    "tpr_at_fpr_0.01": pl.Float64,
    "tpr_at_fpr_0.001": pl.Float64,
    "num_members": pl.Int64,
    "num_non_members": pl.Int64,
    "target_train_accuracy": pl.Float64,
    "target_test_accuracy": pl.Float64,
}


def test_the_columns_are_the_contract(leaky):
    """In their order; more may stand between and after them."""
    table = leaky.table
    assert [name for name in table.columns if name in COLUMNS] == list(COLUMNS)
    assert {name: table.schema[name] for name in COLUMNS} == COLUMNS
    nullable = ("cycle", "node", "snapshot")
    assert all(table[name].null_count() == 0 for name in COLUMNS if name not in nullable)


def test_there_is_one_row_for_every_replicate_snapshot_and_party(leaky):
    table = leaky.table
    for replicate in (0, 1):
        central = table.filter(replicate=replicate, phase="centralised")
        assert central["attacked"].to_list() == ["N1", "N2", "union"]
        assert all(central[name].null_count() == 3 for name in ("cycle", "node", "snapshot"))
        federated = table.filter(replicate=replicate, phase="federated")
        assert federated["snapshot"].to_list() == [name for name in ("C1N1", "C1N2", "C2N1", "C2N2") for _ in range(3)]
        assert federated["snapshot"].to_list() == [
            f"C{cycle}N{node}" for cycle, node in zip(federated["cycle"], federated["node"], strict=True)
        ]
        assert federated["attacked"].to_list() == ["N1", "N2", "union"] * 4
    assert table.height == 2 * 5 * 3
    assert table["num_members"].to_list() == [150, 150, 300] * 10
    assert table["num_non_members"].unique().to_list() == [1000]
    assert table["run_id"].n_unique() == 1
    same = {"data.name": "arrays", "data.num_classes": 5, "federation.nodes": 2, "federation.local_epochs": 60}
    assert all(table[name].unique().to_list() == [value] for name, value in same.items())
    assert (table["attack"].unique().to_list(), table["view"].unique().to_list()) == (["network"], ["snapshot"])


def answers(params, features):
    """Logits of the travelling network."""
    units = np.tanh(features @ params["Dense_0.kernel"] + params["Dense_0.bias"])
    return units @ params["Dense_1.kernel"] + params["Dense_1.bias"]


def attack_scores(fitted, logits, labels):
    """Logit of being a member, by the attack network."""
    inputs = np.concatenate([scipy.special.softmax(logits, axis=1), np.eye(logits.shape[1])[labels]], axis=1)
    units = scipy.special.expit(inputs @ fitted["Dense_0.kernel"] + fitted["Dense_0.bias"])
    return (units @ fitted["Dense_1.kernel"] + fitted["Dense_1.bias"]) @ [-1, 1]


def test_the_table_is_what_the_snapshots_say(leaky):
    """Replicate 1, snapshot C2N1, computed once more from the kept models: answers, scores and metrics."""
    snapshots = leaky.models(1, tasks.Federation)[1]
    target = {name: leaf[0].astype(np.float64) for name, leaf in snapshots.items()}
    fitted = {name: leaf[0].astype(np.float64) for name, leaf in leaky.fitted(1, 1).items()}
    drawn, data = leaky.runs[1], leaky.runs[1].dataset
    nodes = drawn.shards.indices
    for attacked, members in (("N1", nodes[0]), ("N2", nodes[1]), ("union", nodes.reshape(-1))):
        row = leaky.table.filter(replicate=1, snapshot="C2N1", attacked=attacked).row(0, named=True)
        rows = np.concatenate([members, drawn.dealt.test])
        truth = np.arange(len(rows)) < len(members)
        logits = answers(target, data.features[rows])
        scores = attack_scores(fitted, logits, data.labels[rows])
        right = np.argmax(logits, axis=1) == data.labels[rows]
        expected = {
            "threshold": 0.0,
            "accuracy": sklearn.metrics.balanced_accuracy_score(truth, scores > 0),
            "recall": (scores[truth] > 0).mean(),
            "auc": sklearn.metrics.roc_auc_score(truth, scores),
            "target_train_accuracy": right[truth].mean(),
            "target_test_accuracy": right[~truth].mean(),
        }
        assert {name: row[name] for name in expected} == pytest.approx(expected, abs=2e-3)


def test_the_held_out_accuracy_is_that_on_the_last_shadow(matched):
    """Of a snapshot CiNj: the last shadow federation's CiNj, the records of its node j against those it never saw."""
    drawn, data = matched.runs[0], matched.runs[0].dataset
    dealt = np.split(drawn.split.members[-1], np.cumsum(drawn.shards.sizes)[:-1])
    single = matched.models(0, tasks.Model, number=2)[0]
    cases = [(None, 0, "centralised", None, single, drawn.split.members[-1])]
    for cycle, node in np.ndindex(2, 2):
        snapshots = matched.models(0, tasks.ShadowFederations)[cycle]
        shadow = {name: leaf[node, -1] for name, leaf in snapshots.items()}
        cases.append((cycle, node, "federated", f"C{cycle + 1}N{node + 1}", shadow, dealt[node]))
    seen = set()
    for cycle, node, phase, snapshot, shadow, members in cases:
        fitted = {name: leaf[node] for name, leaf in matched.fitted(0, cycle).items()}
        rows = np.concatenate([members, drawn.split.non_members[-1]])
        truth = np.arange(len(rows)) < len(members)
        scores = attack_scores(fitted, answers(shadow, data.features[rows]), data.labels[rows])
        expected = sklearn.metrics.balanced_accuracy_score(truth, scores > 0)
        rows_of_snapshot = matched.table.filter(pl.col("phase") == phase, pl.col("snapshot").eq_missing(snapshot))
        np.testing.assert_allclose(rows_of_snapshot["attack_held_out_accuracy"], [expected] * 3, atol=0.003)
        seen.add(round(expected, 3))
    assert len(seen) == 5, "or the snapshots could have been mistaken for one another"
