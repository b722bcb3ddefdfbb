"""Speed: what is measured and how it is told, not how long it took."""

import dataclasses
import importlib.util
import io
import subprocess

import jax
import numpy as np
import pytest
import rich.console

from fedmia_jax import errors
from fedmia_jax.audit import blocks
from fedmia_jax.config import parsing, schema
from fedmia_jax.engine import benchmarks
from fedmia_jax.engine.benchmarks import (
    attacks,
    ceiling,
    defenses,
    federation,
    peers,
    planning,
    records,
    scaling,
    shadows,
    startup,
    timing,
)
from fedmia_jax.engine.plans import points

PLANS = points.Plans(
    parsing.from_config(
        {"data": {"num_features": 10}, "model": {"hidden": 4}, "training": {"batch_size": 64}, "shadow": {"count": 3}}
    )
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few records and few turns."""
    monkeypatch.setattr(records, "NUM_RECORDS", 257)
    monkeypatch.setattr(timing, "TURNS", 2)
    monkeypatch.setattr(ceiling, "REPEATS", 3)


def test_cases_take_turns_and_are_compared_with_the_first(monkeypatch):
    clock, called = iter(np.cumsum([0.0, 9, 0, 5, 0, 1, 0, 4, 0, 3, 0, 8]).tolist()), []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    cases = [timing.Case(name, lambda name=name: lambda: called.append(name), 2, models=2, nbytes=10) for name in "ab"]
    first, second = timing.measure(timing.Suite("some", cases, 32))
    assert called == ["a", "b"] * 3
    assert (first.first_seconds, second.first_seconds) == (9, 5)
    assert (first.seconds, second.seconds) == ((0.5, 1.5), (2.0, 4.0))
    assert (first.times_first, second.times_first, second.median) == (1.0, 1 / 3, 3.0)
    assert second.cells[:6] == ["some", "32", "b", "3000000", "2000000-4000000", "0.33"]
    assert second.plain["records_per_second"] == pytest.approx(32 / 3)
    assert (second.nbytes, second.of_ceiling) == (5, None)


def test_a_floor_tells_which_part_of_the_ceiling_is_reached():
    cases = [timing.Case("a", lambda: lambda: None, 1)]
    (row,) = timing.measure(timing.Suite("some", cases, 32, timing.Ceiling(lambda: 1e3, 20, 30)))
    assert row.of_ceiling > 1e3
    assert (row.flops, row.moved_nbytes) == (20, 30)


def test_a_step_computes_its_products_and_moves_its_parameters_six_times():
    found = ceiling.make_ceiling(PLANS, 64)
    features, hidden, classes = 10, 4, records.NUM_CLASSES
    forward = 2 * 64 * (features * hidden + hidden * classes)
    assert found.flops == 2 * forward + 2 * 64 * hidden * classes
    assert found.moved_nbytes == 6 * 4 * (features * hidden + hidden + hidden * classes + classes)


def test_without_moments_there_is_no_such_floor():
    settings = schema.Settings(tuple((dict(PLANS.settings.flat) | {"training.optimizer": "sgd"}).items()))
    assert ceiling.make_ceiling(points.Plans(settings), 1) is None


def test_cases_of_a_suite_that_are_not_there_together_are_made_one_after_the_other():
    alive = []

    def make(name):
        alive.append(name)
        return lambda: None

    cases = [timing.Case(name, lambda name=name: make(name), 1) for name in "ab"]
    rows = timing.measure(timing.Suite("some", cases, 32, together=False))
    assert alive == ["a", "b"]
    assert [row.case for row in rows] == ["a", "b"]


def test_shadows_are_measured_at_both_batch_sizes(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    suites = shadows.make_suites(PLANS)
    assert [suite.batch_size for suite in suites] == [64, 128]
    for suite, steps in zip(suites, (5, 3), strict=True):
        counted = [(case.name, case.steps, case.models) for case in suite.cases]
        assert counted == [("fedmia_jax, 1 model", steps, 1), ("fedmia_jax, 3 models", 3 * steps, 3)]
        assert suite.ceiling.floor() > 0


def test_a_case_trains_all_of_its_models_and_compiles_once(compilations):
    drawn = records.make(PLANS)
    train = shadows.make_training(PLANS, drawn, batch_size=64, num_models=2, devices=tuple(jax.devices()))
    state, finite = train(1)
    assert np.asarray(finite).tolist() == [True, True]
    assert {leaf.shape[0] for leaf in (state.params["Dense_0"]["kernel"], state.params["Dense_1"]["kernel"])} == {2}
    with compilations() as names:
        train(1)
    assert names == []


@pytest.mark.filterwarnings("ignore")
def test_opacus_must_reach_our_loss():
    pytest.importorskip("opacus")
    (suite,) = defenses.make_suites(PLANS)
    (case,) = [case for case in suite.cases if case.name.startswith("Opacus")]
    assert (case.steps, case.models) == (3, 1)
    case.make()()


def test_defences_are_compared_with_none_and_noise_is_told_apart(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (suite,) = defenses.make_suites(PLANS)
    assert [case.name for case in suite.cases] == ["no defence", "dp_training", defenses.NORMALS]
    assert [(case.steps, case.models) for case in suite.cases] == [(9, 3), (9, 3), (3 * defenses.REPEATS, 3)]
    suite.cases[1].make()()
    suite.cases[-1].make()()


def test_scaling_counts_the_memory_of_a_model(monkeypatch):
    monkeypatch.setattr(scaling, "SIZES", (1, 4))
    (suite,) = scaling.make_suites(PLANS)
    rows = timing.measure(suite)
    assert [row.models for row in rows] == [1, 4]
    assert len({row.nbytes for row in rows}) == 1
    assert rows[0].nbytes > 4 * (10 * 4 + 4 + 4 * records.NUM_CLASSES)


def test_a_sweep_is_planned_point_by_point(monkeypatch):
    monkeypatch.setattr(planning, "SIDES", (2,))
    (suite,) = planning.make_suites(PLANS)
    assert [(case.name, case.steps) for case in suite.cases] == [("4 points", 4)]
    suite.cases[0].make()()


def test_a_federation_is_measured_alone_and_beside_others():
    (suite,) = federation.make_suites(PLANS)
    steps = 3 * 2  # 85 records a node
    assert [(case.name, case.steps, case.models) for case in suite.cases] == [
        ("1 federation", steps, 1),
        ("3 federations", 3 * steps, 3),
    ]
    (_, snapshots, finite) = suite.cases[-1].make()()
    assert np.asarray(finite).all()
    assert {leaf.shape[:2] for leaf in jax.tree.leaves(snapshots)} == {(3, 3)}


def test_attacks_are_measured_on_usual_and_on_very_many_records(monkeypatch):
    monkeypatch.setattr(attacks, "LARGE", {"delta_phi": (40,)})
    monkeypatch.setattr(blocks, "MOST_FLOATS", 256 * 200 * 30)
    usual, large = attacks.make_suites(PLANS)
    assert {"lira_online", "rmia_online", "stacked", "sequence_lira"} <= {case.name for case in usual.cases}
    (row,) = timing.measure(large)
    assert row.case == "delta_phi, 40 records"
    assert (len(row.seconds), row.peak_nbytes > 2**20) == (1, True)
    attacks.make_audit("rmia_online", 50)()


def test_a_process_is_started_with_and_without_programs_that_are_kept(monkeypatch):
    (suite,) = startup.make_suites(PLANS)
    assert [case.name for case in suite.cases] == ["libraries", "first epoch, compiled", "first epoch, program kept"]
    folder = f"os.environ[{startup.FOLDER!r}]"
    looks = f"import os; assert not os.listdir({folder}); open({folder} + '/program', 'w')"
    for kept in (False, True):
        call = startup.make_process(looks, kept=kept)
        call()
        if not kept:
            call()
            continue
        with pytest.raises(subprocess.CalledProcessError):
            call()


def test_what_was_measured_is_told(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    silent = dataclasses.replace(timing.Suite("shadows", [timing.Case("a", lambda: lambda: None, 1)], 64))
    monkeypatch.setattr(benchmarks, "SUITES", {"shadows": lambda plans: [silent]})
    rows = benchmarks.run(PLANS, ["shadows"], rich.console.Console(file=io.StringIO()))
    table = benchmarks.explain(rows, PLANS)
    assert len(table.rows) == 1
    assert len(table.header) == len(table.rows[0])
    assert "Medians of 2 turns in one run" in table.caption
    assert "Training: 10 features, 4 units, 100 classes, adam, dropout." in table.caption
    assert "of ceiling" not in table.caption  # which nobody measured
    assert "pip install torch" in table.caption


def test_a_suite_that_does_not_exist_is_one_line():
    with pytest.raises(errors.InputError, match="--suites=speed: must be one of shadows, federation, attacks"):
        benchmarks.run(PLANS, ["shadows", "speed"], rich.console.Console(file=io.StringIO()))


@pytest.mark.filterwarnings("ignore")
def test_peers_must_reach_our_loss():
    pytest.importorskip("torch")
    drawn = records.make(PLANS)
    ours = shadows.loss_reached(PLANS, drawn, batch_size=64, epochs=peers.EPOCHS)
    cases = peers.make_cases(PLANS, drawn, batch_size=64, loss=ours)
    assert [case.models for case in cases if "process" not in case.name] == [1, 3, 3]
    with pytest.raises(RuntimeError, match=r"^PyTorch, 1 model, \d+ threads reaches a loss of"):
        peers.make_cases(PLANS, drawn, batch_size=64, loss=1.02 * ours)
