"""Tables of adversaries made by hand, and how they are read; covers `adversaries/__init__.py` as well."""

import made_up_findings
import polars as pl

from fedmia_jax.report import adversaries
from fedmia_jax.report.adversaries import tables
from fedmia_jax.storage import workdir as workdirs


def test_mean_and_worst_coalition_of_each_size():
    rows = [made_up_findings.pooled("sequence_lira", "outsider"), *made_up_findings.SIZES]
    rows.append(dict.fromkeys(rows[1]) | {"attack": "peers", "view": "all_coalitions:2", "attacked": "node"})  # broken
    by_title = {table.title: table for table in adversaries.make_tables(make_findings(rows))}
    table = by_title["Coalitions of insiders"]
    header = ["attack", "insiders", "coalitions", "AUC, mean", "TPR at 1% FPR, mean", "AUC, worst"]
    assert [name.replace("\n", " ") for name in table.header] == [*header, "TPR at 1% FPR, worst", "worst"]
    first, second = table.rows
    assert first == ["sequence_lira", "1", "3", ".700 (.696-.704)", ".35", ".75", ".35", "2"]
    assert second[-1] == "{1,3}"
    assert list(by_title["AUC on one node, attacks x views"].header) == ["attack", "outsider"]


def test_digits_are_no_finer_than_the_interval():
    assert [tables._cell(*numbers) for numbers in ((0.5, 0.499, 0.501), (0.5, 0.49, 0.51), (0.5, 0.3, 0.7))] == [
        ".500 (.499-.501)",
        ".50 (.49-.51)",
        ".50 (.30-.70)",
    ]
    assert tables._cell(1.0, 0.9999, 1.0) == "1.000 (1.000-1.000)"
    assert tables._cell(0.5) == ".50"
    assert tables._cell(None) == "-"


def make_findings(rows):
    """Tables of a run, all but the ROC."""
    return {
        "intervals": pl.DataFrame(rows, infer_schema_length=None),
        "coalitions": made_up_findings.COALITIONS,
        "attribution": made_up_findings.NAMING,
        "comparisons": made_up_findings.COMPARISONS,
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
    assert auc.rows[0][1] == ".900 (.896-.904)"
    assert auc.rows[0][2] == ".995 (.991-.999)"
    assert auc.rows[1] == ["peers", "", ".900 (.896-.904)"]
    assert "TPR at 1% FPR on one node, attacks x views" not in by_title
    assert by_title["TPR at 1% FPR on the union of all nodes, attacks x views"].rows == [["loss", ".20 (.10-.40)"]]
    (named,) = by_title["Which node held the record? (top-1)"].rows
    assert named[2].startswith(".80 (")
    assert named[3:] == [".500", "20"]
    hidden = made_up_findings.NAMING.with_columns(view=pl.lit("coordinator_unordered"))
    made = adversaries.make_tables(make_findings(rows) | {"attribution": hidden})
    (named,) = next(table for table in made if table.title.startswith("Which node held the record?")).rows
    assert named[2] == ".80"


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
    assert [table.rows[0][1] for table in (first, second)] == [".900 (.896-.904)", ".700 (.696-.704)"]


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
