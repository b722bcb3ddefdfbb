"""A frontier from made-up tables of a sweep."""

import made_up
import made_up_findings
import made_up_levels
import numpy as np
import polars as pl
import pytest
import scipy.stats

from fedmia_jax.audit import comparisons
from fedmia_jax.report import mitigations
from fedmia_jax.report.mitigations import frontier, shown

SWEPT = ("defense.names", "defense.flip_probability")
POINTS = {"a": ("()", 0.0), "b": ("('randomised_response',)", 0.05)}
TEST = {"a": (0.60, 0.64), "b": (0.58, 0.60)}


@pytest.fixture
def results():
    """Two points of two replicates."""
    tables = []
    for run, (names, level) in POINTS.items():
        rows = made_up.make(made_up.GRID[:1], (0.0, 0.02), cycles=2)
        accuracy = pl.col("replicate").replace_strict({0: TEST[run][0], 1: TEST[run][1]})
        columns = {"run_id": pl.lit(run), SWEPT[0]: pl.lit(names), SWEPT[1]: pl.lit(level)}
        tables.append(rows.with_columns(target_test_accuracy=accuracy, **columns))
    return pl.concat(tables)


@pytest.fixture
def findings():
    """What the strongest attack finds at both."""
    pooled, naming = [], []
    for run, tpr in (("a", 0.8), ("b", 0.4)):
        for view in ("outsider", "coordinator"):
            pooled.append({"run_id": run} | made_up_findings.pooled("sequence_lira", view, tpr=tpr))
        naming.append(made_up_findings.NAMING.with_columns(run_id=pl.lit(run), way=pl.lit("sequence_lira")))
    compared = dict.fromkeys(comparisons.SCHEMA) | {"attack": "sequence_lira", "other_attack": "loss"}
    less = {"run_id": "a", "attack": "sequence_lira", "other_attack": "sequence_lira", "view": "coordinator"}
    less |= dict(zip(comparisons.number_columns(frontier.LEAK), (0.2, 0.1, 0.3), strict=True))
    compared = pl.DataFrame(
        [compared | {"strongest": True}, compared | {"strongest": False, "other_view": "outsider"} | less]
    )
    tables = {"intervals": pl.DataFrame(pooled), "attribution": pl.concat(naming), "comparisons": compared}
    return tables | {"roc": made_up_findings.ROC}


def changes():
    """The paired differences of the second point."""
    row = dict.fromkeys(comparisons.CHANGES_SCHEMA) | {"attack": "sequence_lira", "view": "coordinator", "nodes": 3}
    row |= dict(zip(comparisons.number_columns(frontier.LEAK), (-0.4, -0.5, -0.3), strict=True))
    return pl.DataFrame([{"run_id": "b"} | row])


def test_a_level_is_what_its_tables_say(results, findings):
    promised = pl.DataFrame(
        {"run_id": ["b", "b"], "epsilon": [3.0, 500.0], "protects": ["a bit of a record", "a record"]}
    )
    levels = frontier.read(
        findings, results, strongest="sequence_lira", swept=SWEPT, changes=changes(), guarantees=promised
    )
    without, flips = levels.points
    assert (levels.attack, levels.widest, without.family, without.flags) == (
        "sequence_lira",
        "coordinator",
        "no defence",
        "",
    )
    assert (flips.family, flips.label) == ("randomised_response", "randomised_response flip_probability 0.05")
    assert flips.flags == ("--config.defense.names=\"('randomised_response',)\" --config.defense.flip_probability=0.05")
    np.testing.assert_allclose(flips.test_accuracy, TEST["b"])
    lost = 100 * (np.array(TEST["a"]) - TEST["b"])
    ends = scipy.stats.t.interval(0.95, 1, lost.mean(), scipy.stats.sem(lost))
    np.testing.assert_allclose([flips.lost.value, flips.lost.low, flips.lost.high], [lost.mean(), *ends])
    assert flips.leaks["coordinator", frontier.LEAK] == frontier.Number(0.4, 0.2, 0.8)
    assert flips.changes["coordinator", frontier.LEAK] == frontier.Number(-0.4, -0.5, -0.3)
    assert (flips.named, flips.audited, flips.promised) == (0.8, 1.234, 500.0)
    assert without.promised is None
    assert levels.hidden["outsider", frontier.LEAK] == frontier.Number(-0.2, -0.3, -0.1)


def test_who_attacks_is_no_part_of_a_defence(results, findings):
    asked = pl.when(pl.col("run_id") == "a").then(pl.lit("('outsider',)")).otherwise(pl.lit("('insider',)"))
    swept = (*SWEPT, "attack.views")
    levels = frontier.read(
        findings, results.with_columns(asked.alias("attack.views")), strongest="sequence_lira", swept=swept
    )
    plain = frontier.read(findings, results, strongest="sequence_lira", swept=SWEPT)
    assert [(level.label, level.flags) for level in levels.points] == [(lv.label, lv.flags) for lv in plain.points]


def test_tables_show_it(results, findings):
    levels = frontier.read(findings, results, strongest="sequence_lira", swept=SWEPT, changes=changes())
    table, changed = shown.to_table(levels, title="made up"), shown.to_changes(levels)
    assert [row[0] for row in table.rows] == ["no defence", "randomised_response flip_probability 0.05"]
    assert "0.40 (0.20-0.80)" in table.rows[1]
    assert table.rows[1][-1] == "-"
    narrow = shown.to_summary(levels, title="made up")
    assert [row[-2:] for row in narrow.rows] == [
        ["0.80 (0.40-1.60)", "-"],
        ["0.40 (0.20-0.80)", "-0.40 (-0.50 to -0.30)"],
    ]
    assert changed.rows == [["randomised_response flip_probability 0.05", "-", "-0.40 (-0.50 to -0.30)"]]


def test_a_level_that_is_called_as_its_defence_is_not_called_so_twice(results, findings):
    columns = {
        "defense.label_smoothing": pl.col(SWEPT[1]),
        SWEPT[0]: pl.col(SWEPT[0]).replace({"('randomised_response',)": "('label_smoothing',)"}),
    }
    levels = frontier.read(
        findings,
        results.with_columns(**columns),
        strongest="sequence_lira",
        swept=(SWEPT[0], "defense.label_smoothing"),
    )
    assert [level.label for level in levels.points] == ["no defence", "label_smoothing 0.05"]


def test_a_point_that_exploded_is_left_out(results, findings):
    broken = pl.when(pl.col("run_id") == "b").then(None).otherwise("accuracy")
    levels = frontier.read(findings, results.with_columns(accuracy=broken), strongest="sequence_lira", swept=SWEPT)
    assert len(levels.points) == 1


def test_only_sweeps_over_defences_that_begin_without_one_have_it(results, findings):
    assert mitigations.applies(findings, results, SWEPT, "sequence_lira")
    assert not mitigations.applies(findings, results.reverse(), SWEPT, "sequence_lira")
    assert not mitigations.applies(findings, results, SWEPT[1:], "sequence_lira")
    assert not mitigations.applies(None, results, SWEPT, "sequence_lira")
    assert not mitigations.applies(findings, results, SWEPT, "stacked")
    alone = findings | {"comparisons": findings["comparisons"].clear()}  # one view, one attack with references
    assert mitigations.applies(alone, results, SWEPT, "sequence_lira")
    assert frontier.read(alone, results, strongest="sequence_lira", swept=SWEPT).attack == "sequence_lira"


def test_an_unresolved_number_is_a_dash():
    levels = made_up_levels.levels(made_up_levels.level("flips", 1.0, float("nan")))
    assert shown.to_table(levels, title="made up").rows[1][4] == "-"
