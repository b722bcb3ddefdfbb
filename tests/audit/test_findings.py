"""The audit end to end on drawn signals: laws of any attack. Tests `scoring` and `attribution` too."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

from fedmia_jax import attacks, options
from fedmia_jax.attacks import trajectory
from fedmia_jax.audit import (
    api,
    attribution,
    blocks,
    coalitions,
    correction,
    evidence,
    findings,
    pooling,
    rows,
    scorers,
    scoring,
)
from fedmia_jax.schedule import Schedule

NAMES = ("loss", "lira_online", "rmia_offline", "delta_phi", "peers", "sequence_lira", "trajectory")
VIEWS = ("outsider", "insider", "bracket", "coalition:{1,2}", "coordinator", "all_coalitions:2")
CYCLIC = Schedule.cyclic(nodes=3, cycles=2)


@pytest.fixture(scope="module")
def arrays(make_evidence):
    """Three nodes, two cycles, two targets, twelve references."""
    return make_evidence(CYCLIC)


@pytest.fixture(scope="module")
def progress():
    """How often the audit said that an attack is done, and what it complained of."""
    return {"steps": [], "lines": []}


@pytest.fixture(scope="module")
def tables(arrays, progress, short_fits):
    """What the audit finds."""
    told = {"advance": progress["steps"].append, "on_broken": progress["lines"].append}
    return api.audit(arrays, NAMES, VIEWS, options={"strongest": "sequence_lira"}, **told)


@pytest.fixture(scope="module")
def make_scorer(short_fits):
    """`make_scorer(arrays, names, views)`, without the checks of `audit`."""

    def call(arrays, names, views):
        compared = [name for name in names if name not in arrays.model_scores]
        declared = options.declared(*(attacks.find(name).options for name in compared))
        defaults = {name: declaration.default for name, declaration in declared.items()}
        return scorers.make_scorer(
            arrays,
            compared,
            views,
            defaults,
            jax.random.key(0),
            claim=correction.make_claim(correction.Options(), names, views),
        )

    return call


@pytest.fixture(scope="module")
def scored(arrays, make_scorer):
    """What every attack says of single nodes, by attack and view."""
    scorer = make_scorer(arrays, NAMES, VIEWS)
    said: dict[tuple[str, str], list[scorers.Scored]] = {}
    for name in NAMES:
        score = scoring.score_on_one_model if name in arrays.model_scores else scoring.score_with_references
        for each in score(scorer, name):
            if each.node < 3 and each.view in VIEWS[:-1]:
                said.setdefault((name, each.view), []).append(each)
    return said


def test_every_attack_is_heard_of_once(tables, progress):
    assert progress["steps"] == [1] * len(NAMES)
    assert progress["lines"] == []
    assert tables.intervals["attack"].unique(maintain_order=True).to_list() == list(NAMES)


def test_every_attack_has_its_rows(arrays, tables):
    single = [
        row
        for replicate in range(2)
        for row in rows.snapshot_rows(
            CYCLIC,
            scores=arrays.model_scores["loss"].scores[replicate],
            thresholds=arrays.model_scores["loss"].thresholds[replicate],
            held_out=None,
            correct=arrays.correct[replicate],
            owners=arrays.owners[replicate],
            nodes=3,
            attack="loss",
            replicate=replicate,
        )
    ]
    table = pl.concat([pl.DataFrame(single, rows.SCHEMA), tables.rows])
    count = {(attack, view): number for attack, view, number in table.group_by("attack", "view").len().rows()}
    for name in NAMES:
        sequence = name in ("delta_phi", "peers", "sequence_lira", "trajectory")
        assert count.get((name, "snapshot"), 0) == (0 if sequence else 2 * 6 * 4)
    assert count["sequence_lira", "coordinator"] == 2 * 4
    assert count["sequence_lira", "insider:2"] == 2 * 2
    assert ("peers", "outsider") not in count
    assert ("delta_phi", "bracket:1") in count
    several = tables.coalitions
    assert several.filter(pl.col("attack") == "sequence_lira").height == 3
    assert set(several["attack"]) == {"delta_phi", "peers", "sequence_lira", "trajectory"}  # two of three see all


def test_a_coalition_learns_the_same_under_either_view(tables):
    """By name, and among all coalitions of its size: to the last bit."""
    alone = tables.intervals.filter(view="coalition:{1,2}").select("attack", *coalitions.NUMBERS)
    among = tables.coalitions.filter(party="coalition:{1,2}", attacked="N3").select("attack", *coalitions.NUMBERS)
    assert alone.join(among, on="attack", how="semi").equals(among)
    means = tables.coalitions.group_by("attack", maintain_order=True).agg(pl.col("auc").mean())
    pooled = tables.intervals.filter(view="all_coalitions:2").select("attack", "auc")
    np.testing.assert_allclose(means["auc"], pooled["auc"], rtol=1e-12)
    assert tables.intervals.filter(view="all_coalitions:2", attack="sequence_lira")["parties"].to_list() == [3]


def test_who_sees_more_is_compared(tables):
    """Views by what they show, the nodes that a coalition and others attack, and attacks with the strongest."""
    table = tables.comparisons.filter(attack="sequence_lira", other_attack="sequence_lira")
    assert set(table.select("view", "other_view", "sees", "nodes").rows()) == {
        ("coordinator", "outsider", "all", 3),
        ("coordinator", "insider", "all", 3),
        ("coordinator", "bracket", "all", 3),
        ("coordinator", "coalition:{1,2}", "all", 1),
        ("coalition:{1,2}", "insider", "all", 1),
        ("bracket", "outsider", "own", 3),
        ("bracket", "insider", "own", 3),
        ("bracket", "coalition:{1,2}", "own", 1),
    }
    gains = tables.comparisons.filter(pl.col("other_attack") != "sequence_lira", attack="sequence_lira")
    assert set(gains["other_attack"]) == {"lira_online", "rmia_offline", "delta_phi", "peers", "trajectory"}
    assert tables.comparisons["strongest"].to_list() == (tables.comparisons["attack"] == "sequence_lira").to_list()
    of = {(row["attack"], row["view"]): row["auc"] for row in tables.intervals.filter(attacked="node").to_dicts()}
    for row in tables.comparisons.filter(nodes=3).to_dicts():
        expected = of[row["attack"], row["view"]] - of[row["other_attack"], row["other_view"]]
        assert row["auc_difference"] == pytest.approx(expected, abs=1e-6)
        assert row["auc_difference_low"] <= row["auc_difference"] <= row["auc_difference_high"]


def test_columns_are_there_whatever_is_asked(arrays, tables):
    little = api.audit(arrays, ("loss",), ("outsider",))
    for name, schema in findings.SCHEMAS.items():
        assert dict(getattr(tables, name).schema) == dict(schema)
        assert dict(getattr(little, name).schema) == dict(schema)
    assert little.coalitions.is_empty()


def test_what_the_sample_cannot_resolve_is_null(tables):
    table = tables.intervals
    assert table["tpr_at_fpr_0.01"].null_count() == 0
    assert table["tpr_at_fpr_0.001"].null_count() == table.height  # 360 non-members
    assert (table["auc_low"] <= table["auc"]).all()
    assert (table["auc"] <= table["auc_high"]).all()
    assert (table["fpr_0.01"] <= 0.01 + 1e-9).all()


def test_the_intervals_of_one_view_are_those_of_its_scores(arrays, scored, tables):
    wins = []
    for each in scored["lira_online", "outsider"]:
        for replicate in range(2):
            inside = each.scores[replicate, arrays.members(each.node)[replicate]]
            outside = each.scores[replicate, arrays.others(each.node)[replicate]]
            wins.append((inside[:, None] > outside).mean() + (inside[:, None] == outside).mean() / 2)
    row = tables.intervals.filter(
        pl.col("attack") == "lira_online", pl.col("view") == "outsider", pl.col("attacked") == "node"
    )
    assert row["auc"][0] == pytest.approx(np.mean(wins), abs=1e-6)
    assert row["scored_members"][0] == 360
    assert row["members"][0] == (arrays.owners >= 0).any(axis=0).sum()


def test_rows_of_views_are_those_of_their_scores(arrays, scored, tables):
    for each in scored["rmia_offline", "insider"]:
        for replicate, (inside, outside) in enumerate(
            zip(arrays.members(each.node), arrays.others(each.node), strict=True)
        ):
            (row,) = tables.rows.filter(
                attack="rmia_offline", view=each.party, attacked=f"N{each.node + 1}", replicate=replicate
            ).rows(named=True)
            read = int(each.snapshots[replicate])
            above = each.scores[replicate] > np.float32(each.thresholds[replicate])
            assert row["snapshot"] == CYCLIC.label(read)
            assert (row["cycle"], row["node"]) == (read // 3 + 1, read % 3 + 1)
            assert row["accuracy"] == pytest.approx((above[inside].mean() + 1 - above[outside].mean()) / 2)
            assert row["target_train_accuracy"] == pytest.approx(arrays.correct[replicate, read, inside].mean())
            assert row["target_test_accuracy"] == pytest.approx(arrays.correct[replicate, read, outside].mean())
            assert (row["num_members"], row["num_non_members"]) == (60, 180)
            assert row["attack_held_out_accuracy"] is None


def test_accuracy_on_models_that_an_attack_was_not_fitted_on_is_kept(tables):
    for name, group in tables.rows.group_by("attack"):
        assert (group["attack_held_out_accuracy"] == 0.75).all() if name == ("loss",) else True
        assert group["attack_held_out_accuracy"].null_count() == (0 if name == ("loss",) else group.height)


def test_scores_that_are_no_numbers_leave_the_row_empty(arrays, scored):
    (*_, last) = scored["loss", "outsider"]
    broken = dataclasses.replace(last, scores=np.where(np.arange(last.scores.shape[1]) == 3, np.nan, last.scores))
    pooled = pooling.pool(arrays, [broken])
    assert "auc" not in pooled.row
    assert not pooled.curve
    assert not pooled.measured


def test_a_target_that_exploded_is_said_so(arrays):
    phi = np.where(np.arange(2)[:, None, None] == 1, np.nan, arrays.phi)
    loss = dataclasses.replace(arrays.model_scores["loss"], scores=phi)
    lines = []
    tables = api.audit(
        dataclasses.replace(arrays, phi=phi, model_scores={"loss": loss}),
        ("loss", "calibration"),
        ("outsider", "coordinator"),
        on_broken=lines.append,
    )
    assert len(lines) == 2 * 2 * 2
    assert all("scores are not numbers" in line for line in lines)
    assert tables.intervals["auc"].null_count() == tables.intervals.height
    assert tables.roc.is_empty()
    assert tables.attribution.is_empty()
    whole, exploded = (tables.rows.filter(replicate=replicate) for replicate in (0, 1))
    assert whole["accuracy"].null_count() == 0
    for column in (*rows.METRICS, "target_train_accuracy", "target_test_accuracy"):
        assert exploded[column].null_count() == exploded.height, column


def test_a_node_without_members_has_no_numbers(arrays):
    owners = np.where(arrays.owners == 1, -2, arrays.owners)
    tables = api.audit(dataclasses.replace(arrays, owners=owners), ("loss", "calibration"), ("bracket", "outsider"))
    assert tables.intervals.filter(attacked="node")["auc"].null_count() == 4
    assert tables.intervals.filter(attacked="union")["auc"].null_count() == 0
    empty = tables.rows.filter(attacked="N2")
    assert empty["auc"].null_count() == empty.height
    assert empty["num_members"].unique().to_list() == [0]


def test_attacks_see_members(tables):
    table = tables.intervals.filter(pl.col("attacked") == "node")
    for attack in ("loss", "lira_online", "sequence_lira", "trajectory", "delta_phi"):
        best = table.filter(pl.col("attack") == attack)["auc"].max()
        assert best > 0.7, attack


def test_a_larger_view_is_no_worse_for_likelihood_ratios(tables):
    table = tables.intervals.filter(pl.col("attack").is_in(["lira_online", "sequence_lira"]))
    for _, group in table.group_by("attack", "attacked"):
        of = {row["view"]: row for row in group.iter_rows(named=True)}
        for small, large in (("outsider", "coordinator"), ("bracket", "coordinator")):
            if small in of:
                width = of[small]["auc_high_replicates"] - of[small]["auc_low_replicates"]
                assert of[large]["auc"] >= of[small]["auc"] - width


def test_shuffled_membership_is_guessed_by_nobody(arrays, scored):
    rng = np.random.default_rng(0)
    guesses: dict[tuple[str, str], list[tuple[float, bool]]] = {}
    for _ in range(8):
        blind = dataclasses.replace(arrays, owners=np.stack([rng.permutation(row) for row in arrays.owners]))
        for (name, view), group in scored.items():
            row = pooling.pool(blind, group, with_curve=False).row
            held = row["auc_low"] <= 0.5 <= row["auc_high"]
            guesses.setdefault((name, view), []).append((row["auc"], held))
    assert {name for name, _ in guesses} == set(NAMES)
    for which, values in guesses.items():
        assert abs(np.mean([auc for auc, _ in values]) - 0.5) < 0.05, which
    assert np.mean([held for values in guesses.values() for _, held in values]) > 0.85


def test_the_node_is_named(tables):
    named = tables.attribution
    table = named.filter(pl.col("way") == "sequence_lira", pl.col("view") == "coordinator")
    assert table["count"].sum() == 360
    right = table.filter(pl.col("true") == pl.col("named"))["count"].sum()
    assert right / 360 > 0.6
    assert "outsider" not in set(named.filter(pl.col("way") == "source_loss")["view"])
    assert named["way"].unique(maintain_order=True).to_list() == [
        "source_loss",
        "delta_phi",
        "sequence_lira",
        "trajectory",
    ]


def test_source_losses_and_confusion_by_hand(arrays):
    phi, schedule = arrays.phi[0], Schedule.sequential(np.array([[2, 0, 1], [1, 2, 0]]))
    mask = np.array([True, True, True, True, False, True])
    expected = np.stack(
        [
            np.mean([-np.logaddexp(0, -phi[t]) for t in range(6) if schedule.trainer[t] == node and mask[t]], axis=0)
            for node in range(3)
        ]
    )
    losses = attribution.source_losses(jnp.asarray(phi), jnp.asarray(mask), jnp.asarray(schedule.visits))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    table = np.zeros((3, 3), int)
    for record, owner in enumerate(arrays.owners[0]):
        if owner >= 0:
            table[owner, np.argmax(losses[:, record])] += 1
    np.testing.assert_array_equal(attribution.confusion(losses, jnp.asarray(arrays.owners[0]), nodes=3), table)


def test_references_of_other_records(make_evidence, short_fits):
    """References train on other records than the targets: only attacks that need no member of each record work."""
    half, other = make_evidence(CYCLIC), make_evidence(CYCLIC, seed=1)
    outside = make_evidence(CYCLIC, seed=2, lift=0.0)

    def beside(first, second):
        return np.concatenate([first, second], axis=-1)

    known = evidence.References(
        phi=beside(outside.references.phi, other.references.phi),
        owners=beside(np.full_like(outside.references.owners, -1), other.references.owners),
    )
    arrays = evidence.Evidence(
        phi=beside(half.phi, other.phi),
        owners=beside(half.owners, np.full_like(other.owners, -2)),
        schedule=CYCLIC,
        references=known,
        model_scores={"loss": evidence.ModelScores(scores=beside(half.phi, other.phi), thresholds=np.zeros((2, 6)))},
    )
    assert arrays.phi.shape == (2, 6, 720)
    tables = api.audit(arrays, ("loss", "lira_offline", "sequence_lira"), ("outsider", "coordinator"))
    table = tables.intervals
    assert table.filter(pl.col("attack") == "sequence_lira")["auc"].min() > 0.6
    assert set(table["scored_non_members"]) == {3 * 360, 360}
    assert tables.rows["target_train_accuracy"].null_count() == tables.rows.height


def test_assigned_records_stand_against_their_own_node(arrays, make_scorer):
    """Where it is known whom a record was assigned to, its absence counts against that node alone, and once."""
    rng = np.random.default_rng(0)
    assigned = np.where(arrays.owners >= 0, arrays.owners, rng.integers(0, 3, arrays.owners.shape)).astype(np.int32)
    assigned[:, :20] = -1
    paired = dataclasses.replace(arrays, assigned=assigned)
    row = api.audit(paired, ("loss",), ("bracket",))
    per_node = [int(((arrays.owners == -1) & np.isin(assigned, (node, -1))).sum()) for node in range(3)]
    assert row.intervals["scored_non_members"].to_list() == [sum(per_node)]
    assert row.rows.group_by("attacked", maintain_order=True).agg(pl.col("num_non_members").sum()).rows() == [
        (f"N{node + 1}", number) for node, number in enumerate(per_node)
    ]
    scorer = make_scorer(paired, ("loss",), ("bracket",))
    group = list(scoring.score_on_one_model(scorer, "loss"))
    aucs = [
        (each.scores[s, inside[s]][:, None] > each.scores[s, outside[s]]).mean()
        for each in group
        for inside, outside in [(paired.members(each.node), paired.others(each.node))]
        for s in range(2)
    ]
    assert row.intervals["auc"][0] == pytest.approx(np.mean(aucs), abs=1e-5)


def test_an_alias_says_what_its_view_says(arrays):
    tables = api.audit(arrays, ("loss", "sequence_lira"), ("outsider", "coordinator_p2p"))
    first, second = (tables.intervals.filter(view=view).drop("view") for view in ("outsider", "coordinator_p2p"))
    assert first.equals(second)


def test_before_and_after_in_one_cycle(arrays):
    """A single cycle of a bracket is enough to attack, and all cycles are no worse."""
    tables = api.audit(arrays, ("sequence_lira",), ("bracket:2", "bracket:2@1", "bracket:2@2"))
    auc = dict(tables.intervals.select("view", "auc").rows())
    width = tables.intervals["auc_high"] - tables.intervals["auc_low"]
    assert min(auc.values()) > 0.7
    assert auc["bracket:2"] >= max(auc["bracket:2@1"], auc["bracket:2@2"]) - width.max()
    assert set(tables.rows["view"]) == {"bracket:2", "bracket:2@1", "bracket:2@2"}


def test_the_key_alone_decides_what_is_drawn(arrays, monkeypatch):
    monkeypatch.setattr(trajectory, "NUM_UPDATES", 20)
    first, again, other = (
        api.audit(arrays, ("trajectory",), ("outsider",), key=key)
        for key in (None, jax.random.key(0), jax.random.key(1))
    )
    assert first.intervals.equals(again.intervals)
    assert not first.intervals.equals(other.intervals)


def take_records(arrays, rows_taken):
    """The evidence of some records alone."""
    references = dataclasses.replace(
        arrays.references,
        phi=arrays.references.phi[..., rows_taken],
        owners=arrays.references.owners[:, rows_taken],
        signals={name: signal[..., rows_taken] for name, signal in arrays.references.signals.items()},
    )
    return dataclasses.replace(
        arrays,
        phi=arrays.phi[..., rows_taken],
        owners=arrays.owners[:, rows_taken],
        references=references,
        correct=None,
        model_scores={},
        signals={name: signal[..., rows_taken] for name, signal in arrays.signals.items()},
    )


@pytest.mark.parametrize("name", ["lira_online", "rmia_offline", "delta_phi", "sequence_lira", "stacked"])
def test_records_in_blocks_say_what_each_block_says_alone(make_evidence, make_scorer, monkeypatch, name):
    arrays, parties = make_evidence(CYCLIC, num_records=600), ("outsider", "coordinator", "all_coalitions:2")
    monkeypatch.setattr(blocks, "MOST_FLOATS", 300 * arrays.references.phi.shape[0] * len(CYCLIC))
    monkeypatch.setattr(blocks, "RUN", 50)
    monkeypatch.setattr(scoring, "MOST_BYTES", 2**14)  # so that parties come in several lots
    whole = make_scorer(arrays, (name,), parties)
    second = whole.row_blocks[1]
    assert [len(rows_of_block) for rows_of_block in whole.row_blocks] == [300, 300]
    alone = make_scorer(take_records(arrays, second), (name,), parties)
    assert alone.row_blocks == [slice(None)]
    pairs = zip(*(scoring.score_with_references(each, name) for each in (whole, alone)), strict=True)
    for of_whole, of_block in pairs:
        assert (of_whole.view, of_whole.party, of_whole.node) == (of_block.view, of_block.party, of_block.node)
        # A block may be padded further than alone; sums in another order grow in a network's updates.
        close = 2e-2 if name == "stacked" else 1e-3
        np.testing.assert_allclose(of_whole.scores[:, second], of_block.scores, rtol=close, atol=close)
    named = [list(attribution.attribute(each, name)) for each in (whole, alone)]
    assert [{**row, "count": 0} for row in named[0]] == [{**row, "count": 0} for row in named[1]]
    assert sum(row["count"] for row in named[0]) >= sum(row["count"] for row in named[1])
