"""Reference federations end to end: who trains on what, what is kept of it, and the audit that the engine calls."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

from fedmia_jax import randomness, types
from fedmia_jax.attacks import signals
from fedmia_jax.audit import api
from fedmia_jax.config import parsing
from fedmia_jax.defenses import answers
from fedmia_jax.engine import audits, collection
from fedmia_jax.engine.plans import planning, runs
from fedmia_jax.learning import networks
from fedmia_jax.storage import artifacts, workdir

NAMES = ("loss", "lira_online", "delta_phi", "sequence_lira")
VIEWS = ("outsider", "insider", "bracket", "coordinator", "all_coalitions:2")


@pytest.fixture(scope="module")
def finished(make_lab):
    """Three nodes that learn random labels by heart, two replicates, twelve references."""
    return make_lab(
        {"num_records": 1000, "num_features": 30, "num_classes": 4, "learnable": False},
        replicates=2,
        data={"num_federation": 180, "num_test": 180},
        model={"hidden": 32},
        training={"learning_rate": 0.01},
        federation={"nodes": 3, "cycles": 2, "local_epochs": 15},
        shadow={"federations": 12, "count": 2},
        attack={"names": NAMES, "views": VIEWS},
    )


@pytest.fixture(scope="module")
def evidence(finished):
    """What the attacks read."""
    return collection.gather(finished.planned, finished.kept, finished.runs)


@pytest.fixture(scope="module")
def tables(finished):
    """The tables of the workdir."""
    return {name: pl.read_parquet(finished.folder / "run" / f"{name}.parquet") for name in workdir.TABLES}


def test_replicates_and_references_draw_from_the_same_records(finished, evidence):
    first, second = finished.runs
    np.testing.assert_array_equal(first.scored, second.scored)
    assert set(first.dealt.federation) != set(second.dealt.federation)
    assert set(first.dealt.federation) | set(first.dealt.test) == set(first.scored)
    held = np.asarray(evidence.references.owners) >= 0
    assert (held.sum(axis=1) == 180).all()
    assert 0.3 < held.mean(axis=0).mean() < 0.7
    shared = finished.planned.recipes[0].references
    assert shared == finished.planned.recipes[1].references  # trained once for both
    assert len(set(shared)) == 12


def test_signals_are_those_of_the_kept_models(finished, evidence):
    run = finished.runs[1]
    unit = finished.planned.unit_of[finished.planned.recipes[1].federation]
    params = finished.kept.read(unit, "c2")["params"]
    snapshot = {layer: {name: leaf[1] for name, leaf in group.items()} for layer, group in params.items()}
    logits = networks.make_apply(run.module)(snapshot, jnp.asarray(run.dataset.features[run.scored]))
    expected = signals.phi(types.Signals(logits, jnp.asarray(run.dataset.labels[run.scored])))
    np.testing.assert_allclose(evidence.phi[1, 4], expected, atol=1e-4)  # C2N2


def test_every_attack_has_its_rows(finished, tables):
    federated = finished.table.filter(pl.col("phase") == "federated")
    count = {(attack, view): rows for attack, view, rows in federated.group_by("attack", "view").len().rows()}
    for name in NAMES:
        together = name in ("delta_phi", "sequence_lira")
        assert count.get((name, "snapshot"), 0) == (0 if together else 2 * 6 * 4)
    assert count["sequence_lira", "coordinator"] == 2 * 4
    assert count["sequence_lira", "insider:2"] == 2 * 2
    assert ("delta_phi", "outsider") not in count
    assert ("delta_phi", "bracket:1") in count
    assert tables["coalitions"].filter(pl.col("attack") == "sequence_lira").height == 3


def test_the_engine_says_what_the_audit_says(finished, evidence, tables):
    key = randomness.make_key(0, 0, randomness.Purpose.ATTACK, collection.AUDIT)
    findings = api.audit(evidence, attacks=NAMES, views=VIEWS, key=key)
    for name in workdir.TABLES:
        table = getattr(findings, name)
        assert table.columns == tables[name].columns[-len(table.columns) :]
        assert table.equals(tables[name].select(table.columns), null_equal=True)
        assert tables[name]["data.num_classes"].dtype == pl.Int64
    rows = finished.table.filter(pl.col("attack") == "lira_online").select(findings.rows.columns)
    assert rows.equals(findings.rows.filter(pl.col("attack") == "lira_online"), null_equal=True)


def test_points_on_the_same_records_are_compared_with_the_first(finished):
    audited = audits.read(finished.planned, finished.kept, finished.runs)
    changes = collection.tabulate_changes([(finished.runs, audited)] * 2)
    assert set(changes["attack"]) == set(NAMES) - {"loss"}
    assert set(changes["view"]) == set(VIEWS) - {"all_coalitions:2"}
    assert changes["auc_difference"].to_list() == [0.0] * changes.height
    assert changes["run_id"].to_list() == [runs.run_id(finished.runs[0])] * changes.height
    fewer = collection.tabulate_changes([(finished.runs, audited), (finished.runs[:1], audited)])
    assert fewer.is_empty()
    assert fewer.schema == changes.schema


def test_attacks_see_members(tables):
    assert (
        tables["intervals"].filter(pl.col("attack") == "sequence_lira", pl.col("view") == "bracket")["auc"].min() > 0.8
    )


def test_an_audit_that_is_interrupted_goes_on_with_the_next_piece(finished, tables, run_sweep, tmp_path, monkeypatch):
    """Two pieces are missing, the run ends at one while the other is made, and the next computes the first alone."""
    folder, planned = tmp_path / "run", finished.planned
    shutil.copytree(finished.folder / "run", folder)
    (marks,) = planned.audits.values()
    assert [planned.task_of[mark].piece for mark in marks] == ["source_loss", *NAMES]
    for mark in marks:
        if planned.task_of[mark].piece in ("loss", "delta_phi"):
            shutil.rmtree(folder / "artifacts" / finished.kept.index[planned.unit_of[mark]][0].name)
    for name in workdir.TABLES:
        (folder / f"{name}.parquet").unlink()
    computed, study = [], api.study

    def interrupted(scorer, piece, *, on_broken):
        if piece == "delta_phi" and piece not in computed:
            computed.append(piece)
            raise InterruptedError
        computed.append(piece)
        return study(scorer, piece, on_broken=on_broken)

    monkeypatch.setattr(audits.api, "study", interrupted)
    values = parsing.nest(finished.settings.flat)
    with pytest.raises(InterruptedError):
        run_sweep(values, folder, keep_models=True)
    assert not (folder / "intervals.parquet").exists()
    _, again = run_sweep(values, folder, keep_models=True)
    assert sorted(computed[:2]) == ["delta_phi", "loss"]  # side by side
    assert computed[2:] == ["delta_phi"]
    assert again.equals(finished.table, null_equal=True)
    for name, table in tables.items():
        assert pl.read_parquet(folder / f"{name}.parquet").equals(table, null_equal=True)


def test_references_of_other_records(run_sweep, finished, tmp_path):
    values = parsing.nest(finished.settings.flat)
    values["replicates"], values["shadow"]["audit"] = 1, False
    values["attack"]["names"] = ("loss", "lira_offline", "sequence_lira")
    values["attack"]["views"] = ("outsider", "coordinator")
    runs, _ = run_sweep(values, tmp_path / "run")
    (run,) = runs
    assert not set(run.scored[:360]) & {row for shards in run.audit.references for row in shards.indices[shards.mask]}
    assert (run.reference_owners[:, :360] == -1).all()
    assert (run.owners[360:] == -2).all()
    gathered = collection.gather(planning.make_plan(runs), artifacts.Artifacts(tmp_path / "run" / "artifacts"), runs)
    assert gathered.phi.shape == (1, 6, 720)
    intervals = pl.read_parquet(tmp_path / "run" / "intervals.parquet")
    assert intervals.filter(pl.col("attack") == "sequence_lira")["auc"].min() > 0.6


def test_a_replicate_by_itself_is_audited_with_the_same_key(finished, evidence):
    (alone,) = [run for run in finished.runs if run.replicate == 1]
    gathered = collection.gather(finished.planned, finished.kept, [alone])
    np.testing.assert_array_equal(gathered.phi[0], evidence.phi[1])
    assert dataclasses.replace(alone, replicate=0).key(
        randomness.Purpose.ATTACK, collection.AUDIT
    ) == randomness.make_key(0, 0, randomness.Purpose.ATTACK, collection.AUDIT)


def test_federations_in_orders_of_their_own(finished, run_sweep, tmp_path):
    """Every federation trains in the order that its schedule says, and both readings of it are in the tables."""
    values = parsing.nest(finished.settings.flat)
    values["federation"] |= {"order": "random", "order_shared": False}
    values["attack"] |= {"names": ("loss", "calibration"), "views": ("coordinator", "coordinator_unordered")}
    runs, table = run_sweep(values, tmp_path / "run")
    planned = planning.make_plan(runs)
    gathered = collection.gather(planned, artifacts.Artifacts(tmp_path / "run" / "artifacts"), runs)
    assert [recipe.references for recipe in planned.recipes] == [planned.recipes[0].references] * 2
    drawn = []
    for arrays, schedule in ((gathered, gathered.schedule), (gathered.references, gathered.references.schedule)):
        for index, (phi, owners) in enumerate(zip(arrays.phi, arrays.owners, strict=True)):
            of_node = np.stack([phi[:, owners == node].mean(axis=1) for node in range(3)])  # of who trained last
            assert of_node.argmax(axis=0).tolist() == schedule.at(index).trainer.tolist()
            drawn.append(schedule.at(index).trainer.tobytes())
    assert len(set(drawn)) > 10
    last = table.filter(attack="loss", view="coordinator_unordered", attacked="N1").sort("replicate")["node"]
    assert last.to_list() == [int(run.schedule.trainer[-1]) + 1 for run in runs]
    assert set(table.filter(attack="calibration")["view"]) == {"snapshot", "coordinator", "coordinator_unordered"}


def test_an_outsider_is_answered_through_the_defence(finished, evidence, tables, run_sweep, tmp_path):
    """Training is as without it, and so is what participants read; answers are those of the last models, rounded."""
    values = parsing.nest(finished.settings.flat)
    values["defense"]["names"], values["defense"]["answer_digits"] = ("rounding",), 1.0
    values["attack"] |= {"names": ("loss", "calibration"), "views": ("outsider", "coordinator")}
    runs, table = run_sweep(values, tmp_path / "run", keep_models=True)
    planned, kept = planning.make_plan(runs, keep_models=True), artifacts.Artifacts(tmp_path / "run" / "artifacts")
    gathered = collection.gather(planned, kept, runs)
    np.testing.assert_array_equal(gathered.phi, evidence.phi)
    np.testing.assert_array_equal(gathered.references.phi, evidence.references.phi)
    recipe, run = planned.recipes[1], runs[1]
    for task, phi in (
        (recipe.federation, gathered.answers.phi[1, 0]),
        (recipe.references[3], gathered.answers.references.phi[3, 0]),
    ):
        params = jax.tree.map(lambda leaf: leaf[-1], kept.read(planned.unit_of[task], "c2")["params"])
        logits = networks.make_apply(run.module)(params, jnp.asarray(run.dataset.features[run.scored]))
        rounded = answers.round_probabilities(logits, jnp.float32(1))
        expected = signals.phi(types.Signals(rounded, jnp.asarray(run.dataset.labels[run.scored])))
        assert (np.abs(phi - expected) < 1e-3).mean() > 0.99  # but where rounding itself is close
    intervals = pl.read_parquet(tmp_path / "run" / "intervals.parquet")
    auc = {(a, v): n for a, v, n in intervals.filter(attacked="node").select("attack", "view", "auc").rows()}
    before = dict(tables["intervals"].filter(attack="loss", attacked="node").select("view", "auc").rows())
    assert auc["loss", "coordinator"] == before["coordinator"]
    assert auc["loss", "outsider"] != before["outsider"]
    assert 0.4 < auc["calibration", "outsider"] < auc["calibration", "coordinator"]
    told = table.filter(attack="loss", view="outsider", attacked="union", replicate=1)["target_train_accuracy"].item()
    held = (gathered.owners[1] >= 0) & gathered.answers.correct[1, 0]
    assert told == held.sum() / (gathered.owners[1] >= 0).sum()
