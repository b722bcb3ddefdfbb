"""The workdir: files whole or not at all, stages once, one owner."""

import json

import numpy as np
import polars as pl
import pytest

from fedmia_jax import errors
from fedmia_jax.config import parsing, schema
from fedmia_jax.storage import environment as environments
from fedmia_jax.storage import hashes
from fedmia_jax.storage import workdir as workdirs

RECORDS = "f" * 16
SETTINGS = parsing.from_config({})


def identify(settings=SETTINGS, records=RECORDS, sweep=()):
    """The fingerprint of a workdir."""
    return workdirs.identify(workdirs.describe(settings, sweep), [records])


def opened(path, settings=SETTINGS, records=RECORDS, sweep=(), **options):
    """A workdir in use."""
    described = workdirs.describe(settings, sweep)
    return workdirs.open_workdir(path, described, records=[records], title="four records", **options)


def change(**groups):
    """Settings with other values than the defaults, `group={field: value}` or `field=value`."""
    return schema.Settings(tuple((SETTINGS.flat | parsing.flat(groups)).items()))  # checked or not


def test_the_fingerprint_ignores_where_the_file_lies():
    assert identify(change(data={"path": "/elsewhere/x.npz"})) == identify()


@pytest.mark.parametrize(
    "groups",
    [
        {"seed": 1},
        {"replicates": 2},
        {"data": {"num_test": 9_999}},
        {"data": {"sizes": (1.0, 2.0)}},
        {"model": {"dropout_rate": 0.4}},
        {"training": {"learning_rate": 0.0011}},
        {"federation": {"carry_optimizer_state": True}},
        {"shadow": {"epochs": 100}},
        {"attack": {"hidden": 65}},
    ],
)
def test_the_fingerprint_sees_every_other_field(groups):
    assert identify(change(**groups)) != identify()


def test_the_fingerprint_sees_the_records_and_the_sweep():
    fingerprints = {
        identify(),
        identify(records="e" * 16),
        identify(sweep=({"seed": 1},)),
        identify(sweep=({"seed": 1}, {"seed": 2})),
    }
    assert len(fingerprints) == 4


def test_a_workdir_says_what_it_is(tmp_path):
    path = tmp_path / "new" / "folder"
    with opened(path) as workdir:
        assert workdir.path == path
    owner = workdirs.read_config(path)
    assert (owner["title"], owner["records"], owner["sweep"]) == ("four records", [RECORDS], [])
    assert parsing.from_config(owner["settings"]) == SETTINGS
    environment = json.loads((path / "environment.json").read_text())
    assert set(environments.PACKAGES) == set(environment["packages"])
    assert environment["devices"]
    assert environment["x64"] is False
    with opened(path):  # its owner comes back
        pass


@pytest.mark.parametrize(
    ("settings", "records", "sweep", "reason"),
    [
        (change(seed=1), RECORDS, (), "seed=0 there, 1 here"),
        (
            change(training={"learning_rate": 0.1}, data={"sizes": (1.0, 2.0)}),
            RECORDS,
            (),
            "data.sizes=[] there, [1.0, 2.0] here; training.learning_rate=0.001 there, 0.1 here",
        ),
        (SETTINGS, "e" * 16, (), "other records"),
        (SETTINGS, RECORDS, ({"seed": 0}, {"seed": 1}), "another sweep"),
    ],
)
def test_the_folder_of_another_experiment_is_refused(tmp_path, settings, records, sweep, reason):
    with opened(tmp_path):
        pass
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(errors.InputError) as caught, opened(tmp_path, settings, records, sweep):
        pass
    assert str(caught.value) == (
        f"workdir={tmp_path}: holds another experiment ({reason}); choose another --workdir, or delete it"
    )
    assert (tmp_path / "config.json").read_text() == before


def test_a_workdir_in_use_is_refused(tmp_path):
    with (
        opened(tmp_path),
        pytest.raises(errors.InputError) as caught,
        opened(tmp_path),
    ):
        pass
    expected = f"workdir={tmp_path}: another process is running there; wait for it or choose another --workdir"
    assert str(caught.value) == expected
    with opened(tmp_path):  # free again
        pass


def test_folders_and_files_of_somebody_else_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("chapter 1")
    for path, problem in (
        (tmp_path, "holds files but no config.json; choose an empty --workdir"),
        (tmp_path / "thesis.tex", "is a file; choose another --workdir"),
    ):
        with pytest.raises(errors.InputError) as caught, opened(path):
            pass
        assert str(caught.value) == f"workdir={path}: {problem}"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(("rows", "has_csv"), [(3, True), (workdirs.CSV_ROWS, False)])
