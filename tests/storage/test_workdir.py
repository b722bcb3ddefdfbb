"""The workdir: files whole or not at all, stages once, one owner."""

import json

import numpy as np
import polars as pl
import pytest

from fedmia_jax import errors
from fedmia_jax.config import parsing
from fedmia_jax.storage import workdir as workdirs

RECORDS = "f" * 16
SETTINGS = parsing.from_config({})


def identify(settings=SETTINGS, records=RECORDS, sweep=()):
    """The fingerprint of a workdir."""
    return workdirs.identify(workdirs.describe(settings, sweep), [records])


def opened(path, settings=SETTINGS, records=RECORDS, sweep=()):
    """A workdir in use."""
    return workdirs.open_workdir(path, workdirs.describe(settings, sweep), records=[records], title="four records")


def change(**groups):
    """Settings with other values than the defaults, `group={field: value}` or `field=value`."""
    return SETTINGS.replace(**{name.replace(".", "__"): value for name, value in parsing.flat(groups).items()})


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
    assert set(workdirs.PACKAGES) == set(environment["packages"])
    assert environment["devices"]
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
