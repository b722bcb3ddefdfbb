"""Adversaries end to end on a small federation: what is kept, what holds whoever attacks, and what must not."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

from fedmia_jax import auditing, findings, model, parts, signals, stages, store, types

NAMES = ("loss", "lira_online", "rmia_offline", "delta_phi", "peers", "sequence_lira", "trajectory")
VIEWS = ("outsider", "insider", "bracket", "coalition:{1,2}", "coordinator", "all_coalitions:2")


@pytest.fixture(scope="module")
def lab(make_lab, short_fits):
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
def evidence(lab):
    """What the attacks read."""
    return auditing.gather(lab.planned, lab.kept, lab.runs)


@pytest.fixture(scope="module")
def scored(evidence, short_fits):
    """What every attack says of single nodes, by attack and view."""
    found: dict[tuple[str, str], list[auditing.Scored]] = {}
    for name in NAMES:
        way = auditing.score_single if name in evidence.single else auditing.score_compared
        for one in way(evidence, name):
            if one.node < 3 and one.view in VIEWS[:-1]:
                found.setdefault((name, one.view), []).append(one)
    return found


@pytest.fixture(scope="module")
def tables(lab):
    """The tables of the workdir."""
    return {name: pl.read_parquet(lab.folder / "run" / f"{name}.parquet") for name in store.TABLES}


def test_replicates_and_references_draw_from_the_same_records(lab, evidence):
    first, second = lab.runs
    np.testing.assert_array_equal(first.scored, second.scored)
    assert set(first.dealt.federation) != set(second.dealt.federation)
    assert set(first.dealt.federation) | set(first.dealt.test) == set(first.scored)
    held = np.asarray(evidence.references.owners) >= 0
    assert (held.sum(axis=1) == 180).all()
    assert 0.3 < held.mean(axis=0).mean() < 0.7
    shared = lab.planned.recipes[0].references
    assert shared == lab.planned.recipes[1].references  # trained once for both
    assert len(set(shared)) == 12


def test_signals_are_those_of_the_kept_models(lab, evidence):
    run = lab.runs[1]
    params = lab.kept.read(lab.planned.address[lab.planned.recipes[1].federation], "c2")["params"]
    one = {layer: {name: leaf[1] for name, leaf in group.items()} for layer, group in params.items()}
    logits = model.make_apply(run.module)(one, jnp.asarray(run.dataset.features[run.scored]))
    expected = signals.phi(types.Signals(logits, jnp.asarray(run.dataset.labels[run.scored])))
    np.testing.assert_allclose(evidence.phi[1, 4], expected, atol=1e-4)  # C2N2


def test_every_attack_has_its_rows(lab, tables):
    seen = lab.table.filter(pl.col("phase") == "federated").group_by("attack", "view").len().rows()
    count = {(attack, view): number for attack, view, number in seen}
    for name in NAMES:
        sequence = name in ("delta_phi", "peers", "sequence_lira", "trajectory")
        assert count.get((name, "snapshot"), 0) == (0 if sequence else 2 * 6 * 4)
    assert count["sequence_lira", "coordinator"] == 2 * 4
    assert count["sequence_lira", "insider:2"] == 2 * 2
    assert ("peers", "outsider") not in count
    assert ("delta_phi", "bracket:1") in count
    coalitions = tables["coalitions"]
    assert coalitions.filter(pl.col("attack") == "sequence_lira").height == 3 * 2
    assert set(coalitions["attack"]) == {"delta_phi", "peers", "sequence_lira", "trajectory"}  # two of three see all


def test_what_the_sample_cannot_resolve_is_null(tables):
    sure = tables["certainty"]
    assert sure["tpr_at_fpr_0.01"].null_count() == 0
    assert sure["tpr_at_fpr_0.001"].null_count() == sure.height  # 360 non-members
    assert (sure["auc_low"] <= sure["auc"]).all()
    assert (sure["auc"] <= sure["auc_high"]).all()
    assert (sure["fpr_0.01"] <= 0.01 + 1e-9).all()


def test_the_certainty_of_one_view_is_that_of_its_scores(lab, evidence, scored, tables):
    wins = []
    for one in scored["lira_online", "outsider"]:
        for replicate in range(2):
            inside = one.scores[replicate, evidence.members(one.node)[replicate]]
            outside = one.scores[replicate, evidence.others[replicate]]
            wins.append((inside[:, None] > outside).mean() + (inside[:, None] == outside).mean() / 2)
    row = tables["certainty"].filter(
        pl.col("attack") == "lira_online", pl.col("view") == "outsider", pl.col("attacked") == "node"
    )
    assert row["auc"][0] == pytest.approx(np.mean(wins), abs=1e-6)
    assert row["scored_members"][0] == 360
    assert row["members"][0] == len({*lab.runs[0].dealt.federation, *lab.runs[1].dealt.federation})


def test_scores_that_are_no_numbers_leave_the_row_empty(evidence, scored):
    (*_, one) = scored["loss", "outsider"]
    broken = dataclasses.replace(one, scores=np.where(np.arange(one.scores.shape[1]) == 3, np.nan, one.scores))
    row, curve = findings.certain(evidence, [broken])
    assert "auc" not in row
    assert not curve


def test_attacks_see_members(tables):
    sure = tables["certainty"].filter(pl.col("attacked") == "node")
    for attack in ("loss", "lira_online", "sequence_lira", "trajectory", "delta_phi"):
        best = sure.filter(pl.col("attack") == attack)["auc"].max()
        assert best > 0.7, attack


def test_a_larger_view_is_no_worse_for_likelihood_ratios(tables):
    sure = tables["certainty"].filter(pl.col("attack").is_in(["lira_online", "sequence_lira"]))
    for _, part in sure.group_by("attack", "attacked"):
        of = {row["view"]: row for row in part.iter_rows(named=True)}
        for small, large in (("outsider", "coordinator"), ("bracket", "coordinator")):
            if small in of:
                width = of[small]["auc_high_replicates"] - of[small]["auc_low_replicates"]
                assert of[large]["auc"] >= of[small]["auc"] - width


def test_shuffled_membership_is_guessed_by_nobody(evidence, scored):
    rng = np.random.default_rng(0)
    found: dict[tuple[str, str], list[tuple[float, bool]]] = {}
    for _ in range(8):
        blind = dataclasses.replace(evidence, owners=np.stack([rng.permutation(row) for row in evidence.owners]))
        for (name, view), some in scored.items():
            sure, _ = findings.certain(blind, some)
            held = sure["auc_low"] <= 0.5 <= sure["auc_high"]
            found.setdefault((name, view), []).append((sure["auc"], held))
    assert {name for name, _ in found} == set(NAMES)
    for which, values in found.items():
        assert abs(np.mean([auc for auc, _ in values]) - 0.5) < 0.05, which
    assert np.mean([held for values in found.values() for _, held in values]) > 0.85


def test_the_node_is_named(tables):
    named = tables["attribution"]
    part = named.filter(pl.col("way") == "sequence_lira", pl.col("view") == "coordinator")
    assert part["count"].sum() == 360
    right = part.filter(pl.col("true") == pl.col("named"))["count"].sum()
    assert right / 360 > 0.6
    assert "outsider" not in set(named.filter(pl.col("way") == "source_loss")["view"])


def test_references_of_other_records(run_sweep, lab, tmp_path):
    values = dataclasses.asdict(lab.settings)
    values["replicates"], values["shadow"]["audit"] = 1, False
    values["attack"]["names"] = ("loss", "lira_offline", "sequence_lira")
    values["attack"]["views"] = ("outsider", "coordinator")
    runs, _ = run_sweep(values, tmp_path / "run")
    (run,) = runs
    assert not set(run.scored[:360]) & {row for shards in run.audit.references for row in shards.indices[shards.mask]}
    assert (run.reference_owners[:, :360] == -1).all()
    assert (run.owners[360:] == -2).all()
    planned = stages.make_plan(runs)
    gathered = auditing.gather(planned, parts.Parts(tmp_path / "run" / "parts"), runs)
    assert gathered.phi.shape == (1, 6, 720)
    sure = pl.read_parquet(tmp_path / "run" / "certainty.parquet")
    assert sure.filter(pl.col("attack") == "sequence_lira")["auc"].min() > 0.6
