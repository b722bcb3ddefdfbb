"""Tables of adversaries made by hand, and how they are read; covers `adversaries/__init__.py` as well."""

import made_up_findings
import polars as pl
import pytest

from fedmia_jax.report import adversaries
from fedmia_jax.report.adversaries import tables
from fedmia_jax.storage import workdir as workdirs


def test_mean_and_worst_coalition_by_hand():
    summary = tables.summarise_coalitions(made_up_findings.COALITIONS)
    mean, worst = summary.rows(named=True)
    assert mean["coalitions"] == 2
    assert mean["auc"] == pytest.approx(((0.6 + 0.8) / 2 + (0.7 + 0.8) / 2) / 2)
    assert worst["party"] == "insider:2"
    assert worst["auc"] == pytest.approx(0.8)
    assert worst["auc_width"] == pytest.approx(0.0)
    assert "tpr_at_fpr_0.001" not in summary.columns  # no sample resolves it


def make_findings(rows):
    """Tables of a run, all but the ROC."""
    return {
        "intervals": pl.DataFrame(rows, infer_schema_length=None),
        "coalitions": made_up_findings.COALITIONS,
        "attribution": made_up_findings.NAMING,
    }


def test_a_page_of_attacks_and_views():
    rows = [
        made_up_findings.pooled("loss", "outsider"),
        made_up_findings.pooled("loss", "coordinator", auc=0.995),
        made_up_findings.pooled("peers", "coordinator"),
    ]
    rows.append(made_up_findings.pooled("loss", "outsider", attacked="union", tpr=0.2))
    made = adversaries.make_tables(make_findings(rows))
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


def test_an_attack_whose_scores_are_not_numbers_has_dashes():
    broken = dict.fromkeys(made_up_findings.pooled("network", "outsider")) | {"attack": "network", "view": "outsider"}
    broken |= {"attacked": "node", "replicates": 2, "members": 30, "non_members": 50}
    by_title = {
        table.title: table
        for table in adversaries.make_tables(make_findings([made_up_findings.pooled("loss", "outsider"), broken]))
    }
    for title in ("AUC on one node, attacks x views", "Lower bound on epsilon, one node, attacks x views"):
        assert by_title[title].rows[1] == ["network", "-"]


def test_every_point_of_a_sweep_has_its_page():
    rows = [
        made_up_findings.pooled("loss", "outsider", auc=auc) | {"model.dropout_rate": rate}
        for rate, auc in ((0.0, 0.9), (0.5, 0.7))
    ]
    findings = {"intervals": pl.DataFrame(rows, infer_schema_length=None)}
    first, second = adversaries.by_point(findings, swept=["model.dropout_rate"])
    assert first.title.endswith("; model.dropout_rate=0")
    assert second.title.endswith("; model.dropout_rate=0.5")
    assert [table.rows[0][1] for table in (first, second)] == [".900 (.890-.910)", ".700 (.690-.710)"]


def test_a_run_has_findings_where_all_tables_are_there_and_the_roc_has_points(tmp_path):
    workdir = workdirs.Workdir(tmp_path)
    findings = make_findings([made_up_findings.pooled("loss", "outsider")]) | {"roc": made_up_findings.ROC}
    for name, table in findings.items():
        assert adversaries.read(workdir) is None
        workdir.write_table(name, table)
    read = adversaries.read(workdir)
    assert set(read) == set(workdirs.TABLES)
    assert all(table.equals(findings[name]) for name, table in read.items())
    workdir.write_table("roc", made_up_findings.ROC.clear())
    assert adversaries.read(workdir) is None
