"""What a report says of adversaries, on tables by hand."""

import polars as pl
import pytest

from fedmia_jax.report import adversaries


def certain(attack, view, *, attacked="node", auc=0.9, tpr=None):
    row = {"attack": attack, "view": view, "attacked": attacked, "replicates": 2, "members": 30, "non_members": 50}
    row |= {"auc": auc, "auc_low_replicates": auc - 0.01, "auc_high_replicates": auc + 0.01, "epsilon": 1.234}
    for rate in ("0.01", "0.001"):
        ends = (None, None, None) if tpr is None else (tpr, tpr / 2, tpr * 2)
        row |= dict(zip([f"tpr_at_fpr_{rate}{end}" for end in ("", "_low", "_high")], ends, strict=True))
    return row


def coalition(party, size, replicate, auc, *, attacked="N3"):
    head = {"attack": "sequence_lira", "size": size, "party": party, "attacked": attacked, "replicate": replicate}
    return head | {"auc": auc, "tpr_at_fpr_0.01": auc / 2, "tpr_at_fpr_0.001": None}


COALITIONS = pl.DataFrame(
    [
        coalition("insider:1", 1, 0, 0.6),
        coalition("insider:1", 1, 1, 0.7),
        coalition("insider:2", 1, 0, 0.8),
        coalition("insider:2", 1, 1, 0.9, attacked="N3"),
        coalition("insider:2", 1, 1, 0.7, attacked="N1"),
    ],
    schema_overrides={"tpr_at_fpr_0.001": pl.Float64},
)


def test_mean_and_worst_coalition_by_hand():
    found = adversaries.by_size(COALITIONS)
    mean, worst = found.rows(named=True)
    assert mean["coalitions"] == 2
    assert mean["auc"] == pytest.approx(((0.6 + 0.8) / 2 + (0.7 + 0.8) / 2) / 2)
    assert worst["party"] == "insider:2"
    assert worst["auc"] == pytest.approx(0.8)
    assert worst["auc_width"] == pytest.approx(0.0)
    assert "tpr_at_fpr_0.001" not in found.columns  # no sample resolves it


def test_a_page_of_attacks_and_views():
    rows = [certain("loss", "outsider"), certain("loss", "coordinator", auc=0.995), certain("peers", "coordinator")]
    rows.append(certain("loss", "outsider", attacked="union", tpr=0.2))
    naming = [
        {"way": "delta_phi", "view": "coordinator", "true": true, "named": named, "count": count}
        for true, named, count in (("N1", "N1", 9), ("N1", "N2", 1), ("N2", "N1", 3), ("N2", "N2", 7))
    ]
    made = adversaries.make_tables(
        {"certainty": pl.DataFrame(rows, infer_schema_length=None), "coalitions": COALITIONS,
         "attribution": pl.DataFrame(naming)}
    )  # fmt: skip
    by_title = {table.title: table for table in made}
    auc = by_title["AUC on one node, attacks x views"]
    assert list(auc.header) == ["attack", "outsider", "coordinator"]
    assert auc.rows[0][1] == ".900 (.890-.910)"
    assert auc.rows[0][2] == ".995 (.985-1.005)"
    assert auc.rows[1] == ["peers", "", ".900 (.890-.910)"]
    assert "TPR at 1% FPR on one node, attacks x views" not in by_title
    assert by_title["TPR at 1% FPR on the union of all nodes, attacks x views"].rows == [["loss", ".200 (.100-.400)"]]
    (named,) = by_title["Which node held the record? (top-1)"].rows
    assert named[2].startswith(".800 (")
    assert "by chance 0.500" in by_title["Which node held the record? (top-1)"].caption


def test_every_point_of_a_sweep_has_its_page():
    rows = [
        certain("loss", "outsider", auc=auc) | {"model.dropout_rate": rate} for rate, auc in ((0.0, 0.9), (0.5, 0.7))
    ]
    found = {"certainty": pl.DataFrame(rows, infer_schema_length=None)}
    first, second = adversaries.by_point(found, swept=["model.dropout_rate"])
    assert first.title.endswith("; model.dropout_rate=0")
    assert second.title.endswith("; model.dropout_rate=0.5")
    assert [table.rows[0][1] for table in (first, second)] == [".900 (.890-.910)", ".700 (.690-.710)"]
