"""Experiments end to end on small records: nothing leaks, everything leaks, and what a rerun finds."""

import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import polars as pl
import pytest
import rich.console
import scipy.special
import sklearn.metrics

from fedmia_jax import config, errors, experiment, progress, store
from fedmia_jax.data import dataset

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
SMALL: dict[str, dict[str, Any]] = {
    "model": {"hidden": 16, "dropout_rate": 0.0},
    "training": {"batch_size": 32},
    "federation": {"nodes": 2, "cycles": 1},
    "shadow": {"count": 3},
    "attack": {"hidden": 8, "epochs": 10, "batch_size": 64},
}


def make_settings(path, **groups: Mapping[str, Any]) -> config.Settings:
    """`SMALL` on the arrays in a file, with other values by group."""
    values: dict[str, Any] = {name: dict(fields) for name, fields in SMALL.items()}
    values["data"] = {"name": "arrays", "path": str(path)}
    for name, fields in groups.items():
        if isinstance(fields, Mapping):
            values[name] = values.get(name, {}) | fields
        else:
            values[name] = fields
    return config.from_config(values)


def run(settings, workdir_path, *, replicates=None) -> tuple[pl.DataFrame, experiment.Context]:
    """What the command does, for all replicates or for some alone."""
    experiment.check(settings)
    records = dataset.load(settings.data)
    runs = experiment.prepare_runs(settings, records)
    if replicates is not None:
        runs = [runs[replicate] for replicate in replicates]
    with store.open_workdir(workdir_path, settings, records) as workdir:
        shown = progress.Progress(rich.console.Console(file=io.StringIO()))
        context = experiment.make_context(runs, records, workdir, shown)
        return experiment.run(context), context


def save_bits(path, *, num_records, num_features, num_classes, seed=0, learnable=True):
    """Random bits; labels are random, or the class whose prototype shifted them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=num_records)
    chances = rng.uniform(0.2, 0.8, size=(num_classes, num_features)) if learnable else np.full((num_classes, 1), 0.5)
    bits = rng.uniform(size=(num_records, num_features)) < chances[labels]
    np.savez(path, features=bits.astype(np.uint8), labels=labels)
    return path


def rows_of(table, **values):
    """The rows in which every named column has the value; None is null."""
    for name, value in values.items():
        table = table.filter(pl.col(name).is_null() if value is None else pl.col(name) == value)
    return table


@pytest.fixture(scope="module", autouse=True)
def _quick_compilation():
    """Compiling takes most of the time here; the programs are tested as they are compiled for use elsewhere."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def silent(tmp_path_factory):
    """Models that have not moved from where they started; two nodes of stated sizes."""
    folder = tmp_path_factory.mktemp("silent")
    path = save_bits(folder / "x.npz", num_records=20_000, num_features=12, num_classes=4)
    settings = make_settings(
        path,
        data={"num_federation": 8000, "num_test": 8000, "partition": "sizes", "sizes": (2.0, 3.0)},
        training={"learning_rate": 1e-12, "batch_size": 500},
        federation={"local_epochs": 1},
        shadow={"num_train": 2000},
    )
    return run(settings, folder / "run")[0]


@pytest.fixture(scope="module")
def leaky(tmp_path_factory):
    """Models that have learnt random labels by heart; two replicates, two cycles."""
    folder = tmp_path_factory.mktemp("leaky")
    path = save_bits(folder / "x.npz", num_records=2200, num_features=40, num_classes=5, learnable=False)
    settings = make_settings(
        path,
        replicates=2,
        data={"num_federation": 300, "num_test": 1000},
        model={"hidden": 48},
        training={"learning_rate": 0.01},
        federation={"local_epochs": 60, "cycles": 2},
        attack={"hidden": 64, "epochs": 60},
    )
    table, context = run(settings, folder / "run")
    return settings, folder, table, context


def test_what_was_not_trained_cannot_be_told(silent):
    """0.02 are more than three standard errors of the AUC of 3,200 members and 8,000 others."""
    assert silent["num_members"].to_list() == [3200, 4800, 8000] * 3
    assert silent["num_non_members"].to_list() == [8000] * 9
    assert silent["auc"].is_between(0.48, 0.52).all()
    assert silent["accuracy"].is_between(0.48, 0.52).all()
    assert (silent["target_train_accuracy"] - silent["target_test_accuracy"]).abs().max() < 0.04


