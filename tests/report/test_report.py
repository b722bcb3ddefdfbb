"""Whole reports of made-up results."""

import io

import made_up
import made_up_findings
import polars as pl
import rich.console
import scipy.stats

from fedmia_jax import report
from fedmia_jax.report import tables
from fedmia_jax.storage import workdir as workdirs


def write(folder, results, **options):
    """Markdown, terminal and figures of a report."""
    console = rich.console.Console(file=io.StringIO(), width=120)
    report.write(workdirs.Workdir(folder), results, title="made up", console=console, **options)
    pictures = sorted(path.stem for path in (folder / "figures").glob("*.png"))
    return (folder / "report.md").read_text(), console.file.getvalue(), pictures


def test_a_sweep_is_reported_point_by_point_and_beside_the_paper(tmp_path):
    earlier = pl.col("snapshot").is_not_null() & (pl.col("snapshot") != "C5N3") & (pl.col("attacked") == "union")
    results = made_up.make(made_up.GRID[:2], (0.0, 0.02))
    results = results.with_columns(accuracy=pl.when(earlier).then(0.1).otherwise("accuracy"))
    text, printed, pictures = write(tmp_path, results, swept=made_up.SWEPT)
    assert pictures == ["paper_figure_1", "paper_scatter"]
    assert all(f"![{name}](figures/{name}.png)" in text for name in pictures)
    assert "| data.num_classes | federation.nodes | federation.local_epochs | centralised train |" in text
    numbers, cell = made_up.NUMBERS, made_up.GRID[0]
    half = scipy.stats.t.ppf(0.975, 1) * scipy.stats.sem((0.0, 0.02))
    central = [f"{numbers['I', 10, None, None, metric] + 0.01:.3f} ±{half:.3f}" for metric in list(made_up.METRICS)[:3]]
    last = [f"{numbers['II', *cell, name] + 0.01:.3f} ±{half:.3f}" for name in ("test_accuracy", "attack_accuracy")]
    row = ["10", "3", "100", *central, *last, f"{made_up.peak(*cell):.3f} ±0.000"]
    assert "| " + " | ".join(row) + " |" in text
    assert all(word in printed for word in ("Sweep", "Table I,", "Table II,", "holds"))


def test_a_sweep_of_something_else_has_its_points_only(tmp_path):
    rates = [0.01 * i for i in range(70, 0, -1)]
    results = pl.concat(
        made_up.make(made_up.GRID[:1], cycles=1).with_columns(run_id=pl.lit(f"run{i}"), rate=pl.lit(rate))
        for i, rate in enumerate(rates)
    ).rename({"rate": "training.learning_rate"})
    text, printed, pictures = write(tmp_path, results, swept=("training.learning_rate",))
    assert pictures == []
    assert [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| 0")] == [
        f"| {rate:g}" for rate in rates
    ]
    assert "\n 0.11 " in printed
    assert "\n 0.1 " not in printed
    assert "The first 60 of 70 points" in printed
    assert "Table I" not in text


def test_one_point_has_the_report_of_a_single_run(tmp_path):
    results = made_up.make(made_up.GRID[:1], cycles=2)
    alone = write(tmp_path / "a", results)
    assert alone == write(tmp_path / "b", results, swept=made_up.SWEPT)
    assert alone[2] == ["grid_network", "trace_network"]
    assert [line for line in alone[0].splitlines() if line.startswith("#")] == [
        "# Leakage of a sequential federation: made up",
        *(f"## {table.title}" for table in tables.make_tables(results)),
    ]


def test_a_federation_with_aggregates_is_not_called_sequential(tmp_path):
    results = made_up.with_aggregates(made_up.make(made_up.GRID[:1], cycles=1))
    text, _, pictures = write(tmp_path, results)
    assert text.startswith("# Leakage of a federation: made up\n")
    assert "## Federation, attack: network" in text
    assert "| C1 | " in text
    assert pictures == ["grid_network", "trace_network"]


def test_a_run_with_reference_federations_shows_its_adversaries_first(tmp_path):
    """The attack that stands for all on single snapshots has its tables; the rows of other views have none."""
    workdir = workdirs.Workdir(tmp_path)
    rows = [made_up_findings.pooled("loss", "coordinator"), *made_up_findings.SIZES]
    intervals = pl.DataFrame(rows, infer_schema_length=None)
    findings = {"intervals": intervals, "roc": made_up_findings.ROC}
    findings |= {"coalitions": made_up_findings.COALITIONS, "attribution": made_up_findings.NAMING}
    findings["comparisons"] = made_up_findings.COMPARISONS
    for name, table in findings.items():
        workdir.write_table(name, table)
    results = made_up.make(made_up.GRID[:1], cycles=1)
    seen = results.filter(phase="federated", attacked="N1", node=3).with_columns(
        view=pl.lit("coordinator"), attack=pl.lit("peers")
    )
    text, printed, pictures = write(tmp_path, pl.concat([results, seen]))
    assert [line for line in text.splitlines() if line.startswith("#")][1:] == [
        "## AUC on one node, attacks x views",
        "## AUC on the worst node, attacks x views",
        "## Who sees more, attack: stacked",
        "## Gain of the strongest attack, stacked",
        "## Lower bound on epsilon, one node, attacks x views",
        "## Coalitions of insiders",
        "## Which node held the record? (top-1)",
        "## Centralised training, attack: network",
        "## Sequential federation, attack: network",
    ]
    assert "Sequential federation" not in printed, "what is on the terminal is about adversaries"
    drawn = ["advantage_network", "attribution", "coalitions", "grid_network", "roc", "trace_network"]
    assert pictures == drawn


def test_very_many_points_have_no_tables_of_their_own():
    pooled = [{"run_id": f"run{i}", "seed": i} | made_up_findings.pooled("stacked", "outsider") for i in range(61)]
    findings = {"intervals": pl.DataFrame(pooled)}
    assert report._of_each(findings, swept=("seed",)) == [
        "What adversaries find at each of the 61 points stands in `intervals.parquet`."
    ]
    few = {"intervals": findings["intervals"].filter(pl.col("seed") < 2)}
    assert len(report._of_each(few, swept=("seed",))) >= 2
