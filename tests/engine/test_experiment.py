"""Experiments end to end on small records: nothing leaks, everything leaks, and what a rerun finds.

Covers `experiment.py`, `execution.py`, `scoring.py` and `outline.py`.
"""

import dataclasses
import io

import jax
import numpy as np
import polars as pl
import pytest
import rich.console

from fedmia_jax import errors, randomness
from fedmia_jax.config import parsing, schema
from fedmia_jax.data import pools
from fedmia_jax.engine import chunks, experiment, kinds, lab, progress
from fedmia_jax.engine.plans import planning, points
from fedmia_jax.storage import artifacts
from fedmia_jax.storage import workdir as workdirs


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


TINY = {
    "data": {"num_records": 500, "num_features": 20, "num_classes": 4, "num_federation": 121, "num_test": 120},
    "model": {"hidden": 8},
    "training": {"learning_rate": 0.01},
    "federation": {"nodes": 2, "cycles": 2, "local_epochs": 6},
    "shadow": {"count": 2},
    "attack": {"hidden": 4, "epochs": 3, "batch_size": 64},
}
TRACED = {"seed": [0, 7], "training.learning_rate": [0.01, 0.03], "model.dropout_rate": [0.0, 0.6]}


@pytest.fixture(scope="module")
def swept(run_sweep, tmp_path_factory):
    """A sweep over every traced field, two values each; its folder, runs and results."""
    folder = tmp_path_factory.mktemp("swept")
    every_run, table = run_sweep({**TINY, "sweep": TRACED}, folder)
    return folder, every_run, table


def test_every_traced_field_is_swept(monkeypatch):
    """Of what every run has; levels of defences are swept in `tests/defenses/`."""
    monkeypatch.setattr(schema, "_admitted", {field: {} for field in schema.REGISTRIES})
    assert set(TRACED) == {field for field in schema.traced() if not field.startswith("defense.")}


def test_traced_fields_run_as_one_group(swept):
    _, every_run, table = swept
    assert len(every_run) == 8
    assert table["run_id"].n_unique() == 8
    planned = planning.make_plan(every_run)
    for kind, units in planned.units.items():
        assert len(chunks.make_groups(units)) == bool(units), kind
    assert {len(units) for units in planned.units.values()} == {24, 8, 0}
    points = table.select(list(TRACED)).unique()
    assert points.height == 8


@pytest.mark.parametrize("name", TRACED)
def test_two_values_of_a_traced_field_compile_once_and_equal_two_runs(swept, run_sweep, compilations, tmp_path, name):
    """The second value alone compiles nothing; each alone equals its rows of the sweep."""
    _, _, table = swept
    others = {field: values[0] for field, values in TRACED.items() if field != name}
    for number, value in enumerate(TRACED[name]):
        point = {name: value, **others}
        with compilations() as compiled:
            _, alone = run_sweep({**TINY, "sweep": [point]}, tmp_path / str(number))
        assert number == 0 or compiled == []
        among = table.filter(pl.col(name) == value, *(pl.col(field) == other for field, other in others.items()))
        numbers = [column for column, kind in alone.schema.items() if kind == pl.Float64]
        assert among.height == alone.height
        np.testing.assert_allclose(
            alone.select(numbers).to_numpy().astype(float), among.select(numbers).to_numpy().astype(float), atol=0.02
        )
        assert alone["run_id"].unique().to_list() == among["run_id"].unique().to_list()


