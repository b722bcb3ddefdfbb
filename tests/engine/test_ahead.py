"""Work at later stages: what is chosen, and that a run ends with the same bits however far that work has come."""

import dataclasses
import io
import json
import threading

import jax
import pytest
import rich.console

from fedmia_jax import errors
from fedmia_jax.engine import ahead, chunks, kinds, lab, progress
from fedmia_jax.engine.engines import local
from fedmia_jax.storage import artifacts
from fedmia_jax.storage import workdir as workdirs

pytestmark = pytest.mark.skipif(jax.default_backend() != "cpu", reason="an accelerator has no cores to leave idle")
ALONE = {
    "data": {"name": "toys.reader:TOY", "num_federation": 100, "num_test": 100},
    "model": {"hidden": 4},
    "federation": {"nodes": 2, "cycles": 4, "local_epochs": 1, "scored_cycles": 3},
    "shadow": {"count": 2},
    "attack": {"names": ("loss",), "epochs": 2},
}
TRAIN, FEDERATE = kinds.KINDS[0], next(kind for kind in kinds.KINDS if kind.ahead)


def chunk(size, *, wide, nbytes=10, fixed_nbytes=0):
    units = tuple(
        chunks.Unit(str(number), "a", None, steps=1.0, nbytes=nbytes, fixed_nbytes=fixed_nbytes)
        for number in range(size)
    )
    return chunks.Chunk(units, size, wide, units)


@pytest.fixture
def place(tmp_path):
    shown = progress.Progress(rich.console.Console(file=io.StringIO()))
    made = lab.Lab(workdirs.Workdir(tmp_path), shown, budget=100)
    return dataclasses.replace(made, devices=(made.devices[0], made.devices[0]))


def test_what_leaves_cores_idle_behind_a_stage_is_worked_at_ahead(place):
    lone, full, narrow = chunk(1, wide=True), chunk(2, wide=True), chunk(3, wide=False)
    models = (TRAIN, [chunk(4, wide=True)])
    assert ahead.choose(place, [models, (FEDERATE, [lone, full, narrow])]) == [(FEDERATE, lone), (FEDERATE, narrow)]
    assert ahead.choose(place, [(TRAIN, []), (FEDERATE, [lone])]) == [], "it is the first"
    assert ahead.choose(dataclasses.replace(place, devices=place.devices[:1]), [models, (FEDERATE, [lone])]) == []


@pytest.mark.parametrize(
    ("before", "fits"),
    [
        ([chunk(9, wide=True)], True),
        ([chunk(10, wide=True)], False),
        ([chunk(5, wide=True, fixed_nbytes=20)], True),
        ([chunk(6, wide=True, fixed_nbytes=20)], False),
        ([chunk(4, wide=False), chunk(5, wide=False), chunk(1, wide=False)], True),
        ([chunk(5, wide=False), chunk(5, wide=False)], False),
    ],
)
def test_it_fits_the_memory_beside_all_others(place, before, fits):
    assert bool(ahead.choose(place, [(TRAIN, before), (FEDERATE, [chunk(1, wide=True)])])) is fits


@pytest.mark.parametrize("keep_models", [False, True])
@pytest.mark.parametrize("held", [1, 2, 3])
def test_a_run_ends_with_the_same_bits_however_far_work_has_come(monkeypatch, run_sweep, tmp_path, held, keep_models):
    """The models are trained when some cycles are held; the others wait for the stage to go on."""
    come, go_on, hold, pieces = threading.Event(), threading.Event(), artifacts.Draft.hold, []

    def slow(draft, piece, tree):
        hold(draft, piece, tree)
        pieces.append(piece)
        if len(pieces) == held:
            come.set()
            go_on.wait(60)

    def compute(place, planned, kind, todo, advance):
        local.compute(place, planned, kind, todo, advance)
        assert come.wait(60)
        if kind.name == "baselines":  # the last before the stage that is worked at
            threading.Timer(0.5, go_on.set).start()

    monkeypatch.setattr(artifacts.Draft, "hold", slow)
    options = {"keep_models": keep_models}
    _, table = run_sweep(
        ALONE, tmp_path / "ahead", engine=dataclasses.replace(local.ENGINE, compute=compute), **options
    )
    assert pieces == ["c1", "c2", "c4"][:held]
    _, plain = run_sweep(
        ALONE, tmp_path / "plain", engine=dataclasses.replace(local.ENGINE, works_ahead=False), **options
    )
    assert len(pieces) == held
    assert table.equals(plain)
    folders = [
        sorted(path.name for path in folder.iterdir()) for folder in (tmp_path / "ahead" / "artifacts").iterdir()
    ]
    assert sorted(folders) == sorted(
        sorted(path.name for path in folder.iterdir()) for folder in (tmp_path / "plain" / "artifacts").iterdir()
    )
    lines = [json.loads(line) for line in (tmp_path / "ahead" / "metrics.jsonl").read_text().splitlines()]
    assert len([line for line in lines if "ahead_seconds" in line]) == 1


def test_what_goes_wrong_ahead_ends_the_run(monkeypatch, run_sweep, tmp_path):
    def fail(*args):
        raise errors.InputError("disk: full")

    monkeypatch.setattr(artifacts.Draft, "hold", fail)
    with pytest.raises(errors.InputError, match=r"^disk: full$"):
        run_sweep(ALONE, tmp_path / "run")


def test_who_interrupts_does_not_wait_for_work_ahead(monkeypatch, place):
    go_on, ended = threading.Event(), []
    monkeypatch.setattr(ahead, "choose", lambda *args: [(FEDERATE, chunk(1, wide=True))])
    monkeypatch.setattr(ahead, "_work", lambda *args: ended.append(go_on.wait(5)))
    with pytest.raises(KeyboardInterrupt), ahead.working(place, None, []):
        raise KeyboardInterrupt
    assert not ended
    go_on.set()