def test_results_are_written_and_read_back(tmp_path, rows, has_csv):
    workdir = workdirs.Workdir(tmp_path)
    with pytest.raises(errors.InputError, match=r"no results\.parquet there; run it first with --mode=run"):
        workdir.read_results()
    table = pl.DataFrame({"snapshot": ["C1N1", None, "C1N2"] + [None] * (rows - 3), "auc": np.arange(rows) / rows})
    workdir.write_results(table)
    assert workdir.read_results().equals(table)
    assert (tmp_path / "results.csv").exists() is has_csv


def test_the_log_is_one_line_an_entry(tmp_path):
    workdir = workdirs.Workdir(tmp_path)
    workdir.log(stage="shadows", seconds=1.5)
    workdir.log(stage="attacks")
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"stage": "shadows", "seconds": 1.5}, {"stage": "attacks"}]


STRANGERS = (".env.local", ".zshrc.mine", ".bashrc", ".notes.md", ".git.bak/config", "figures/.notes.md", ".lock.old")


def put_strangers(path):
    """Files that others have put into a folder."""
    for name in STRANGERS:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("kept")


@pytest.mark.parametrize("name", STRANGERS)
def test_a_folder_with_hidden_files_of_others_is_not_empty(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("kept")
    with pytest.raises(errors.InputError) as caught, opened(tmp_path):
        pass
    assert str(caught.value) == f"workdir={tmp_path}: holds files but no config.json; choose an empty --workdir"
    assert (tmp_path / name).read_text() == "kept"


def test_files_of_others_stay_in_a_workdir(tmp_path):
    with opened(tmp_path):
        pass
    put_strangers(tmp_path)
    with opened(tmp_path) as workdir:
        workdir.write_results(pl.DataFrame({"auc": [0.5]}))
    assert all((tmp_path / name).read_text() == "kept" for name in STRANGERS)


def test_own_drafts_of_a_killed_process_are_deleted(tmp_path):
    (tmp_path / "figures").mkdir()
    drafts = [tmp_path / ".config.json.abcd_123.fedmia-draft", tmp_path / "figures/.x.png.abcd_123.fedmia-draft"]
    drafts[0].write_text("half")
    (tmp_path / ".lock").write_text("not ours to empty")
    (tmp_path / "figures").rmdir()
    with opened(tmp_path) as workdir:  # nothing but a lock and a draft: empty
        workdir.write_text("figures/x.png", "")
    drafts[1].write_text("half")
    with opened(tmp_path):
        pass
    assert not any(draft.exists() for draft in drafts)
    assert (tmp_path / ".lock").read_text() == "not ours to empty"


TABLE = pl.DataFrame({"attack": ["loss", "lira_online"], "auc": [0.5, 0.75]})


def make_results(path):
    """A workdir with results and a table."""
    with opened(path) as workdir:
        workdir.write_table("roc", TABLE)
        workdir.write_results(TABLE)
    return workdirs.Workdir(path)


def flip(path, *, at):
    """Flips one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda path: flip(path / "results.parquet", at=60), "results.parquet is damaged (hash differs)"),
        (lambda path: (path / "results.parquet").write_bytes(b""), "results.parquet is damaged (hash differs)"),
        (lambda path: flip(path / "hashes.json", at=40), "hashes.json is damaged (hash differs)"),
        (lambda path: (path / "hashes.json").write_bytes(b"7"), "hashes.json is damaged (no JSON object)"),
        (lambda path: (path / "hashes.json").write_bytes(b"\xff"), "hashes.json is damaged (not UTF-8 at byte 0)"),
        (
            lambda path: (path / "hashes.json").unlink(),
            "results.parquet is damaged (no hash of it in hashes.json)",
        ),
    ],
)
def test_damaged_results_are_one_line_until_they_are_made_anew(tmp_path, damage, line):
    workdir = make_results(tmp_path)
    damage(tmp_path)
    with pytest.raises(errors.InputError) as caught:
        workdir.read_results()
    assert str(caught.value) == f"workdir={tmp_path}: {line}; run the same command again, which makes it anew"
    workdir = make_results(tmp_path)
    assert workdir.read_results().equals(TABLE)
    assert workdir.read_table("roc").equals(TABLE)


def test_every_flip_of_results_is_told(tmp_path):
    workdir = make_results(tmp_path)
    content = (tmp_path / "results.parquet").read_bytes()
    for at in range(0, len(content), 3):
        flip(tmp_path / "results.parquet", at=at)
        with pytest.raises(errors.InputError, match="hash differs"):
            workdir.read_results()
        (tmp_path / "results.parquet").write_bytes(content)
    assert workdir.read_results().equals(TABLE)


def test_a_damaged_table_is_named(tmp_path):
    workdir = make_results(tmp_path)
    flip(tmp_path / "roc.parquet", at=60)
    with pytest.raises(errors.InputError) as caught:
        workdir.read_table("roc")
    assert str(caught.value) == (
        f"workdir={tmp_path}: roc.parquet is damaged (hash differs); run the same command again, which makes it anew"
    )
    assert workdir.read_table("intervals") is None


def test_a_table_that_cannot_be_read_is_one_line(tmp_path):
    """Its hash is right: it was never a table."""
    workdir = workdirs.Workdir(tmp_path)
    workdir._write_hashed("results.parquet", b"no table")
    with pytest.raises(
        errors.InputError, match=r"results\.parquet is damaged \(.*\); run the same command again"
    ) as caught:
        workdir.read_results()
    assert "\n" not in str(caught.value)


CONFIG_DAMAGES = {
    "not JSON: ": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "not JSON: Expecting": lambda path: path.write_bytes(b""),
    "no JSON object": lambda path: path.write_bytes(b"7"),
    "not UTF-8 at byte 30": lambda path: flip_byte(path, 30),
    "hash differs": lambda path: path.write_text(path.read_text().replace('"seed": 0', '"seed": 1')),
    "has no check": lambda path: path.write_text(path.read_text().replace('"check"', '"chock"')),
}


def flip_byte(path, at):
    """Makes a byte one that UTF-8 has nowhere."""
    content = bytearray(path.read_bytes())
    content[at] = 255
    path.write_bytes(content)


@pytest.mark.parametrize("reason", CONFIG_DAMAGES)
def test_a_damaged_config_is_made_anew_by_the_command_that_made_it(tmp_path, reason):
    make_results(tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    CONFIG_DAMAGES[reason](tmp_path / "config.json")
    damaged = (tmp_path / "config.json").read_bytes()
    with pytest.raises(errors.InputError) as caught:  # a report cannot know what it is of
        workdirs.read_config(tmp_path)
    assert str(caught.value).startswith(f"workdir={tmp_path}: config.json is damaged ({reason}")
    assert str(caught.value).endswith("); run the same command again, which makes it anew")
    with pytest.raises(errors.InputError) as caught, opened(tmp_path, change(seed=1)):  # another command
        pass
    assert str(caught.value).startswith(f"workdir={tmp_path}: config.json is damaged ({reason}")
    assert str(caught.value).endswith(
        "); run the command that made it, which makes it anew, or choose another --workdir"
    )
    assert (tmp_path / "config.json").read_bytes() == damaged
    lines = []
    with opened(tmp_path, warn=lines.append):
        pass
    assert len(lines) == 1
    assert lines[0].startswith(f"{tmp_path}/config.json is damaged ({reason}")
    assert lines[0].endswith("); made anew")
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_damaged_config_without_its_hash_is_nobodys(tmp_path):
    make_results(tmp_path)
    (tmp_path / "hashes.json").unlink()
    (tmp_path / "config.json").write_bytes(b"")
    with pytest.raises(errors.InputError, match="run the command that made it") as caught, opened(tmp_path):
        pass
    assert str(caught.value).count("\n") == 0


def test_a_workdir_without_a_config_has_no_report(tmp_path):
    with pytest.raises(errors.InputError) as caught:
        workdirs.read_config(tmp_path)
    assert str(caught.value) == f"workdir={tmp_path}: no config.json there; it must be the folder of a run"


@pytest.mark.parametrize("number", [1, 3])
def test_another_format_says_what_to_do(tmp_path, number):
    with opened(tmp_path):
        pass
    contents = json.loads((tmp_path / "config.json").read_text())
    del contents["check"], contents["format"]
    content = json.dumps(contents).encode() if number == 1 else hashes.seal(contents | {"format": number})
    (tmp_path / "config.json").write_bytes(content)
    line = (
        f"workdir={tmp_path}: made by format {number}, this program reads 2; use another --workdir, or the release "
        "that made it"
    )
    for use in (lambda: opened(tmp_path).__enter__(), lambda: workdirs.read_config(tmp_path)):
        with pytest.raises(errors.InputError) as caught:
            use()
        assert str(caught.value) == line
    assert (tmp_path / "config.json").read_bytes() == content


@pytest.mark.parametrize(
    ("last", "lines"),
    [('{"stage": "sha', 1), ('{"stage": "shadows"}', 2), ("\0\0\0", 1), ("", 1)],
)
def test_a_line_of_the_log_that_a_killed_process_did_not_end(tmp_path, last, lines):
    with opened(tmp_path) as workdir:
        workdir.log(stage="records")
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write(last)
    with opened(tmp_path) as workdir:
        workdir.log(stage="attacks")
    entries = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(entries) == lines + 1
    assert (entries[0], entries[-1]) == ({"stage": "records"}, {"stage": "attacks"})