@pytest.mark.parametrize("stop_at", [1, 4, 7])
def test_what_was_interrupted_goes_on_and_ends_bit_equal(swept, run_sweep, monkeypatch, tmp_path, stop_at):
    """The run dies at the n-th thing that it keeps, again and again; nothing is computed twice to the end."""
    _, _, table = swept
    write, save, finish = artifacts.Draft.write, artifacts.Draft.save, artifacts.Artifacts.finish
    done, finished = [], []

    def dying(keep):
        def call(*args):
            new = keep is not write or not (args[0].path / args[1]).exists()
            keep(*args)
            finished.extend([args[1].path] if keep is finish else [])
            done.extend([1] if new else [])
            if new and len(done) % stop_at == 0:
                raise KeyboardInterrupt

        return call

    monkeypatch.setattr(artifacts.Draft, "write", dying(write))
    monkeypatch.setattr(artifacts.Draft, "save", dying(save))
    monkeypatch.setattr(artifacts.Artifacts, "finish", dying(finish))
    values, again = {**TINY, "sweep": TRACED}, None
    for _ in range(100):
        try:
            again = run_sweep(values, tmp_path, budget=2**21)[1]
            break
        except KeyboardInterrupt:
            continue
    assert again is not None
    assert len(set(finished)) == len(finished)
    monkeypatch.undo()
    whole = run_sweep(values, tmp_path / "whole", budget=2**21)[1]
    assert again.equals(whole)
    assert whole.drop(pl.selectors.float()).equals(table.drop(pl.selectors.float()))


def test_points_that_explode_leave_their_numbers_empty(swept, run_sweep, tmp_path):
    """Those beside them, in the same programs, are as if they were not there."""
    rates = {"training.learning_rate": [0.01, 1e38]}
    _, table = run_sweep({**TINY, "sweep": TRACED | rates}, tmp_path)
    measured = ["accuracy", "auc", "target_test_accuracy", "target_train_accuracy"]
    good, bad = (table.filter(pl.col("training.learning_rate") == rate) for rate in (0.01, 1e38))
    assert good.height == bad.height > 0
    assert all(good[name].null_count() == 0 for name in measured)
    assert all(bad[name].null_count() == bad.height for name in measured)
    assert good.equals(swept[2].filter(pl.col("training.learning_rate") == 0.01))


def test_the_plan_says_what_there_is_to_do(swept, tmp_path):
    _, every_run, _ = swept
    place = lab.Lab(workdirs.Workdir(tmp_path), progress.Progress(rich.console.Console(file=io.StringIO())))
    table = experiment.explain(place, every_run)
    assert [row[0] for row in table.rows] == ["central models", "attacks", "baselines", "federations"]
    assert [row[4] for row in table.rows] == ["24", "8", "8", "8"]
    assert "8 points, 8 runs, 4 groups; 32 models" in table.caption


def test_the_plan_says_what_will_be_kept_on_disk(leaky):
    """To the byte, of all that is not small; the models of hand-offs are kept only where that is asked for."""
    planned, kept = leaky.planned, leaky.kept
    for name, left_out in (("central models", ""), ("baselines", "threshold"), ("federations", "threshold params")):
        units = planned.units[name]
        paths = {kept.index[unit.fingerprint][0] for unit in units}
        files = [file for path in paths for file in path.rglob("*.npy")]
        counted = [file for file in files if not set(file.stem.split(".")) & set(left_out.split())]
        assert sum(unit.kept_nbytes for unit in units) == sum(np.load(file).nbytes for file in counted)


def test_more_replicates_go_on_from_fewer(run_sweep, tmp_path):
    """Nothing of the first replicate is computed again; fewer are refused, as results would be lost."""
    first = run_sweep(TINY, tmp_path)[1]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "artifacts").rglob("*.npy")}
    every_run, second = run_sweep({**TINY, "replicates": 2}, tmp_path)
    assert second.filter(replicate=0).equals(first)
    assert second["replicate"].unique().to_list() == [0, 1]
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    planned = planning.make_plan(every_run[1:])
    kept = artifacts.Artifacts(tmp_path / "artifacts")
    assert all(kept.finished(unit.fingerprint) for units in planned.units.values() for unit in units)
    with pytest.raises(errors.InputError, match="replicates=2 there, 1 here"):
        run_sweep(TINY, tmp_path)


def test_a_rerun_finds_everything_done(leaky, run_sweep, monkeypatch):
    """Nothing is trained, fitted or scored again, and the table is equal."""
    broken = tuple(
        dataclasses.replace(kind, compute=lambda *args: pytest.fail("computed again")) for kind in kinds.KINDS
    )
    monkeypatch.setattr(kinds, "KINDS", broken)
    again = run_sweep(parsing.nest(leaky.settings.flat), leaky.folder / "run", keep_models=True)[1]
    assert again.equals(leaky.table)


