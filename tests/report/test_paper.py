"""A sweep beside the paper: differences, claims and figures of made-up results whose content is known."""

import functools
import io
import itertools
import re

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import pytest
import rich.console
import scipy.stats

from fedmia_jax import report, store
from fedmia_jax.report import figures, paper, paper_claims, paper_facts, paper_figures, ranking, tables

GRID = list(itertools.product((10, 20, 50, 100), (3, 10, 15), (100, 200)))
SWEPT = ("data.num_classes", "federation.nodes", "federation.local_epochs")
NUMBERS = {tuple(row[:5]): row[5] for row in paper.published().iter_rows()}
METRICS = {
    "train_accuracy": "target_train_accuracy",
    "test_accuracy": "target_test_accuracy",
    "attack_accuracy": "accuracy",
    "attack_precision": "precision",
    "attack_recall": "recall",
    "attack_f1": "f1",
}
OTHERS = ("auc", "tpr_at_fpr_0.01", "tpr_at_fpr_0.001", "threshold", "attack_held_out_accuracy")


def peak(classes, nodes, epochs):
    """Attack accuracy on a node right after it trained, as the paper would have it: 0.64 to 0.95."""
    return 0.55 + 0.05 * np.log2(classes / 5) + 0.007 * nodes + 0.0004 * epochs