def test_what_was_learnt_by_heart_is_told(leaky):
    """The model of all nodes gives all away, a snapshot above all the node that trained last."""
    table = leaky[2]
    central = rows_of(table, phase="centralised")
    assert central["target_train_accuracy"].min() > 0.97
    assert central["target_test_accuracy"].max() < 0.3  # five random classes
    assert central["auc"].min() > 0.9
    for node in (1, 2):
        latest = rows_of(table, phase="federated", node=node, attacked=f"N{node}")
        assert latest["target_train_accuracy"].min() > 0.97
        assert latest["auc"].min() > 0.9


def test_a_node_that_has_not_trained_yet_is_safe(leaky):
    """At C1N1 node N2 is as unknown as the test pool: an AUC of 0.5 within four standard errors."""
    before = rows_of(leaky[2], snapshot="C1N1", attacked="N2")
    assert before.height == 2
    assert (before["auc"] - 0.5).abs().max() < 4 * 0.026
    after = rows_of(leaky[2], snapshot="C1N2", attacked="N2")
    assert (after["auc"] > before["auc"]).all()


def test_the_columns_are_the_contract(leaky):
    """In their order; more may stand between and after them."""
    table = leaky[2]
    assert [name for name in table.columns if name in COLUMNS] == list(COLUMNS)
    assert {name: table.schema[name] for name in COLUMNS} == COLUMNS
    nullable = ("cycle", "node", "snapshot")
    assert all(table[name].null_count() == 0 for name in COLUMNS if name not in nullable)


def test_there_is_one_row_for_every_replicate_snapshot_and_party(leaky):
    table = leaky[2]
    for replicate in (0, 1):
        central = rows_of(table, replicate=replicate, phase="centralised")
        assert central["attacked"].to_list() == ["N1", "N2", "union"]
        assert all(central[name].null_count() == 3 for name in ("cycle", "node", "snapshot"))
        federated = rows_of(table, replicate=replicate, phase="federated")
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


def test_the_table_is_what_the_snapshots_say(leaky):
    """Replicate 1, snapshot C2N1, computed once more from the kept models: answers, scores and metrics."""
    _, folder, table, context = leaky
    stages = {name: dict(np.load(folder / "run" / "stages" / f"{name}.npz")) for name in ("federated", "attacks")}
    target = {name: leaf[1, 1, 0].astype(np.float64) for name, leaf in stages["federated"].items()}
    fitted = {name: leaf[1, 0].astype(np.float64) for name, leaf in stages["attacks"].items()}
    drawn, data = context.runs[1], context.dataset
    nodes, test = drawn.shards.indices, drawn.dealt.test

    def answers(rows):
        units = np.tanh(data.features[rows] @ target["Dense_0/kernel"] + target["Dense_0/bias"])
        return units @ target["Dense_1/kernel"] + target["Dense_1/bias"]

    def scores(rows):
        inputs = np.concatenate([scipy.special.softmax(answers(rows), axis=1), np.eye(5)[data.labels[rows]]], axis=1)
        layer = {name.removeprefix("network/params/"): leaf for name, leaf in fitted.items()}
        units = scipy.special.expit(inputs @ layer["Dense_0/kernel"] + layer["Dense_0/bias"])
        return (units @ layer["Dense_1/kernel"] + layer["Dense_1/bias"]) @ [-1, 1]

    for attacked, rows in (("N1", nodes[0]), ("N2", nodes[1]), ("union", nodes.reshape(-1))):
        row = rows_of(table, replicate=1, snapshot="C2N1", attacked=attacked).row(0, named=True)
        truth = np.repeat([True, False], [len(rows), len(test)])
        score = np.concatenate([scores(rows), scores(test)])
        right = np.argmax(answers(np.concatenate([rows, test])), axis=1) == data.labels[np.concatenate([rows, test])]
        expected = {
            "threshold": 0.0,
            "accuracy": sklearn.metrics.balanced_accuracy_score(truth, score > 0),
            "recall": (score[truth] > 0).mean(),
            "auc": sklearn.metrics.roc_auc_score(truth, score),
            "target_train_accuracy": right[truth].mean(),
            "target_test_accuracy": right[~truth].mean(),
        }
        assert {name: row[name] for name in expected} == pytest.approx(expected, abs=2e-3)


