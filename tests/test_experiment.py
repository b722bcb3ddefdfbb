"""Experiments end to end on small records: nothing leaks, everything leaks, and what a rerun finds."""

import dataclasses

import jax
import numpy as np
import polars as pl
import pytest

from fedmia_jax import compute, errors
from fedmia_jax.data import pools


@pytest.fixture(scope="module")
def silent(make_lab):
    """The results of models that have not moved from where they started; two nodes of stated sizes."""
    return make_lab(
        {"num_records": 20_000, "num_features": 12, "num_classes": 4, "learnable": True},
        data={"num_federation": 8000, "num_test": 8000, "partition": "sizes", "sizes": (2.0, 3.0)},
        training={"learning_rate": 1e-12, "batch_size": 500},
        federation={"local_epochs": 1},
        shadow={"num_train": 2000},
    ).table


def test_what_was_not_trained_cannot_be_told(silent):
    """0.02 are more than three standard errors of the AUC of 3,200 members and 8,000 others."""
    assert silent["num_members"].to_list() == [3200, 4800, 8000] * 3
    assert silent["num_non_members"].to_list() == [8000] * 9
    assert silent["auc"].is_between(0.48, 0.52).all()
    assert silent["accuracy"].is_between(0.48, 0.52).all()
    assert (silent["target_train_accuracy"] - silent["target_test_accuracy"]).abs().max() < 0.04


def test_what_was_learnt_by_heart_is_told(leaky):
    """The model of all nodes gives all away, a snapshot above all the node that trained last."""
    table = leaky.table
    central = table.filter(phase="centralised")
    assert central["target_train_accuracy"].min() > 0.97
    assert central["target_test_accuracy"].max() < 0.3  # five random classes
    assert central["auc"].min() > 0.9
    for node in (1, 2):
        latest = table.filter(phase="federated", node=node, attacked=f"N{node}")
        assert latest["target_train_accuracy"].min() > 0.97
        assert latest["auc"].min() > 0.9


def test_a_node_that_has_not_trained_yet_is_safe(leaky):
    """At C1N1 node N2 is as unknown as the test pool: an AUC of 0.5 within four standard errors."""
    before = leaky.table.filter(snapshot="C1N1", attacked="N2")
    assert before.height == 2
    assert (before["auc"] - 0.5).abs().max() < 4 * 0.026
    after = leaky.table.filter(snapshot="C1N2", attacked="N2")
    assert (after["auc"] > before["auc"]).all()


def test_a_rerun_finds_everything_done(leaky, run_sweep, monkeypatch):
    """Nothing is trained, fitted or scored again, and the table is equal."""
    for stage in compute.COMPUTE:
        monkeypatch.setitem(compute.COMPUTE, stage, lambda *args: pytest.fail("computed again"))
    assert run_sweep(dataclasses.asdict(leaky.settings), leaky.folder / "run")[1].equals(leaky.table)


def test_a_replicate_alone_equals_itself_among_others(leaky, run_sweep):
    alone = run_sweep(dataclasses.asdict(leaky.settings), leaky.folder / "alone", only=[1])[1]
    among = leaky.table.filter(replicate=1)
    assert alone.schema == among.schema
    numbers = [name for name, kind in alone.schema.items() if kind == pl.Float64]
    assert alone.drop(numbers).equals(among.drop(numbers))
    np.testing.assert_allclose(alone.select(numbers), among.select(numbers), atol=5e-3)


def test_shadow_federations_of_unequal_nodes(matched):
    """Each snapshot has an attack of its own; classes are dealt unevenly."""
    sizes = matched.runs[0].shards.sizes
    assert sizes[0] != sizes[1]
    assert matched.table.filter(snapshot="C1N1")["num_members"].to_list() == [*sizes, 200]
    kernel = np.concatenate([matched.fitted(0, cycle)["Dense_0.kernel"] for cycle in (0, 1)])
    assert kernel.shape == (4, 6, 16)
    assert len({leaf.tobytes() for leaf in kernel}) == 4
    assert matched.table["auc"].is_not_nan().all()
    assert matched.table["tpr_at_fpr_0.01"].null_count() == 0
    assert matched.table["tpr_at_fpr_0.001"].null_count() == matched.table.height, "300 cannot tell one in a thousand"


def test_training_that_explodes_is_one_line(make_lab):
    with pytest.raises(errors.InputError) as caught:
        make_lab(
            {"num_records": 300, "num_features": 12, "num_classes": 3, "learnable": True},
            data={"num_federation": 60, "num_test": 60},
            training={"optimizer": "sgd", "learning_rate": 1e38},
            federation={"local_epochs": 5},
        )
    assert str(caught.value).startswith("training.learning_rate=1e+38: central models went non-finite in replicate 0")


def test_scored_records_are_the_federation_then_the_test_pool(leaky):
    drawn = leaky.runs[0]
    nodes, test = drawn.shards.indices, drawn.dealt.test
    np.testing.assert_array_equal(drawn.scored, np.concatenate([nodes[0], nodes[1], test]))
    np.testing.assert_array_equal(drawn.owners, np.repeat([0, 1, -1], [150, 150, 1000]))
    fewer = dataclasses.replace(drawn, shards=pools.Shards(nodes[:, 1:], np.ones((2, 149), bool)))
    np.testing.assert_array_equal(fewer.scored, drawn.scored)
    np.testing.assert_array_equal(np.unique(fewer.owners, return_counts=True)[1], [2, 1000, 149, 149])


def test_every_run_purpose_and_shadow_has_its_own_key(leaky):
    def number(key):
        return tuple(np.asarray(jax.random.key_data(key)).tolist())

    runs = leaky.runs
    numbers = {number(drawn.key(purpose)) for drawn in runs for purpose in pools.Purpose}
    numbers |= {number(drawn.key(pools.Purpose.SHADOW, j)) for drawn in runs for j in range(3)}
    assert len(numbers) == 2 * len(pools.Purpose) + 2 * 3
    reseeded = dataclasses.replace(runs[0], settings=dataclasses.replace(leaky.settings, seed=1))
    assert number(reseeded.key(pools.Purpose.SHADOW)) not in numbers


def test_the_attack_on_n1_peaks_right_after_n1_trained(run_sweep, tmp_path):
    """The paper's effect, on a small synthetic federation: a peak at CiN1, a decline while N2 and N3 train."""
    values = {
        "data": {"num_records": 4000, "num_features": 100, "num_classes": 20, "num_federation": 900, "num_test": 900},
        "training": {"batch_size": 16, "learning_rate": 0.002},
        "federation": {"nodes": 3, "cycles": 4, "local_epochs": 20},
        "shadow": {"count": 4},
    }
    _, table = run_sweep(values, tmp_path)
    on_n1 = table.filter(pl.col("attacked") == "N1", pl.col("phase") == "federated")
    accuracy, recall = (dict(on_n1.select("snapshot", name).iter_rows()) for name in ("accuracy", "recall"))
    for cycle in (2, 3, 4):
        assert accuracy[f"C{cycle}N1"] > max(accuracy[f"C{cycle}N2"], accuracy[f"C{cycle}N3"])
        assert recall[f"C{cycle}N1"] > 0.95
