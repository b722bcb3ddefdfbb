"""Runs whose kept files were damaged: each says so in one line, computes anew what it must, and ends bit-equal."""

import dataclasses
import shutil
import threading

import jax
import pytest

from fedmia_jax.engine import execution
from fedmia_jax.engine.engines import local
from fedmia_jax.storage import artifacts

VALUES = {
    "data": {"num_records": 400, "num_features": 20, "num_classes": 4, "num_federation": 120, "num_test": 120},
    "model": {"hidden": 8},
    "training": {"learning_rate": 0.02},
    "federation": {"nodes": 2, "cycles": 3, "local_epochs": 4},
    "shadow": {"count": 2},
    "attack": {"names": ("loss",)},
}


class Stopped(BaseException):
    """Ends a run at once, as a kill does."""


@pytest.fixture(scope="module")
def bases(run_sweep, tmp_path_factory):
    """Folders of a finished run, and of two that were stopped after two cycles of their federation; and the results.

    One of these was stopped in the stage of the federation, the other ahead of it, when attacks were not fitted yet.
    """
    folder = tmp_path_factory.mktemp("bases")
    table = run_sweep(VALUES, folder / "finished", keep_models=True)[1]
    patch, come = pytest.MonkeyPatch(), threading.Event()
    save = artifacts.Draft.save

    def stopping(draft, done, state):
        save(draft, done, state)
        if done == 2 and {"c2", "held_c2"} & set(draft.pieces):
            come.set()
            raise Stopped

    def wait(*args):
        assert come.wait(60)
        local.compute(*args)

    patch.setattr(artifacts.Draft, "save", stopping)
    in_turn = dataclasses.replace(local.ENGINE, works_ahead=False)
    for name, engine in (("stopped", in_turn), ("ahead", dataclasses.replace(local.ENGINE, compute=wait))):
        with pytest.raises(Stopped):
            run_sweep(VALUES, folder / name, keep_models=True, engine=engine)
    patch.undo()
    return folder, table


def damage(folder, pattern, *, at):
    """Flips a bit of the only file that matches; returns the file."""
    (path,) = folder.glob(pattern)
    content = bytearray(path.read_bytes())
    content[at] ^= 64
    path.write_bytes(content)
    return path


def leftovers(folder):
    """The bytes of all that work has left, but what was set aside."""
    paths = [path for path in (folder / "artifacts").rglob("*") if path.is_file()]
    named = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    return {name: content for name, content in named.items() if "damaged-" not in name}


FINISHED = {
    "parameters of a central model": ("*/e4/params.Dense_0.kernel.npy", -1),
    "parameters of a snapshot": ("*/c2/params.Dense_0.kernel.npy", -2),
    "scores of a snapshot": ("*/c3/0.scores.loss.npy", -1),
    "a fitted attack": ("*/fitted/fitted.loss.thresholds.npy", -1),
    "the header of an array": ("*/c1/correct.npy", 20),
    "the list of a piece": ("*/scores/hashes.json", 20),
}


@pytest.mark.parametrize("what", FINISHED)
def test_a_damaged_piece_of_a_finished_run_is_computed_anew(bases, run_sweep, capsys, tmp_path, what):
    folder, table = bases
    shutil.copytree(folder / "finished", tmp_path / "run")
    path = damage(tmp_path / "run/artifacts", FINISHED[what][0], at=FINISHED[what][1])
    artifact, relative = path.parent.parent, path.relative_to(path.parent.parent)
    capsys.readouterr()
    again = run_sweep(VALUES, tmp_path / "run", keep_models=True)[1]
    line = capsys.readouterr().err.splitlines()
    reason = f"{relative}: hash differs"
    assert line == [
        f"warning: {artifact} is damaged ({reason}); set aside as damaged-1-{artifact.name}, computed again"
    ]
    assert again.equals(table)
    assert leftovers(tmp_path / "run") == leftovers(folder / "finished")


@pytest.mark.parametrize("content", [b"", b"7", b"\xff", b'["a"]', None])
def test_a_damaged_index_is_computed_anew(bases, run_sweep, capsys, tmp_path, content):
    folder, table = bases
    shutil.copytree(folder / "finished", tmp_path / "run")
    (index,) = [path / "units.json" for path in (tmp_path / "run/artifacts").iterdir() if (path / "e4").exists()]
    index.write_bytes(index.read_bytes()[:20] if content is None else content)
    capsys.readouterr()
    assert run_sweep(VALUES, tmp_path / "run", keep_models=True)[1].equals(table)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {index.parent} is damaged (units.json: ")
    assert leftovers(tmp_path / "run") == leftovers(folder / "finished")


STATE = ("*/state-2/leaf0.npy", -1, ["state-2 is damaged (leaf0.npy: hash differs); set aside as damaged-1-"])
STOPPED = {
    ("stopped", "the state"): STATE,
    ("stopped", "a piece"): (
        "*/c1/params.Dense_0.kernel.npy",
        -1,
        ["c1 is damaged (params.Dense_0.kernel.npy: hash differs); set aside as damaged-1-c1", "state-2 goes with c1"],
    ),
    ("ahead", "the state"): STATE,
    ("ahead", "what is held"): (
        "*/held_c1/Dense_0.kernel.npy",
        -1,
        [
            "held_c1 is damaged (Dense_0.kernel.npy: hash differs); set aside as damaged-1-held_c1",
            "state-2 goes with held_c1",
        ],
    ),
}


@pytest.mark.parametrize(("base", "what"), [("stopped", None), ("ahead", None), *STOPPED])
def test_a_stopped_run_goes_on_from_what_is_intact(bases, run_sweep, capsys, monkeypatch, tmp_path, base, what):
    if base == "ahead" and jax.default_backend() != "cpu":
        pytest.skip("nothing is worked at ahead on an accelerator")
    folder, table = bases
    shutil.copytree(folder / base, tmp_path / "run")
    pattern, at, lines = STOPPED[base, what] if what else ("", 0, [])
    if what:
        damage(tmp_path / "run/artifacts", pattern, at=at)
    capsys.readouterr()
    loaded = []
    load = artifacts.Draft.load
    monkeypatch.setattr(
        execution.artifacts.Draft, "load", lambda draft, state: loaded.append(load(draft, state)) or loaded[-1]
    )
    assert run_sweep(VALUES, tmp_path / "run", keep_models=True)[1].equals(table)
    assert [done for done, _ in loaded] == [0 if what else 2]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(lines)
    for line, expected in zip(said, lines, strict=True):
        assert line.startswith("warning: ")
        assert f"/{expected}" in line
    assert leftovers(tmp_path / "run") == leftovers(folder / "finished")
