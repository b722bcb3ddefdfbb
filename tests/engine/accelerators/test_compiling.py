"""Programs compiled for devices that are not there; the CPU stands in for them where no other compiler is installed."""

import functools
import io
import re

import jax
import jax.extend
import numpy as np
import pytest
import rich.console

from fedmia_jax import compilation
from fedmia_jax.config import sweeps
from fedmia_jax.engine import progress
from fedmia_jax.engine.accelerators import compiler, compiling, topologies
from fedmia_jax.engine.plans import runs

VALUES = {
    "replicates": 2,
    "data": {"name": "toys.reader:TOY", "num_federation": 100, "num_test": 100},
    "model": {"hidden": 4},
    "federation": {"nodes": 2, "cycles": 2, "local_epochs": 2},
    "shadow": {"count": 2, "federations": 8},
    "attack": {
        "names": ("loss", "sequence_lira"),
        "views": ("outsider", "coordinator"),
        "strongest": "sequence_lira",
        "epochs": 2,
    },
    "defense": {"names": ("temperature",), "answer_temperature": 2.0},
}


ROOM = topologies.Kind(2**34, 1e9, 1e10)


def estimate(values, kind=ROOM):
    """What a run would be on a CPU that is not there."""
    every_run = runs.prepare(sweeps.expand(values).points)
    topology = topologies.Topology("cpu", kind, tuple(jax.devices()[:1]))
    shown = progress.Progress(rich.console.Console(file=io.StringIO()))
    return compiling.estimate(every_run, topology, shown, budget=2**32)


def called(program, args, static):
    """What tells apart the programs that are called."""
    shapes = [(np.shape(leaf), str(getattr(leaf, "dtype", type(leaf)))) for leaf in jax.tree.leaves(args)]
    return program.__name__, tuple(shapes), tuple(sorted(static.items()))


@pytest.fixture(scope="module")
def walked():
    """An estimate, and every program that was called for it."""
    run, seen = compiler.Compiler.run, set()

    def spy(self, program, args, static):
        seen.add(called(program, args, static))
        return run(self, program, args, static)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler.Compiler, "run", spy)
        return estimate(VALUES), seen


@pytest.fixture
def found(walked):
    return walked[0]


def test_every_program_of_a_run_is_compiled_once(walked, run_sweep, tmp_path):
    found, expected = walked
    seen = set()

    def run(program, args, static):
        seen.add(called(program, args, static))
        return program(*args, **static)

    with compilation.using(compilation.Target("cpu", run)):
        run_sweep(VALUES, tmp_path / "run", devices=tuple(jax.devices()[:1]))
    assert seen == expected
    assert {name for name, *_ in seen} == {made.name for made in found.programs}
    assert len(found.programs) <= len(seen)


def test_an_estimate_says_what_a_run_takes(found):
    assert not found.problems
    assert all(made.nbytes > 0 and made.work.kernels > 0 for made in found.programs)
    trained = [made for made in found.programs if made.name == compiler.TRAINS]
    assert [(made.stage, made.models) for made in trained] == [
        ("central models", 6),
        ("federations", 2),
        ("federations", 8),
    ]
    parameters = 4 * (12 * 4 + 4 + 4 * 3 + 3)
    assert {made.floor for made in trained} == {6 * parameters}
    passes = [2 * 4, 2 * 2 * 2 * 2, 2 * 2 * 2 * 2]  # epochs and updates; cycles, nodes, epochs and updates
    assert found.updates == sum(number * made.models for number, made in zip(passes, trained, strict=True))
    expected = sum(number * made.pass_seconds(ROOM) for number, made in zip(passes, trained, strict=True))
    assert found.seconds == pytest.approx(expected)
    shown = compiling.explain(found)
    assert shown.title == "Compiled for cpu"
    assert len(shown.rows) == len(found.programs)
    assert {len(row) for row in shown.rows} == {len(shown.header)}
    assert [row[-2] for row in shown.rows if row[-1]] == [str(number) for number in passes]
    assert "us: the larger of bytes at 0.01 TB/s and 2.6 for each kernel" in shown.caption
    assert "0 of which do not compile" in shown.caption
    assert "and fits" in shown.caption


def test_a_device_that_is_too_small_is_said(found):
    small = topologies.Topology("small", topologies.Kind(1000, 1e9, 1e10), found.topology.devices)
    shown = compiling.explain(compiling.Estimate(small, found.programs, found.updates, found.passes))
    assert "and does not fit" in shown.caption
    assert all(row[4].endswith(", too much") for row in shown.rows)


def test_a_program_that_does_not_compile_is_named_and_the_others_go_on(monkeypatch):
    missing = jax.extend.core.Primitive("missing")  # that no platform knows
    missing.def_abstract_eval(lambda aval: aval)
    run = compiler.Compiler.run

    @functools.cache
    def break_program(program):
        @functools.wraps(program)
        def broken(*args, **static):
            return jax.tree.map(missing.bind, program(*args, **static))

        return broken

    def break_training(self, program, args, static):
        return run(self, break_program(program) if program.__name__ == compiler.TRAINS else program, args, static)

    monkeypatch.setattr(compiler.Compiler, "run", break_training)
    broken = estimate(
        VALUES | {"shadow": {"count": 2}, "federation": {"cycles": 0}, "attack": {"names": ("loss",)}, "defense": {}}
    )
    assert len(broken.problems) == 1
    assert re.match("central models: advance_model: .*missing.* not found for platform cpu", broken.problems[0])
    assert [row[3] for row in compiling.explain(broken).rows].count("does not compile") == 1
    assert len(broken.programs) > 2


def test_points_that_differ_in_classes_alone_train_as_one_on_an_accelerator(monkeypatch):
    """The updates of all, in the turns of one."""
    values = {
        "data": {"num_records": 400, "num_features": 12, "num_federation": 100, "num_test": 100},
        "model": {"hidden": 4},
        "federation": {"nodes": 2, "cycles": 1, "local_epochs": 2},
        "shadow": {"count": 2},
        "attack": {"names": ("loss",)},
        "sweep": {"data.num_classes": [3, 2]},
    }
    monkeypatch.setattr(compilation, "platform", lambda: "tpu")
    found = estimate(values)
    trained = [made for made in found.programs if made.name == compiler.TRAINS]
    assert [(made.stage, made.models) for made in trained] == [("central models", 6), ("federations", 2)]
    assert found.updates == sum(found.passes[made] * made.models for made in trained)
    assert {made.floor for made in trained} == {6 * 4 * (12 * 4 + 4 + 4 * 3 + 3)}
