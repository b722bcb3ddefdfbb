"""Numbers in documents: each is what its source says, whatever is changed makes the check fail."""

import importlib.util
import json
import pathlib
import re
import sys

import PIL.Image
import pytest

from fedmia_jax.config import schema

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".ci" / "docs"))

import documents  # noqa: E402
import repository  # noqa: E402
import sources  # noqa: E402

REPORT = """# A run

## TPR at 0.1% FPR on one node

| attack | outsider | bracket |
| --- | --- | --- |
| lira | .182 (.174-.189) | .327 |
| loss | - | 1,204.5 ±0.5 |
"""
PAGE = """# Page

LiRA finds 18% at a rate of 0.1%, a bracket .33, and `code 7` is code.

<!-- numbers
lira = cell("docs/run/report.md", "TPR at 0.1%", "lira", "outsider")
lira, given("the rate", 0.001), cell("docs/run/report.md", "TPR", "lira", "bracket")
assert lira.low > 0.17
-->

    python command --of=3

| who | what |
| --- | --- |
| C2N1 | .182 (.174-.189) |

<!-- numbers
Table(["who", "what"], [["C2N1", lira.text]])
-->
"""


@pytest.fixture
def pages(tmp_path, monkeypatch):
    """A small repository with one report and one page that quotes it."""
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    sources.forget()
    (tmp_path / "docs" / "run").mkdir(parents=True)
    (tmp_path / "docs" / "run" / "report.md").write_text(REPORT)
    (tmp_path / "README.md").write_text(PAGE)
    pages = repository.Repository(tmp_path, repository.names(sources) | {"Table": documents.Table})
    pages.write()
    yield pages
    sources.forget()


