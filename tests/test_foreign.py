"""Things from outside the package, by `package.module:name`: launched, swept over their options, resumed, reported."""

import importlib
import json
import pathlib

import numpy as np
import polars as pl
import pytest
from toys import flags as small

import launch
from fedmia_jax import attacks, data, defenses, protocols
from fedmia_jax.config import parsing, schema
from fedmia_jax.engine.plans import points
from fedmia_jax.storage import artifacts


@pytest.fixture
def command(launched):
    """`command(*flags)`: a small run; returns (exit code, stdout, stderr)."""
    config = f"--config={pathlib.Path(launch.__file__).parent / 'configs/default.py'}"

    def call(*args: str) -> tuple[int, str, str]:
        attack = [] if any("attack.names" in arg for arg in args) else ["--config.attack.names=('loss',)"]
        return launched(config, "--workdir=run", *small.SMALL, *attack, *args)

    return call


def finished(folder: pathlib.Path) -> list[str]:
    """Artifacts that were finished, as often as they were."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["artifact"] for line in lines if "artifact" in line]


def check_resumes(command, flags, folder):
    """The same command does nothing twice and ends with the same bytes; a report can be made once more."""
    before, done = (folder / "results.parquet").read_bytes(), finished(folder)
    assert command(*flags)[0] == 0
    assert (folder / "results.parquet").read_bytes() == before
    assert finished(folder) == done
    code, out, _ = command("--mode=report")
    assert code == 0
    assert "centralised" in out
    assert (folder / "report.md").stat().st_size > 0


def parameters(folder: pathlib.Path) -> list[dict[str, np.ndarray]]:
    """Kept snapshots of the first cycle of every federation, leaves [P, ...]."""
    kept = artifacts.Artifacts(folder / "artifacts")
    units = [unit for unit, (path, _) in kept.index.items() if (path / "c1").exists()]
    return [parsing.flat(kept.read(unit, "c1")["params"]) for unit in units]


def test_an_attack_with_an_option(command, tmp_path):
    flags = ["--config.attack.names=('toys.attack:TOY',)", "--config.sweep.attack.toy_threshold=-1.5,2"]
    code, _, err = command(*flags)
    assert (code, err) == (0, "")
    results = pl.read_parquet(tmp_path / "run/results.parquet")
    assert results["attack"].unique().to_list() == ["toys.attack:TOY"]
    recall = results.group_by("attack.toy_threshold").agg(pl.col("recall").mean()).sort("attack.toy_threshold")
    assert recall["recall"][0] > recall["recall"][1]  # the lower threshold calls more records members
    auc = results.group_by("attack.toy_threshold").agg(pl.col("auc").mean())["auc"]
    assert auc[0] == pytest.approx(auc[1], abs=1e-6)
    check_resumes(command, flags, tmp_path / "run")


def test_a_reader_with_an_option(command, tmp_path):
    flags = ["--config.sweep.data.toy_contrast=0,0.5", "--config.training.learning_rate=0.1"]
    code, out, err = command(*flags)
    assert (code, err) == (0, "")
    assert "toys.reader:TOY of contrast 0, 3 classes" in out
    results = pl.read_parquet(tmp_path / "run/results.parquet").filter(phase="centralised", attacked="union")
    accuracy = dict(results.select("data.toy_contrast", "target_test_accuracy").iter_rows())
    assert accuracy[0.5] > accuracy[0.0] + 0.3
    check_resumes(command, flags, tmp_path / "run")


def test_a_defence_on_the_hand_off_moves_snapshots_by_its_level(command, tmp_path, compilations):
    flags = [
        "--config.defense.names=('toys.defense:SHIFT',)",
        "--config.sweep.defense.toy_shift=0,0.25",
        "--keep_models",
    ]
    with compilations() as names:
        code, _, err = command(*flags)
    assert (code, err) == (0, "")
    plain, shifted = parameters(tmp_path / "run")
    for name in plain:  # after the first visit only the hand-off differs
        np.testing.assert_allclose(np.abs(shifted[name][0] - plain[name][0]), 0.25, rtol=0, atol=1e-6)
    assert not any(np.allclose(shifted[name][1] - plain[name][1], 0.25) for name in plain)  # the next starts from it
    assert len(names) == len(set(names)) or names.count("jit_program") <= 8  # levels are arguments, not programs
    check_resumes(command, flags, tmp_path / "run")


def test_a_protocol_that_is_not_cyclic(command, tmp_path):
    flags = ["--config.federation.kind=toys.protocol:MEAN", "--config.sweep.federation.toy_rate=0.5,1", "--keep_models"]
    code, _, err = command(*flags)
    assert (code, err) == (0, "")
    results = pl.read_parquet(tmp_path / "run/results.parquet").filter(phase="federated")
    assert results["snapshot"].unique(maintain_order=True).to_list() == ["C1N1", "C1N2", "C1", "C2N1", "C2N2", "C2"]
    assert results.filter(pl.col("snapshot") == "C2")["node"].is_null().all()
    of_rate = parameters(tmp_path / "run")
    gaps = [max(np.abs(leaf[2] - leaf[:2].mean(axis=0)).max() for leaf in params.values()) for params in of_rate]
    assert min(gaps) < 1e-6  # toy_rate=1: the aggregate is the mean of what the nodes sent
    assert max(gaps) > 1e-4
    check_resumes(command, flags, tmp_path / "run")


def test_a_protocol_that_is_not_cyclic_with_references(command, tmp_path):
    flags = [
        "--config.federation.kind=toys.protocol:MEAN",
        "--config.shadow.federations=8",
        "--config.attack.names=('loss','lira_online','delta_phi','sequence_lira')",
        "--config.attack.views=('outsider','insider','bracket','bracket:1@2','coordinator')",
    ]
    code, _, err = command(*flags)
    assert (code, err) == (0, "")
    results = pl.read_parquet(tmp_path / "run/results.parquet").filter(view="insider:1", attack="loss")
    # It received the aggregates, which come one step after node 2 trained; the latest of them is read.
    assert results.select("attacked", "snapshot").rows() == [("N2", "C2")]
    intervals = pl.read_parquet(tmp_path / "run/intervals.parquet")
    assert {"bracket", "bracket:1@2"} <= set(intervals.filter(attack="delta_phi")["view"])


def test_orders_are_drawn_once_for_everybody(command, tmp_path):
    flags = ["--config.federation.order=random", "--config.replicates=2", "--config.seed=3"]
    code, _, err = command(*flags)
    assert (code, err) == (0, "")
    settings = parsing.from_config({"seed": 3, "federation": {"order": "random", "nodes": 2, "cycles": 2}})
    schedule = points.Plans(settings).schedule()
    results = pl.read_parquet(tmp_path / "run/results.parquet").filter(phase="federated")
    expected = [schedule.label(snapshot) for snapshot in range(len(schedule))]
    for _, of_replicate in results.group_by("replicate"):
        assert of_replicate["snapshot"].unique(maintain_order=True).to_list() == expected


@pytest.mark.parametrize(
    ("flag", "line"),
    [
        ("--config.attack.names=('toys.attack:NONE',)", "attack.names='toys.attack:NONE': module 'toys.attack' has no"),
        (
            "--config.attack.names=('toys.reader:TOY',)",
            "attack.names='toys.reader:TOY': data.contract.Factory, not attacks.contract.ModelAttackFactory or",
        ),
        ("--config.data.name=toys.nowhere:TOY", "data.name='toys.nowhere:TOY': No module named 'toys.nowhere'; must"),
        (
            "--config.federation.kind=toys.attack:TOY",
            "federation.kind='toys.attack:TOY': attacks.contract.ModelAttackFactory, not protocols.contract.Factory",
        ),
        ("--config.federation.kind=parallel", "federation.kind='parallel': must be one of sequential, fedavg, or p"),
        (
            "--config.federation.kind=toys.protocol:SHORT",
            "federation.kind='toys.protocol:SHORT': a round gives snapshots of [3, 8], ",
        ),
        ("--config.defense.names=('noise',)", "defense.names='noise': must be one of"),
        (
            "--config.defense.names=('toys.defense:ROUNDING',)",
            "defense.names='toys.defense:ROUNDING': acts on what an outsider is answered, and nobody asks",
        ),
        ("--config.data.toy_contrast=2", "data.toy_contrast=2.0: must be between 0 and 0.5"),
        ("--config.attack.toy_treshold=2", "attack.toy_treshold: no such field; did you mean attack.t"),
    ],
)
def test_what_cannot_be_used_ends_with_one_line(command, flag, line):
    code, _, err = (
        command(flag) if "treshold" not in flag else command("--config.attack.names=('toys.attack:TOY',)", flag)
    )
    assert code == 2
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("registry", "field", "module", "attribute", "option"),
    [
        (attacks.ATTACKS, "attack.names", "toys.attack", "TOY", "attack.toy_threshold"),
        (data.READERS, "data.name", "toys.reader", "TOY", "data.toy_contrast"),
        (defenses.DEFENSES, "defense.names", "toys.defense", "SHIFT", "defense.toy_shift"),
        (protocols.PROTOCOLS, "federation.kind", "toys.protocol", "MEAN", "federation.toy_rate"),
    ],
)
def test_one_line_in_a_registry_is_all(monkeypatch, registry, field, module, attribute, option):
    monkeypatch.setitem(registry, "toy", getattr(importlib.import_module(module), attribute))
    schema._fields.cache_clear()
    try:
        value = ("loss", "toy") if field == "attack.names" else ("toy",) if field == "defense.names" else "toy"
        settings = parsing.from_flat({field: value, option: 0.5})
        assert settings.get(option) == 0.5
        assert option in settings.active
        assert option in schema.fields()
    finally:
        schema._fields.cache_clear()
