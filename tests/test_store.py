"""The workdir: files whole or not at all, stages once, one owner."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest

from fedmia_jax import config, errors, store
from fedmia_jax.data import dataset

RECORDS = dataset.Dataset(np.zeros((4, 2), np.uint8), np.zeros(4, np.int32), 2, "four records", "f" * 16)
SETTINGS = config.Settings()


def change(settings=SETTINGS, **groups):
    """Settings with other values, `group={field: value}` or `field=value`."""
    values = {
        name: dataclasses.replace(getattr(settings, name), **value) if isinstance(value, dict) else value
        for name, value in groups.items()
    }
    return dataclasses.replace(settings, **values)


def test_replacing_makes_folders_and_files(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    for text in (b"one", b"two"):
        with store.replacing(path) as file:
            file.write(text)
        assert path.read_bytes() == text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_whole(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")

    def write():
        with store.replacing(path) as file:
            file.write(b"new")
            file.flush()
            assert path.read_bytes() == b"old"
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_stage_is_computed_once_and_read_back_equal(tmp_path, equal):
    workdir, calls = store.Workdir(tmp_path), []
    tree = {
        "params": {"Dense_0": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3) / 7, "bias": np.zeros(3)}},
        "correct": np.array([True, False]),
        "threshold": {"network": np.array([np.nan, np.inf, -0.0])},
    }

    def compute():
        calls.append(1)
        return tree

    assert not workdir.finished("federated")
    first = workdir.stage("federated", compute)
    assert workdir.finished("federated")
    again = workdir.stage("federated", compute)
    assert len(calls) == 1
    for found in (first, again):
        equal(found, tree)
    assert again["params"]["Dense_0"]["kernel"].dtype == np.float32
    assert again["correct"].dtype == bool
    workdir.stage("other", compute)
    assert len(calls) == 2


def test_a_stage_that_fails_is_not_kept(tmp_path):
    workdir = store.Workdir(tmp_path)
    with pytest.raises(ZeroDivisionError):
        workdir.stage("shadows", lambda: {"value": np.array(1 // 0)})
    assert not workdir.finished("shadows")
    np.testing.assert_array_equal(workdir.stage("shadows", lambda: {"value": np.ones(2)})["value"], [1, 1])


def test_the_fingerprint_ignores_where_the_file_lies():
    first = store.fingerprint(SETTINGS, RECORDS)
    assert store.fingerprint(change(data={"path": "/elsewhere/x.npz"}), RECORDS) == first
    assert store.fingerprint(SETTINGS, dataclasses.replace(RECORDS, title="renamed")) == first


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
    assert store.fingerprint(change(**groups), RECORDS) != store.fingerprint(SETTINGS, RECORDS)


def test_the_fingerprint_sees_the_records():
    other = dataclasses.replace(RECORDS, fingerprint="e" * 16)
    assert store.fingerprint(SETTINGS, other) != store.fingerprint(SETTINGS, RECORDS)


def test_a_workdir_says_what_it_is(tmp_path):
    path = tmp_path / "new" / "folder"
    with store.open_workdir(path, SETTINGS, RECORDS) as workdir:
        assert workdir.path == path
    owner = store.read_config(path)
    assert (owner["title"], owner["records"]) == ("four records", "f" * 16)
    assert config.from_config(owner["settings"]) == SETTINGS
    environment = json.loads((path / "environment.json").read_text())
    assert set(store.PACKAGES) == set(environment["packages"])
    assert environment["devices"]
    with store.open_workdir(path, SETTINGS, RECORDS):  # its owner comes back
        pass


@pytest.mark.parametrize(
    ("settings", "records", "reason"),
    [
        (change(seed=1), RECORDS, "seed=0 there, 1 here"),
        (
            change(training={"learning_rate": 0.1}, data={"sizes": (1.0, 2.0)}),
            RECORDS,
            "data.sizes=[] there, [1.0, 2.0] here; training.learning_rate=0.001 there, 0.1 here",
        ),
        (SETTINGS, dataclasses.replace(RECORDS, fingerprint="e" * 16), "other records"),
    ],
)
def test_the_folder_of_another_experiment_is_refused(tmp_path, settings, records, reason):
    with store.open_workdir(tmp_path, SETTINGS, RECORDS):
        pass
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(errors.InputError) as caught, store.open_workdir(tmp_path, settings, records):
        pass
    assert str(caught.value) == (
        f"workdir={tmp_path}: holds another experiment ({reason}); choose another --workdir, or delete it"
    )
    assert (tmp_path / "config.json").read_text() == before


def test_a_workdir_in_use_is_refused(tmp_path):
    with (
        store.open_workdir(tmp_path, SETTINGS, RECORDS),
        pytest.raises(errors.InputError) as caught,
        store.open_workdir(tmp_path, SETTINGS, RECORDS),
    ):
        pass
    expected = f"workdir={tmp_path}: another process is running there; wait for it or choose another --workdir"
    assert str(caught.value) == expected
    with store.open_workdir(tmp_path, SETTINGS, RECORDS):  # free again
        pass


def test_folders_and_files_of_somebody_else_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("chapter 1")
    for path, problem in (
        (tmp_path, "holds files but no config.json; choose an empty --workdir"),
        (tmp_path / "thesis.tex", "is a file; choose another --workdir"),
    ):
        with pytest.raises(errors.InputError) as caught, store.open_workdir(path, SETTINGS, RECORDS):
            pass
        assert str(caught.value) == f"workdir={path}: {problem}"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(("rows", "has_csv"), [(3, True), (store.CSV_ROWS, False)])
def test_results_are_written_and_read_back(tmp_path, rows, has_csv):
    workdir = store.Workdir(tmp_path)
    with pytest.raises(errors.InputError, match=r"no results\.parquet there; run it first with --mode=run"):
        workdir.read_results()
    table = pl.DataFrame({"snapshot": ["C1N1", None, "C1N2"] + [None] * (rows - 3), "auc": np.arange(rows) / rows})
    workdir.write_results(table)
    assert workdir.read_results().equals(table)
    assert (tmp_path / "results.csv").exists() is has_csv


def test_the_log_is_one_line_an_entry(tmp_path):
    workdir = store.Workdir(tmp_path)
    workdir.log(stage="shadows", seconds=1.5)
    workdir.log(stage="attacks")
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"stage": "shadows", "seconds": 1.5}, {"stage": "attacks"}]