def change(path, old, new):
    """Replaces the first `old` in a file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_page_as_its_sources_say_is_right(pages):
    assert pages.check() == []
    assert (pages.root / "README.md").read_text() == PAGE


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("18%", "19%", "19% stands where the source says 18%"),
        ("0.1%", "0.2%", "0.2% stands where the source says 0.1%"),
        (".33", ".34", ".34 stands where the source says .33"),
        ("| C2N1 | .182", "| C2N1 | .183", "| C2N1 | .183 (.174-.189) | stands where the source says"),
        ("| C2N1 |", "| C2N2 |", "stands where the source says | C2N1"),
        ("code 7", "code 8", "digits have changed in code"),
        ("--of=3", "--of=4", "digits have changed in code"),
        ("LiRA finds", "In 2 runs LiRA finds", "4 numerals (2, 18%, 0.1%, .33), 3 values"),
        ("> 0.17", "> 0.175", "the sources do not say that lira.low > 0.175"),
        ("lira, given", "0.18, given", "0.18 is typed"),
        ('given("the rate", 0.001)', "[0.1 / 100]", "0.1 / 100 is typed"),
        ('"lira", "bracket"', '"lira", "insider"', "no column 'insider'"),
        ('"lira", "bracket"', '"loss", "outsider"', "'-' is no number"),
        ('given("the rate"', 'outside("elsewhere"', "must say that a number comes from outside this repository"),
    ],
)
def test_whatever_is_changed_is_noticed(pages, old, new, line):
    change(pages.root / "README.md", old, new)
    assert line in "\n".join(pages.check())


def test_a_typed_number_and_one_without_a_source_are_refused():
    assert "is typed" in documents.render("One is 3.\n\n<!-- numbers\n1 + 2\n-->\n", {})[1][0]
    assert documents.render("One is 3.\n", {})[1] == ["line 1: 3 has no source; name one in a comment behind it"]


def test_a_changed_report_is_noticed_and_written_into_the_page(pages):
    change(pages.root / "docs/run/report.md", ".182 (.174", ".191 (.184")
    sources.forget()
    wrong = "\n".join(pages.check())
    assert "18% stands where the source says 19%" in wrong
    assert "docs/run/report.md is not what its run wrote" in wrong
    pages.write()
    assert pages.check() == []
    assert "LiRA finds 19%" in (pages.root / "README.md").read_text()
    assert "| C2N1 | .191 (.184-.189) |" in (pages.root / "README.md").read_text()


@pytest.mark.parametrize(
    ("value", "like", "spelt"),
    [
        (0.9649, ".97", ".96"),
        (0.965, ".97", ".97"),
        (0.0145, "2%", "1%"),
        (1.0, ".999", "1.000"),
        (0.5, "0.25", "0.50"),
        (2598, "1,234", "2,598"),
        (1204, "7", "1,204"),
        (2020, "2020", "2020"),
        (-0.06, "-0.05", "-0.06"),
        (0.06, "+0.05", "+0.06"),
        ("0.11.2", "0.10.2", "0.11.2"),
    ],
)
def test_a_value_is_spelt_like_the_numeral_it_replaces(value, like, spelt):
    assert documents.spell(value, like) == spelt


def test_the_report_of_a_run_is_taken(tmp_path):
    run, folder = tmp_path / "run", tmp_path / "docs" / "run"
    with pytest.raises(SystemExit, match="has the run ended"):
        repository.take(run, folder)
    (run / "figures").mkdir(parents=True)
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "old.png").touch()
    (run / "report.md").write_text("# Run\n\n![roc](figures/roc.png)\n")
    PIL.Image.new("RGBA", (3, 2)).save(run / "figures" / "roc.png")
    (run / "config.json").write_text('{"title": "t", "settings": {"data": {"path": "/home/me/x.csv"}}}')
    (run / "environment.json").write_text('{"cpu_count": 2}')
    stages = [("a: 2 models", 1.0), ("a: 3 models", 2.5), ("b", 0.25)]
    lines = [{"stage": stage, "seconds": seconds, "peak_mib": 1} for stage, seconds in stages]
    (run / "metrics.jsonl").write_text(
        "".join(f"{json.dumps(line)}\n" for line in [*lines, {"stage": "a", "seconds": 9}])
    )
    repository.take(run, folder)
    assert [path.name for path in (folder / "figures").iterdir()] == ["roc.png"]
    with PIL.Image.open(folder / "figures" / "roc.png") as picture:
        assert picture.size == (3, 2)
    taken = json.loads((folder / "run.json").read_text())
    assert taken["seconds"] == {"a": 3.5, "b": 0.2}
    assert taken["settings"]["data"]["path"] == "x.csv"
    assert (folder / "report.md").read_text() == (run / "report.md").read_text()


def test_what_a_command_has_made_is_locked():
    page = "A table:\n\n<!-- coverage -->\n| 0.95 |\n<!-- /coverage -->\n\nThen 7.\n"
    assert [match[0] for match in documents.numerals(page)] == ["7"]
    assert documents.locked(page) != documents.locked(page.replace("0.95", "0.94"))
    assert documents.locked(page) == documents.locked(page.replace("Then 7", "Then"))


@pytest.mark.parametrize("page", repository.Repository(ROOT, {}).pages())
def test_commands_in_documents_name_fields_and_files_that_exist(page):
    text = (ROOT / page).read_text()
    fields = {"replicates", *schema.fields()}
    for field in re.findall(r"--config\.([\w.]+)=", text):
        assert field.removeprefix("sweep.") in fields | {"X", "FIELD"}, field
    for name, arg in re.findall(r"--config=(configs/\w+\.py)(?::(\w+))?", text):
        spec = importlib.util.spec_from_file_location("config_of_document", ROOT / name)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.get_config(arg) if arg else module.get_config()


def test_numerals_are_found_in_prose_and_tables_only():
    text = "1. In 2,598 of 3 (.96-.98), C2N1, jax 0.10.2, f32, 5%: `7`, [8](9.md)\n\n    python --of=10\n\n-1, +.5\n"
    found = [match[0] for match in documents.numerals(text)]
    assert found == ["2,598", "3", ".96", ".98", "0.10.2", "5%", "8", "-1", "+.5"]


def test_numbers_of_cells():
    number = sources.read("0.971 ±0.002")
    assert (number, number.low, number.high) == pytest.approx((0.971, 0.969, 0.973))
    number = sources.read("**1,204**")
    assert (number, number.low, number.high) == (1204, 1204, 1204)
    with pytest.raises(LookupError, match="is no number"):
        sources.read("-")


def test_of_twenty_numerals_changed_in_this_repository_nineteen_make_the_check_fail():
    pages = repository.Repository(ROOT, repository.all_names())
    assert pages.check() == []
    assert len(pages.mutate(20, 0)) <= 1
