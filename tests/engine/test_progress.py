"""What a person sees: a line at the end of a stage, and a warning that is one line."""

import io
import re

import pytest
import rich.console

from fedmia_jax.engine import progress


@pytest.fixture
def shown():
    """Progress on a console that is a file of 80 columns, and the file."""
    file = io.StringIO()
    return progress.Progress(rich.console.Console(file=file, width=80)), file


def test_a_stage_leaves_a_line_and_its_seconds(shown):
    show, file = shown
    with show.stage("training", total=3) as advance:
        assert file.getvalue() == ""
        for _ in range(3):
            advance(1)
    assert re.fullmatch(r"training +\d+\.\d s\n", file.getvalue())
    assert show.seconds["training"] >= 0


def test_stages_come_in_order_and_may_have_no_total(shown):
    show, file = shown
    for title in ("records", "attacks"):
        with show.stage(title) as advance:
            advance(1)
    assert [line.split()[0] for line in file.getvalue().splitlines()] == ["records", "attacks"]
    assert list(show.seconds) == ["records", "attacks"]


def test_a_stage_that_fails_says_nothing(shown):
    show, file = shown
    with pytest.raises(ZeroDivisionError), show.stage("training"):
        raise ZeroDivisionError
    assert file.getvalue() == ""
    assert show.seconds == {}


def test_a_warning_is_one_line_whatever_the_width(shown):
    show, file = shown
    show.warn("[bold]brackets[/bold] " + "and many words " * 20)
    assert file.getvalue().count("\n") == 1
    assert file.getvalue().startswith("warning: ")
