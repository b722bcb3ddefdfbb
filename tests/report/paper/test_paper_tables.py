"""Tables beside the paper's, and the sections of a report that they stand in; covers `paper/__init__.py` as well."""

import io

import made_up
import numpy as np
import pytest
import rich.console
import scipy.stats

from fedmia_jax.report import paper


def test_partial_grids_have_the_numbers_that_they_can_have():
    one_row = [cell for cell in made_up.GRID if cell[1:] == (3, 100)]
    assert paper.compare(made_up.make(one_row)).height == 24 + 2 * 4
    central = made_up.make(one_row).filter(phase="centralised")
    assert paper.compare(central).height == 24
    texts, shown = paper.sections(central, title="x")
    assert [table.title.split(",")[0] for table in shown[1:-1]] == ["Table I"]
    assert sum("not tested" in line for line in texts[-1].splitlines()) == 8, "all but the attack by classes"
    missing = made_up.make([cell for cell in made_up.GRID if cell != (50, 10, 200)])
    assert paper.compare(missing).height == 70
    block = next(table for table in paper.sections(missing, title="x")[1] if "200 epochs a visit" in table.title)
    assert block.rows[6:9] == [
        ["50", "paper", "0.659", "0.599", "0.589", "0.713", "0.708", "0.714"],
        ["", "ours", "0.659", "-", "0.589", "0.713", "-", "0.714"],
        ["", "difference", "+0.000", "-", "+0.000", "+0.000", "-", "+0.000"],
    ]


@pytest.mark.parametrize("shifts", [(0.002,), (0.0, 0.003, -0.001)])
def test_sections_say_what_the_records_are_and_fit_a_terminal(shifts):
    texts, shown = paper.sections(made_up.whole(*shifts), title="purchases made up, 600 items")
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
    short = paper.sections(made_up.make(made_up.GRID[:2], cycles=2), title="x")[1]
    assert "2 cycles, where the paper's had 5" in short[0].caption
    assert "held-out shadows: 0.500 to 0.500" in short[0].caption
    assert "cycles" not in paper.sections(made_up.make(made_up.GRID[:2]), title="x")[1][0].caption