def test_a_replicate_alone_equals_itself_among_others(leaky, run_sweep):
    alone = run_sweep(parsing.nest(leaky.settings.flat), leaky.folder / "alone", only=[1])[1]
    among = leaky.table.filter(replicate=1)
    assert alone.schema == among.schema
    numbers = [name for name, kind in alone.schema.items() if kind == pl.Float64]
    assert alone.drop(numbers).equals(among.drop(numbers))
    np.testing.assert_allclose(alone.select(numbers), among.select(numbers), atol=5e-3)


@pytest.mark.parametrize("kind", ["centralised", "federated"])
def test_cycles_that_are_not_scored_are_trained_all_the_same(run_sweep, tmp_path, kind):
    """Five cycles of which two are scored give the rows of those two, bit by bit."""
    values = {**TINY, "shadow": {"count": 2, "kind": kind}}
    values["federation"] = values.get("federation", {}) | {"cycles": 5}
    _, whole = run_sweep(values, tmp_path / "whole")
    values["federation"] = values["federation"] | {"scored_cycles": 2}
    _, some = run_sweep(values, tmp_path / "some")
    kept = whole.filter(pl.col("cycle").is_null() | pl.col("cycle").is_in([2, 5]))
    assert some["cycle"].drop_nulls().unique().sort().to_list() == [2, 5]
    assert kept.drop("run_id").equals(some.drop("run_id"))


def test_shadow_federations_of_several_runs(run_sweep, tmp_path):
    """Each adversary's are run and fitted by themselves; two replicates equal one by one."""
    values = {**TINY, "shadow": {"count": 2, "kind": "federated"}, "replicates": 2}
    every_run, both = run_sweep(values, tmp_path / "both")
    _, second = run_sweep(values, tmp_path / "second", only=[1])
    numbers = [name for name, kind in both.schema.items() if kind == pl.Float64]
    among = both.filter(replicate=1).select(numbers).to_numpy().astype(float)
    np.testing.assert_allclose(among, second.select(numbers).to_numpy().astype(float), atol=0.02)
    assert len(planning.make_plan(every_run).units["shadow federations"]) == 2


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


def test_records_dealt_to_no_node_are_on_neither_side(swept):
    """121 records over two nodes leave one out: it is no member of a node, and no non-member."""
    _, every_run, table = swept
    assert np.count_nonzero(every_run[0].owners == -2) == 1
    assert table["num_non_members"].unique().to_list() == [120]
    assert sorted(table["num_members"].unique().to_list()) == [60, 120]


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

    every_run = leaky.runs
    numbers = {number(drawn.key(purpose)) for drawn in every_run for purpose in randomness.Purpose}
    numbers |= {number(drawn.key(randomness.Purpose.SHADOW, j)) for drawn in every_run for j in range(3)}
    assert len(numbers) == 2 * len(randomness.Purpose) + 2 * 3
    reseeded = dataclasses.replace(
        every_run[0], plans=points.Plans(parsing.from_flat(leaky.settings.flat | {"seed": 1}))
    )
    assert number(reseeded.key(randomness.Purpose.SHADOW)) not in numbers


def test_the_attack_on_n1_peaks_right_after_n1_trained(run_sweep, tmp_path):
    """The paper's effect, on a small synthetic federation: a peak at CiN1, a decline while N2 and N3 train."""
    values = {
        "data": {"num_records": 3000, "num_features": 100, "num_classes": 20, "num_federation": 900, "num_test": 600},
        "training": {"batch_size": 16, "learning_rate": 0.002},
        "federation": {"nodes": 3, "cycles": 4, "local_epochs": 20},
        "shadow": {"count": 3},
        "attack": {"epochs": 100},
    }
    _, table = run_sweep(values, tmp_path)
    on_n1 = table.filter(pl.col("attacked") == "N1", pl.col("phase") == "federated")
    accuracy, recall = (dict(on_n1.select("snapshot", name).iter_rows()) for name in ("accuracy", "recall"))
    for cycle in (2, 3, 4):
        assert accuracy[f"C{cycle}N1"] > max(accuracy[f"C{cycle}N2"], accuracy[f"C{cycle}N3"])
        assert recall[f"C{cycle}N1"] > 0.95