def test_a_rerun_finds_everything_done(leaky, monkeypatch):
    """Nothing is trained, fitted or scored again, and the table is equal."""
    settings, folder, table, _ = leaky
    for name in ("train_centralised", "train_federated", "train_shadows", "fit_attacks", "score"):
        monkeypatch.setattr(experiment, name, lambda *args, **kwargs: pytest.fail("computed again"))
    assert run(settings, folder / "run")[0].equals(table)


def test_a_replicate_alone_equals_itself_among_others(leaky):
    settings, folder, table, _ = leaky
    alone = run(settings, folder / "alone", replicates=[1])[0]
    among = rows_of(table, replicate=1)
    exact = [name for name, kind in COLUMNS.items() if kind != pl.Float64]
    assert alone.select(exact).equals(among.select(exact))
    for name in set(COLUMNS) - set(exact):
        np.testing.assert_allclose(alone[name], among[name], atol=5e-3, err_msg=name)


def test_shadow_federations_of_unequal_nodes(tmp_path):
    """Each snapshot has an attack of its own; the state travels; classes are dealt unevenly."""
    path = save_bits(tmp_path / "x.npz", num_records=1200, num_features=12, num_classes=3)
    settings = make_settings(
        path,
        data={"num_federation": 200, "num_test": 300, "partition": "dirichlet", "alpha": 1.0},
        federation={"local_epochs": 5, "cycles": 2, "carry_optimizer_state": True},
        shadow={"kind": "federated"},
    )
    table, context = run(settings, tmp_path / "run")
    sizes = context.runs[0].shards.sizes
    assert sizes[0] != sizes[1]
    assert rows_of(table, snapshot="C1N1")["num_members"].to_list() == [*sizes, 200]
    fitted = np.load(tmp_path / "run" / "stages" / "attacks_federated.npz")
    assert fitted["network/params/Dense_0/kernel"].shape == (1, 4, 6, 8)
    assert len({leaf.tobytes() for leaf in fitted["network/params/Dense_0/kernel"][0]}) == 4
    held_out = rows_of(table, phase="federated")["attack_held_out_accuracy"].to_numpy()
    np.testing.assert_allclose(held_out[::3], fitted["network/curve"][0, :, -1], rtol=1e-6)
    assert table["auc"].is_not_nan().all()
    assert table["tpr_at_fpr_0.01"].null_count() == 0
    assert table["tpr_at_fpr_0.001"].null_count() == table.height, "300 non-members cannot tell one in a thousand"


def test_training_that_explodes_is_one_line(tmp_path):
    path = save_bits(tmp_path / "x.npz", num_records=300, num_features=12, num_classes=3)
    settings = make_settings(
        path,
        data={"num_federation": 60, "num_test": 60},
        training={"optimizer": "sgd", "learning_rate": 1e38},
        federation={"local_epochs": 5},
    )
    with pytest.raises(errors.InputError) as caught:
        run(settings, tmp_path / "run")
    assert str(caught.value).startswith(
        "training.learning_rate=1e+38: centralised target went non-finite in replicate 0"
    )
    assert not list((tmp_path / "run").glob("stages/*"))


def test_scored_records_are_the_shards_then_the_test_pool(leaky):
    drawn = leaky[3].runs[0]
    nodes, test = drawn.shards.indices, drawn.dealt.test
    np.testing.assert_array_equal(drawn.scored, np.concatenate([nodes[0], nodes[1], test]))
    np.testing.assert_array_equal(drawn.owners, np.repeat([0, 1, -1], [150, 150, 1000]))


def test_every_run_and_purpose_has_its_own_key(leaky):
    keys = [drawn.key(purpose) for drawn in leaky[3].runs for purpose in experiment.pools.Purpose]
    keys += list(leaky[3].shadow_keys())
    numbers = {tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in keys}
    assert len(numbers) == len(keys)
    reseeded = dataclasses.replace(leaky[3].runs[0], settings=dataclasses.replace(leaky[0], seed=1))
    assert tuple(np.asarray(jax.random.key_data(reseeded.key(experiment.pools.Purpose.SHADOW))).tolist()) not in numbers