def make_run(cell, replicate, *, cycles=5, shift=0.0, swing=0.2, late=0, centralised=None):
    """The rows of one replicate: the paper's tables moved by `shift`, and nodes whose attack fades after the visit.

    The attack on a node is best `late` hand-offs after its visit and falls by `swing` (twice that with 200 epochs)
    until the one before; its recall falls half as far again.
    """
    classes, nodes, epochs = cell
    attacked = np.array([f"N{node + 1}" for node in range(nodes)] + ["union"])
    steps = np.arange(cycles * nodes)
    since = (steps[:, None] - np.arange(nodes) - late) % nodes  # [T, N]
    on_nodes = peak(*cell) - swing * (epochs / 200) * since / nodes
    last = NUMBERS["II", *cell, "attack_accuracy"] + shift
    federated = np.concatenate([on_nodes, np.full((len(steps), 1), last)], axis=1)  # [T, A]
    central = {metric: NUMBERS["I", classes, None, None, metric] + shift for metric in METRICS}
    central |= centralised or {}
    parts = []
    for t in range(-1, len(steps)):
        accuracy = np.full(nodes + 1, central["attack_accuracy"]) if t < 0 else federated[t]
        values = dict.fromkeys(OTHERS, np.full(nodes + 1, 0.5))
        values |= {"accuracy": accuracy, "precision": accuracy, "f1": accuracy, "target_train_accuracy": accuracy}
        values["recall"] = 1.5 * accuracy - 0.5
        values["target_test_accuracy"] = np.full(nodes + 1, NUMBERS["II", *cell, "test_accuracy"] + shift)
        if t < 0:
            values |= {METRICS[metric]: np.full(nodes + 1, value) for metric, value in central.items()}
        frame = pl.DataFrame({**values, "attacked": attacked}).with_columns(
            phase=pl.lit("centralised" if t < 0 else "federated"),
            cycle=pl.lit(None if t < 0 else t // nodes + 1, pl.Int64),
            node=pl.lit(None if t < 0 else t % nodes + 1, pl.Int64),
            snapshot=pl.lit(None if t < 0 else f"C{t // nodes + 1}N{t % nodes + 1}", pl.String),
        )
        parts.append(frame)
    always = {"run_id": "-".join(map(str, cell)), "replicate": replicate, "data.name": "synthetic"}
    always |= dict(zip(SWEPT, cell, strict=True))
    always |= {"attack": "network", "view": "snapshot", "num_members": 100, "num_non_members": 1000}
    return pl.concat(parts).with_columns(pl.lit(value).alias(name) for name, value in always.items())


def make(cells=tuple(GRID), shifts=(0.0,), **options):
    """The rows of several cells; one replicate for each shift. The baseline first, as `results` orders them."""
    runs = [make_run(cell, i, shift=shift, **options) for cell in cells for i, shift in enumerate(shifts)]
    return pl.concat(runs).with_columns(pl.col(*SWEPT, "replicate").cast(pl.Int64)).sort("phase", maintain_order=True)


@functools.cache
def whole(*shifts):
    """The whole grid."""
    return make(shifts=shifts or (0.0,))


def claim(letter, results):
    """One claim."""
    return next(item for item in paper.claims(results) if item.letter == letter)


def test_the_published_numbers_are_all_there():
    """24 in table I, 48 in table II, read off the paper."""
    numbers = paper.published()
    assert numbers.group_by("table").len().sort("table").rows() == [("I", 24), ("II", 48)]
    assert NUMBERS["I", 100, None, None, "attack_recall"] == 0.933
    assert NUMBERS["II", 100, 15, 200, "test_accuracy"] == 0.424
    assert NUMBERS["II", 20, 10, 100, "attack_accuracy"] == 0.636


def test_it_applies_to_sweeps_over_cells_of_the_paper_only():
    assert paper.applies(make(GRID[:2]))
    assert paper.applies(make(GRID[:2]).filter(phase="centralised"))
    assert not paper.applies(make(GRID[:1])), "one cell is no sweep"
    strange = make(GRID[:2]).with_columns(pl.col("federation.nodes").replace(3, 4))
    assert not paper.applies(strange), "4 nodes are not in the paper"
    twice = pl.concat([make(GRID[:2]), make(GRID[:1]).with_columns(run_id=pl.lit("other"))])
    assert not paper.applies(twice), "two points in one cell: something else was swept"
    assert not paper.applies(make(GRID[:2]).with_columns(attack=pl.lit("another")))


def test_a_whole_grid_is_compared_number_by_number():
    """Results that are the paper's numbers and 0.013 on top."""
    found = paper.compare(whole(0.013))
    assert found.columns == [
        *("table", "classes", "nodes", "local_epochs", "metric"),
        *("paper", "mean", "half_width", "difference", "num_replicates"),
    ]
    assert {tuple(row[:5]): row[5] for row in found.iter_rows()} == NUMBERS
    np.testing.assert_allclose(found["difference"], 0.013, atol=1e-12)
    np.testing.assert_allclose(found["mean"], found["paper"] + 0.013)
    assert found["half_width"].is_null().all()
    assert set(found["num_replicates"]) == {1}
    counted = paper.summary(found)
    assert counted["num_cells"].to_list() == [4] * 6 + [24] * 2
    np.testing.assert_allclose(counted["mean_absolute_difference"], 0.013)


def test_a_summary_averages_distances():
    found = paper.compare(pl.concat([make(GRID[:1], (0.03,)), make(GRID[6:7], (-0.01,))]))
    counted = paper.summary(found).filter(table="II", metric="attack_accuracy").row(0, named=True)
    expected = {"mean_absolute_difference": 0.02, "mean_difference": 0.01, "num_cells": 2}
    assert {name: counted[name] for name in expected} == pytest.approx(expected)


def test_replicates_give_the_interval_of_scipy():
    shifts = (0.0, 0.03, -0.01)
    found = paper.compare(whole(*shifts))
    low, high = scipy.stats.t.interval(0.95, 2, loc=np.mean(shifts), scale=scipy.stats.sem(shifts))
    np.testing.assert_allclose(found["difference"], np.mean(shifts), atol=1e-12)
    np.testing.assert_allclose(found["half_width"], (high - low) / 2, rtol=1e-9)
    assert set(found["num_replicates"]) == {3}


def test_table_1_is_averaged_over_nodes_and_split_where_the_epochs_differ():
    def central(*cells):
        runs = [make([cell], centralised={"test_accuracy": value}) for cell, value in cells]
        return paper.compare(pl.concat(runs)).filter(table="I", metric="test_accuracy").select("local_epochs", "mean")

    same = central(((20, 3, 100), 0.6), ((20, 10, 100), 0.7), ((20, 3, 200), 0.65))
    assert same.rows() == [(None, pytest.approx(0.65))]
    differ = central(((20, 3, 100), 0.6), ((20, 10, 100), 0.7), ((20, 3, 200), 0.75))
    assert differ.rows() == [(100, pytest.approx(0.65)), (200, pytest.approx(0.75))]
    assert central(((20, 3, 100), 0.6), ((20, 10, 100), 0.7)).rows() == [(100, pytest.approx(0.65))]


def test_only_the_last_model_and_the_papers_attack_count():
    results = make(GRID[:4])
    last = (pl.col("cycle") == 5) & (pl.col("node") == pl.col("federation.nodes")) & (pl.col("attacked") == "union")
    kept = (pl.col("phase") == "centralised") | last
    spoilt = results.with_columns(accuracy=pl.when(kept).then("accuracy").otherwise(0.0))
    other = results.with_columns(accuracy=0.0, attack=pl.lit("another"))
    assert paper.compare(pl.concat([spoilt, other])).equals(paper.compare(results))


def test_partial_grids_have_the_numbers_that_they_can_have():
    one_row = [cell for cell in GRID if cell[1:] == (3, 100)]
    assert paper.compare(make(one_row)).height == 24 + 2 * 4
    central = make(one_row).filter(phase="centralised")
    assert paper.compare(central).height == 24
    texts, shown = paper.sections(central, title="x")
    assert [table.title.split(",")[0] for table in shown[1:-1]] == ["Table I"]
    assert sum("not tested" in line for line in texts[-1].splitlines()) == 8, "all but the attack by classes"
    missing = make([cell for cell in GRID if cell != (50, 10, 200)])
    assert paper.compare(missing).height == 70
    block = next(table for table in paper.sections(missing, title="x")[1] if "200 epochs a visit" in table.title)
    assert block.rows[6:9] == [
        ["50", "paper", "0.659", "0.599", "0.589", "0.713", "0.708", "0.714"],
        ["", "ours", "0.659", "-", "0.589", "0.713", "-", "0.714"],
        ["", "difference", "+0.000", "-", "+0.000", "+0.000", "-", "+0.000"],
    ]


@pytest.mark.parametrize("shifts", [(0.002,), (0.0, 0.003, -0.001)])
def test_sections_say_what_the_records_are_and_fit_a_terminal(shifts):
    texts, shown = paper.sections(whole(*shifts), title="purchases made up, 600 items")
    markdown = "\n\n".join(texts)
    assert [line for line in markdown.splitlines() if line.startswith("## ")] == [texts[0]]
    named = [line for line in markdown.splitlines() if line.startswith("#")] + [table.title for table in shown]
    assert len(named) == 11
    assert all("on other records than the paper's: purchases made up, 600 items" in line for line in named)
    width = f" ±{scipy.stats.t.ppf(0.975, 2) * scipy.stats.sem(shifts):.3f}" if len(shifts) > 1 else ""
    assert f"|  | ours | {0.958 + np.mean(shifts):.3f}{width} |" in markdown
    console = rich.console.Console(file=io.StringIO(), width=120)
    for table in shown:
        console.print(table.to_rich())
    printed = console.file.getvalue()
    assert "…" not in printed
    assert ("±" in printed.split("verdict")[0]) == (len(shifts) > 1)


def test_a_short_federation_is_named():
    short = paper.sections(make(GRID[:2], cycles=2), title="x")[1]
    assert "2 cycles, where the paper's had 5" in short[0].caption
    assert "held-out shadows: 0.500 to 0.500" in short[0].caption
    assert "cycles" not in paper.sections(make(GRID[:2]), title="x")[1][0].caption


def counts(numbers):
    """All "in N of M" of a claim."""
    return [tuple(map(int, pair)) for pair in re.findall(r"in (\d+) of (\d+)", numbers)]


def test_claims_that_hold_in_results_made_to_hold():
    """Attacks that peak at the visit, the more so with epochs and nodes, and beat the centralised target."""
    found = {item.letter: item for item in paper.claims(whole())}
    assert list(found) == list("abcdefghi")
    assert {letter: found[letter].verdict for letter in "cefgi"} == dict.fromkeys("cefgi", "holds")
    visits = 4 * 2 * 4 * (3 + 10 + 15)
    assert f"{visits} of {visits} visits (100.0%)" in found["c"].numbers
    assert counts(found["e"].numbers) == [(12, 12), (12, 12)]
    assert counts(found["f"].numbers) == [(16, 16)]
    assert counts(found["g"].numbers) == [(24, 24), (24, 24)]
    # From 3 nodes to 10 and to 15 the peaks were made to gain 0.049 and 0.035.
    assert "mean +0.042" in found["f"].numbers


def test_claims_about_the_tables_are_those_of_the_paper_where_ours_are_its_numbers():
    """Counted once more from the csv."""

    def of(cell, metric):
        return NUMBERS["II", *cell, metric]

    kept = sum(of(cell, "test_accuracy") >= NUMBERS["I", cell[0], None, None, "test_accuracy"] - 0.02 for cell in GRID)
    found = claim("a", whole())
    assert counts(found.numbers) == [(kept, 24), (kept, 24)]
    assert found.verdict == ("holds in part" if kept >= 12 else "does not hold")
    attack = functools.partial(of, metric="attack_accuracy")
    steps = [
        attack((more, *rest)) > attack((less, *rest))
        for less, more in ((10, 20), (20, 50), (50, 100))
        for rest in itertools.product((3, 10, 15), (100, 200))
    ]
    found = claim("b", whole())
    assert counts(found.numbers) == [(3, 3), (sum(steps), 18), (sum(steps) + 3, 21)]
    assert "50 to 100 classes / 15 nodes / 200 epochs -0.023" in found.numbers
    longer = [attack((*cell[:2], 200)) > attack(cell) for cell in GRID if cell[2] == 100]
    assert counts(claim("d", whole()).numbers) == [(sum(longer), 12), (12, 12), (sum(longer), 12)]
    below = [attack(cell) < NUMBERS["I", cell[0], None, None, "attack_accuracy"] for cell in GRID if cell[0] > 20]
    assert counts(claim("h", whole()).numbers) == [(sum(below), 12)] * 2


def test_claims_fail_where_the_opposite_was_made():
    late = make(GRID, late=1)
    assert claim("c", late).verdict == "does not hold"
    assert claim("a", make(centralised={"test_accuracy": 0.3})).verdict == "holds"
    assert claim("a", make(centralised={"test_accuracy": 0.9})).verdict == "does not hold"
    strong = make(centralised={"attack_accuracy": 0.97})
    assert (claim("g", strong).verdict, claim("h", strong).verdict) == ("does not hold", "holds")
    weak = make(centralised={"attack_accuracy": 0.5})
    assert (claim("g", weak).verdict, claim("h", weak).verdict) == ("holds", "does not hold")
    steady = whole().with_columns(recall=0.9)
    assert claim("i", steady).verdict == "does not hold"
    backwards = whole().with_columns(pl.col("federation.local_epochs").replace({100: 200, 200: 100}))
    assert claim("e", backwards).verdict == "does not hold"
    backwards = whole().filter(pl.col("federation.nodes") != 10).with_columns(accuracy=1 - pl.col("accuracy"))
    assert claim("f", backwards).verdict == "does not hold"


def test_claims_that_these_results_cannot_test():
    one_length = make([cell for cell in GRID if cell[1:] == (3, 100)])
    found = {item.letter: item.verdict for item in paper.claims(one_length)}
    assert {letter for letter, verdict in found.items() if verdict == "not tested"} == set("def")
    one_cycle = {item.letter: item.verdict for item in paper.claims(make(cycles=1))}
    assert {letter for letter, verdict in one_cycle.items() if verdict == "not tested"} == set("cefgi")


def test_the_peak_and_the_variation_are_those_of_a_naive_loop():
    """Random attack scores of one cell."""
    cell, nodes, cycles = (20, 10, 100), 10, 5
    results = make([cell, (50, 10, 100)])
    rng = np.random.default_rng(0)
    results = results.with_columns(pl.Series(name, rng.uniform(size=results.height)) for name in ("accuracy", "recall"))
    facts_of = {name: frame.filter(classes=20) for name, frame in vars(facts(results)).items()}
    rows = results.filter(pl.col("phase") == "federated", pl.col("data.num_classes") == 20)
    expected, swings, spreads = [], {"accuracy": [], "recall": []}, {"accuracy": [], "recall": []}
    for node in range(nodes):
        mine = rows.filter(attacked=f"N{node + 1}")
        track = mine["accuracy"].to_list()
        for cycle in range(1, cycles):
            at = cycle * nodes + node
            window = track[at : at + nodes]
            expected.append((node + 1, cycle + 1, track[at], track[at] - track[at - 1], max(window) == track[at]))
        for name, found in swings.items():
            later = np.reshape(mine[name].to_list(), (cycles, nodes))[1:]
            found += list(later.max(axis=1) - later.min(axis=1))
            spreads[name].append(later.std())
    visits = facts_of["visits"].select("target", "cycle", "accuracy", "rise", "peak")
    assert visits.rows() == [pytest.approx(row) for row in expected]
    assert 0 < visits["peak"].sum() < visits.height
    for kind, values in (("swing", swings), ("spread", spreads)):
        found = facts_of["swings"].filter(kind=kind).select("accuracy", "recall").row(0)
        assert found == pytest.approx([np.mean(values[name]) for name in ("accuracy", "recall")])


def facts(results):
    """What the claims are about."""
    return paper_facts.from_results(paper.select(results))


def test_claims_have_intervals_over_replicates():
    """Peaks that stay, against centralised attacks that move with the replicate."""
    shifts = (0.0, 0.03, -0.01)
    margin = np.mean([peak(*cell) - NUMBERS["I", cell[0], None, None, "attack_accuracy"] for cell in GRID])
    half = scipy.stats.t.ppf(0.975, 2) * scipy.stats.sem(shifts)
    assert f"mean {margin - np.mean(shifts):+.3f} ±{half:.3f}" in claim("g", whole(*shifts)).numbers
    assert "±" not in claim("g", whole()).numbers
    # Worse by 0.03 on average, but not beyond the interval of two replicates: that counts as kept.
    cells = [GRID[0], GRID[1]]
    runs = [
        make_run(cell, i, centralised={"test_accuracy": NUMBERS["II", *cell, "test_accuracy"] + gap})
        for cell in cells
        for i, gap in enumerate((0.02, 0.04))
    ]
    results = pl.concat(runs).with_columns(pl.col(*SWEPT, "replicate").cast(pl.Int64))
    assert claim("a", results).verdict == "holds"
    assert claim("a", results.filter(replicate=1)).verdict == "does not hold"


def test_exceptions_are_named_the_worst_first():
    frame = pl.DataFrame({"classes": [10, 20, 50, 100, 5, 6, 7], "replicate": 0, "value": [1, -2, -1, -3, -4, -5, -6]})
    part = paper_claims.compare_with_zero("made up:", frame, by=["classes"])
    assert part.held == [True] + [False] * 6
    assert part.text == (
        "made up: in 1 of 7, mean -2.857 "
        "(not: 7 classes -6.000, 6 classes -5.000, 5 classes -4.000, 100 classes -3.000 and 2 more)"
    )


def test_the_mean_over_cells_takes_its_interval_from_whole_replicates():
    frame = pl.DataFrame(
        {"classes": [10, 20] * 2 + [10], "replicate": [0, 0, 1, 1, 2], "value": [0.1, 0.3, 0.2, 0.6, 0.9]}
    )
    part = paper_claims.compare_with_zero("made up:", frame, by=["classes"])
    half = scipy.stats.t.ppf(0.975, 1) * scipy.stats.sem([0.2, 0.4])
    assert part.text == f"made up: in 2 of 2, mean {(0.4 + 0.45) / 2:+.3f} ±{half:.3f}"


def test_figures_have_a_panel_for_every_cell():
    results = make([cell for cell in GRID if cell not in ((50, 15, 200), (10, 3, 100)) and cell[1] != 10], (0.0, 0.02))
    drawn = paper.draw(results, title="made up")
    assert list(drawn) == ["paper_figure_1", "paper_figure_3", "paper_scatter"]
    for figure in drawn.values():
        assert "on other records than the paper's: made up" in figure.get_suptitle()
        figure.canvas.draw()
    first, third = drawn["paper_figure_1"], drawn["paper_figure_3"]
    names = [f"{classes} classes, {epochs} epochs a visit" for classes in (10, 20, 50, 100) for epochs in (100, 200)]
    assert [axes.get_title() for axes in first.axes] == ["", *names[1:]]
    assert [axes.get_title() for axes in third.axes] == [*names[:5], "", *names[6:]]
    assert [label.get_text() for label in third.axes[0].get_xticklabels()] == [f"C{i}N1" for i in range(1, 6)]
    assert [label.get_text() for label in first.axes[2].get_xticklabels()][:4] == ["C1N1", "C1N2", "C1N3", "C2N1"]
    lines = {line.get_label(): line for line in third.axes[3].lines}
    attack = peak(20, 15, 200) - 0.2 * (np.arange(75) % 15) / 15
    np.testing.assert_allclose(lines["attack accuracy"].get_ydata(), attack)
    assert lines[figures.BASELINE].get_ydata()[0] == pytest.approx(0.653 + 0.01)
    assert len(third.axes[3].collections) == len(figures.LINES), "a band for each line"
    alone = paper_figures.traces(paper.select(results.filter(replicate=0)), title="x")
    assert not alone.axes[3].collections
    plt.close("all")


def test_the_scatter_has_every_number():
    figure = paper_figures.scatter(paper.compare(whole(0.0, 0.02)), title="x")
    marked = [line for axes in figure.axes for line in axes.lines if line.get_marker() not in ("None", "", "_", "|")]
    points = sorted((float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in marked)
    np.testing.assert_allclose(points, sorted((value, value + 0.01) for value in NUMBERS.values()), atol=1e-12)
    empty = paper_figures.scatter(paper.compare(whole()).filter(metric="test_accuracy"), title="x")
    assert [axes.texts[0].get_text() for axes in empty.axes if axes.texts] == ["not run"] * 2
    plt.close("all")


def write(folder, results, **options):
    """Markdown, terminal and figures of a report."""
    console = rich.console.Console(file=io.StringIO(), width=120)
    report.write(store.Workdir(folder), results, title="made up", console=console, **options)
    pictures = sorted(path.stem for path in (folder / "figures").glob("*.png"))
    return (folder / "report.md").read_text(), console.file.getvalue(), pictures


def test_a_sweep_is_reported_point_by_point_and_beside_the_paper(tmp_path):
    earlier = pl.col("snapshot").is_not_null() & (pl.col("snapshot") != "C5N3") & (pl.col("attacked") == "union")
    results = make(GRID[:2], (0.0, 0.02))
    results = results.with_columns(accuracy=pl.when(earlier).then(0.1).otherwise("accuracy"))
    text, printed, pictures = write(tmp_path, results, swept=SWEPT)
    assert pictures == ["paper_figure_1", "paper_scatter"]
    assert all(f"![{name}](figures/{name}.png)" in text for name in pictures)
    assert "| data.num_classes | federation.nodes | federation.local_epochs | centralised train |" in text
    half = scipy.stats.t.ppf(0.975, 1) * scipy.stats.sem((0.0, 0.02))
    central = [f"{NUMBERS['I', 10, None, None, metric] + 0.01:.3f} ±{half:.3f}" for metric in list(METRICS)[:3]]
    last = [f"{NUMBERS['II', *GRID[0], name] + 0.01:.3f} ±{half:.3f}" for name in ("test_accuracy", "attack_accuracy")]
    row = ["10", "3", "100", *central, *last, f"{peak(*GRID[0]):.3f} ±0.000"]
    assert "| " + " | ".join(row) + " |" in text
    assert all(word in printed for word in ("Sweep", "Table I,", "Table II,", "holds"))


def test_a_sweep_of_something_else_has_its_points_only(tmp_path):
    rates = [0.01 * i for i in range(70, 0, -1)]
    results = pl.concat(
        make(GRID[:1], cycles=1).with_columns(run_id=pl.lit(f"run{i}"), rate=pl.lit(rate))
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
    results = make(GRID[:1], cycles=2)
    alone = write(tmp_path / "a", results)
    assert alone == write(tmp_path / "b", results, swept=SWEPT)
    assert alone[2] == ["grid_network", "trace_network"]
    assert [line for line in alone[0].splitlines() if line.startswith("#")] == [
        "# Leakage of a sequential federation: made up",
        *(f"## {table.title}" for table in tables.make_tables(results)),
    ]


def of_protocol(rate, shift):
    """Two cells of the paper's grid, moved by `shift`, as one protocol of several."""
    rows = make([(10, 3, 100), (100, 3, 100)], shifts=(shift,)).with_columns(pl.lit(rate).alias("model.dropout_rate"))
    return rows.with_columns(pl.col("run_id") + f"-{rate}")


def test_protocols_are_ranked_by_their_distance():
    """Known shifts from the paper: the smallest first, one that exploded last."""
    swept = ("model.dropout_rate", "data.num_classes")
    broken = of_protocol(0.9, 0.0).with_columns(pl.lit(None, pl.Float64).alias("accuracy"))
    results = pl.concat([of_protocol(0.2, 0.03), broken, of_protocol(0.5, -0.01)])
    assert ranking.applies(results, swept)
    rows = ranking.rank(results, swept=swept, title="made up").rows
    assert [row[:2] for row in rows] == [["1", "0.5"], ["2", "0.2"], ["3", "0.9"]]
    assert set(rows[0][2:]) == {"0.010"}
    assert set(rows[1][2:]) == {"0.030"}
    assert set(rows[2][2:]) == {"-"}
    for others, names in (
        (of_protocol(0.2, 0.0), swept),  # one protocol
        (results.filter(pl.col("data.num_classes") == 10), swept),  # one cell
        (results, ("data.num_classes",)),  # nothing that tells protocols apart
        (results.with_columns(pl.lit(7).alias("federation.nodes")), swept),  # not the paper's grid
    ):
        assert not ranking.applies(others, names)
