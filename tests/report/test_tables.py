"""Tables of one run and of a sweep."""

import made_up
import numpy as np
import pytest
import scipy.stats

from fedmia_jax.report import tables

CELL = (20, 3, 100)


def test_a_run_has_its_baseline_and_a_line_for_every_snapshot():
    results = made_up.make([CELL], (0.0, 0.02), cycles=2)
    central, federated = tables.make_tables(results)
    assert central.title == "Centralised training, attack: network"
    assert central.rows[0][:4] == [
        "centralised",
        *(
            f"{made_up.NUMBERS['I', 20, None, None, f'{name}_accuracy'] + 0.01:.3f}"
            for name in ("train", "test", "attack")
        ),
    ]
    half = scipy.stats.t.ppf(0.975, 1) * scipy.stats.sem((0.0, 0.02))
    assert f"Means of 2 replicates; attack accuracies ±{half:.3f} or less" in central.caption
    assert federated.title == "Sequential federation, attack: network"
    assert [row[0] for row in federated.rows] == ["C1N1", "C1N2", "C1N3", "C2N1", "C2N2", "C2N3"]
    accuracy = federated.header.index("N1\nattack")
    assert [row[accuracy] for row in federated.rows[:2]] == [
        f"{made_up.peak(*CELL):.3f}",
        f"{made_up.peak(*CELL) - 0.1 / 3:.3f}",
    ]


def test_aggregates_have_lines_of_their_own():
    """The table is no longer that of a sequential federation; the lines of the nodes' snapshots stay."""
    results = made_up.make([CELL], cycles=2)
    plain, mixed = (tables.make_tables(rows)[1] for rows in (results, made_up.with_aggregates(results)))
    assert mixed.title == "Federation, attack: network"
    assert [row[0] for row in mixed.rows] == ["C1N1", "C1N2", "C1N3", "C1", "C2N1", "C2N2", "C2N3", "C2"]
    accuracy = mixed.header.index("N1\nattack")
    assert [row[accuracy] for row in mixed.rows if "N" not in row[0]] == ["0.625", "0.625"]
    assert [row for row in mixed.rows if "N" in row[0]] == plain.rows


def test_points_of_a_sweep_take_the_last_model_and_the_peaks_on_n1():
    """Aggregates: the last one is the last model, and none of them is what N1 handed on; without any peak, a dash."""
    results = made_up.make([CELL], cycles=2)
    rows = {
        kind: tables.make_points(frame, swept=["data.num_classes"], title="x")[0].rows[0]
        for kind, frame in (
            ("sequential", results),
            ("mixed", made_up.with_aggregates(results)),
            ("aggregates", made_up.with_aggregates(results, only=True)),
        )
    }
    last = made_up.NUMBERS["II", *CELL, "attack_accuracy"]
    assert rows["sequential"][-2:] == [f"{last:.3f}", f"{made_up.peak(*CELL):.3f}"]
    assert rows["mixed"][-2:] == ["0.625", f"{made_up.peak(*CELL):.3f}"]
    assert rows["aggregates"][-2:] == ["0.625", "-"]


@pytest.mark.parametrize(
    ("values", "text"), [([0.5], "0.500"), ([], "-"), ([0.5, np.nan], "-"), ([0.4, 0.6], "0.500 ±1.271")]
)
def test_means_have_an_interval_where_there_is_one(values, text):
    assert tables.mean(np.array(values, float)) == text


def test_numbers_as_text():
    assert tables.signed(-0.0001) == "+0.000"
    assert tables.signed(-0.25, 0.125) == "-0.250 ±0.125"
    assert [tables.value(value) for value in (None, 0.001, 3, "adam")] == ["unset", "0.001", "3", "adam"]


def test_markdown_has_one_line_a_row_and_no_line_breaks_in_the_header():
    table = tables.Table("Title", ["a.\nb", "c\nd"], [["1", "2"]], "Caption.")
    assert table.to_markdown() == "## Title\n\n| a.b | c d |\n| --- | --- |\n| 1 | 2 |\n\nCaption."
