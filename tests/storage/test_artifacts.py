"""What work leaves: whole pieces, found by fingerprint, and a state to go on from; what is damaged is set aside."""

import json

import numpy as np
import pytest

from fedmia_jax import errors, files
from fedmia_jax.storage import artifacts, folders, hashes

TREE = {
    "params": {"Dense_0": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3) / 7}},
    "ok": np.array([True, False]),
}


def test_pieces_are_found_by_unit_and_come_back_equal(tmp_path):
    kept = artifacts.Artifacts(tmp_path)
    draft = kept.begin(["a", "b"], size=2)
    draft.write("c1", TREE)
    assert not kept.finished("a")
    kept.finish(draft)
    for index in (kept, artifacts.Artifacts(tmp_path)):
        assert index.finished("a")
        assert index.finished("b")
        assert not index.finished("c")
        second = index.read("b", "c1")
        np.testing.assert_array_equal(second["params"]["Dense_0"]["kernel"], TREE["params"]["Dense_0"]["kernel"][1])
        assert second["params"]["Dense_0"]["kernel"].dtype == np.float32
        assert second["ok"].shape == ()
        assert not second["ok"]


def test_a_piece_that_is_there_stays(tmp_path):
    draft = artifacts.Artifacts(tmp_path).begin(["a"], size=2)
    draft.write("c1", {"x": np.ones(1)})
    draft.write("c1", {"x": np.zeros(1)})
    assert np.load(draft.path / "c1" / "x.npy") == 1


def test_any_name_of_an_array_comes_back(tmp_path):
    """Names of things from outside hold dots and colons, and may hold what no file name does."""
    names = ["package.module:name", "a.b", "a", "%2E", "..", "with/slash", " "]
    tree = {name: {name: np.full(1, number)} for number, name in enumerate(names)}
    kept = artifacts.Artifacts(tmp_path)
    draft = kept.begin(["a"], size=1)
    draft.write("c1", {"scores": tree})
    kept.finish(draft)
    scores = kept.read("a", "c1")["scores"]
    assert {name: int(scores[name][name]) for name in names} == {name: number for number, name in enumerate(names)}


def test_a_state_is_gone_on_from(tmp_path):
    draft = artifacts.Artifacts(tmp_path).begin(["a"], size=2)
    fresh = {"w": np.zeros((2, 3), np.float32), "n": (np.int32(0), np.zeros(0))}
    assert draft.load(fresh) == (0, fresh)
    for done in (1, 2):
        draft.save(done, {"w": np.full((2, 3), done, np.float32), "n": (np.int32(done), np.zeros(0))})
    done, state = artifacts.Artifacts(tmp_path).begin(["a"], size=2).load(fresh)
    assert done == 2
    assert (state["w"] == 2).all()
    assert state["n"][0] == 2
    assert state["n"][1].shape == (0,)
    assert [path.name for path in draft.path.iterdir()] == ["state-2"]


def test_finishing_drops_the_state(tmp_path):
    kept = artifacts.Artifacts(tmp_path)
    draft = kept.begin(["a"], size=2)
    draft.save(3, {"w": np.zeros(2)})
    kept.finish(draft)
    assert [path.name for path in draft.path.iterdir()] == [artifacts.INDEX]


def test_what_is_held_is_there_until_the_artifact_is_finished(tmp_path):
    """Whether finishing was interrupted or not; a state goes with it as with a piece."""
    draft = artifacts.Artifacts(tmp_path).begin(["a", "b"], size=3)
    assert draft.held("c1") is None
    draft.hold("c1", {"params": {"w": np.arange(6).reshape(3, 2)}})
    draft.save(1, {"w": np.zeros(3)})
    kept = artifacts.Artifacts(tmp_path)
    again = kept.begin(["a", "b"], size=3)
    np.testing.assert_array_equal(again.held("c1")["params"]["w"], np.arange(4).reshape(2, 2))
    assert again.load({"w": np.zeros(3)})[0] == 1
    again.write("c1", {"x": np.ones(3)})
    kept.finish(again)
    assert sorted(path.name for path in again.path.iterdir()) == ["c1", artifacts.INDEX]
    again.hold("c2", {"x": np.ones(3)})  # of a process that was killed while it finished
    assert artifacts.Artifacts(tmp_path).finished("a")
    assert sorted(path.name for path in again.path.iterdir()) == ["c1", artifacts.INDEX]


def test_held_work_that_is_damaged_is_done_again(tmp_path):
    draft = artifacts.Artifacts(tmp_path).begin(["a"], size=1)
    draft.hold("c1", {"x": np.ones(1)})
    draft.save(1, {"w": np.zeros(1)})
    (draft.path / "held_c1" / "x.npy").write_bytes(b"x")
    lines = []
    again = artifacts.Artifacts(tmp_path, warn=lines.append).begin(["a"], size=1)
    assert again.held("c1") is None
    assert again.load({"w": np.zeros(1)})[0] == 0
    assert "held_c1 is damaged" in lines[0]


def test_another_stack_is_another_artifact(tmp_path):
    """A state of four rows does not fit a stack of two."""
    kept = artifacts.Artifacts(tmp_path)
    assert kept.begin(["a"], size=2).path != kept.begin(["a"], size=4).path


def test_torn_drafts_are_not_seen(tmp_path):
    draft = artifacts.Artifacts(tmp_path).begin(["a"], size=2)
    (draft.path / ".c1.fedmia-draft").mkdir()
    (draft.path / ".c1.fedmia-draft" / "x.npy").write_bytes(b"half")
    draft.save(1, {"w": np.zeros(2)})
    (draft.path / ".state-2.fedmia-draft").mkdir()
    (draft.path / ".units.json.abcd_123.fedmia-draft").write_bytes(b"half")
    again = artifacts.Artifacts(tmp_path)
    assert not again.finished("a")
    assert again.begin(["a"], size=2).load({"w": np.ones(2)})[0] == 1
    assert {path.name for path in draft.path.iterdir()} == {"state-1"}


def test_a_damaged_file_is_named(tmp_path):
    kept = artifacts.Artifacts(tmp_path)
    draft = kept.begin(["a"], size=2)
    draft.write("c1", {"x": np.ones(3)})
    kept.finish(draft)
    (draft.path / "c1" / "x.npy").write_bytes(b"no array")
    with pytest.raises(errors.InputError, match=r"c1 is missing or damaged"):
        kept.read("a", "c1")
    with pytest.raises(errors.InputError, match=r"c2 is missing or damaged"):
        kept.read("a", "c2")


def make_finished(path, warn=artifacts.warn_stderr):
    """An artifact of two units with two pieces."""
    kept = artifacts.Artifacts(path, warn=warn)
    draft = kept.begin(["a", "b"], size=2)
    draft.write("c1", {"phi": np.array([[1.0, 2.0], [3.0, 4.0]]), "correct": np.ones((2, 2), bool)})
    draft.write("c2", {"phi": np.zeros((2, 2))})
    kept.finish(draft)
    return draft.path


DAMAGES = {
    "c1/phi.npy: hash differs": lambda path: flip(path / "c1/phi.npy", at=-1),
    "c1/correct.npy: hash differs": lambda path: (path / "c1/correct.npy").write_bytes(b""),
    "c2/phi.npy: hash differs": lambda path: flip(path / "c2/phi.npy", at=30),
    "c2/phi.npy: No such file or directory": lambda path: (path / "c2/phi.npy").unlink(),
    "c2/hashes.json: No such file or directory": lambda path: (path / "c2/hashes.json").unlink(),
    "c1/hashes.json: not JSON: ": lambda path: (path / "c1/hashes.json").write_bytes(b""),
    "c1/hashes.json: hash differs": lambda path: exchange(path / "c1", path / "c2"),
    "units.json: not JSON: ": lambda path: cut(path / "units.json"),
    "units.json: not JSON: Expecting value": lambda path: (path / "units.json").write_bytes(b""),
    "units.json: no JSON object": lambda path: (path / "units.json").write_bytes(b"7"),
    "units.json: not UTF-8 at byte 0": lambda path: (path / "units.json").write_bytes(b"\xff{}"),
    "units.json: has no check": lambda path: (path / "units.json").write_text('{"a": "b"}'),
    "units.json: hash differs": lambda path: (path / "units.json").write_text(
        (path / "units.json").read_text().replace('"b"', '"c"')
    ),
    "units.json: format 2, this program reads 1": lambda path: (path / "units.json").write_bytes(
        hashes.seal({"format": 2, "everything": "else"})
    ),
}


def flip(path, *, at):
    """Flips one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def cut(path):
    """Leaves the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def exchange(path, other):
    """Two folders change places."""
    path.rename(path.parent / "third")
    other.rename(path)
    (path.parent / "third").rename(other)


@pytest.mark.parametrize("reason", DAMAGES)
def test_a_damaged_artifact_is_named_set_aside_and_not_finished(tmp_path, reason):
    path = make_finished(tmp_path)
    DAMAGES[reason](path)
    damaged = {file.name: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    lines = []
    kept = artifacts.Artifacts(tmp_path, warn=lines.append)
    assert not kept.finished("a")
    assert not kept.finished("b")
    (line,) = lines
    assert line.startswith(f"{path} is damaged ({reason}")
    assert line.endswith(f"); set aside as damaged-1-{path.name}, computed again")
    aside = tmp_path / f"damaged-1-{path.name}"
    assert {file.name: file.read_bytes() for file in aside.rglob("*") if file.is_file()} == damaged
    assert make_finished(tmp_path, lines.append) == path
    again = artifacts.Artifacts(tmp_path, warn=lines.append)
    assert again.finished("b")
    np.testing.assert_array_equal(again.read("b", "c1")["phi"], [3.0, 4.0])
    assert len(lines) == 1


def test_a_second_damage_of_the_same_is_set_aside_beside_the_first(tmp_path):
    for _ in range(2):
        path = make_finished(tmp_path)
        flip(path / "c1/phi.npy", at=-1)
        assert not artifacts.Artifacts(tmp_path, warn=lambda line: None).finished("a")
    assert {folder.name for folder in tmp_path.iterdir()} == {f"damaged-{n}-{path.name}" for n in (1, 2)}


def test_what_is_read_without_having_been_checked_is_one_line(tmp_path):
    path = make_finished(tmp_path)
    flip(path / "c1/phi.npy", at=-1)
    with pytest.raises(errors.InputError) as caught:
        artifacts.Artifacts(tmp_path).read("a", "c1")
    line = f"workdir: {path}/c1 is missing or damaged (c1/phi.npy: hash differs); delete {path}"
    assert str(caught.value) == line


def test_a_file_is_hashed_once_a_process(tmp_path, monkeypatch):
    """And not at all where this process has written it."""
    compared = []
    check = hashes.check
    monkeypatch.setattr(
        hashes, "check", lambda folder, name, expected: (compared.append(name), check(folder, name, expected))
    )
    kept = artifacts.Artifacts(tmp_path)
    make_finished(tmp_path)
    draft = kept.begin(["c"], size=1)
    draft.write("c1", TREE)
    kept.finish(draft)
    kept.finished("c")
    kept.read("c", "c1")
    assert compared == []
    again = artifacts.Artifacts(tmp_path)
    for unit in ("a", "b", "a"):
        assert again.finished(unit)
        again.read(unit, "c1")
        again.read(unit, "c2")
    assert sorted(compared) == ["correct.npy", "phi.npy", "phi.npy"]


STATE = {"w": np.arange(6.0).reshape(2, 3), "n": np.int32(2)}


def make_begun(path):
    """An artifact with two pieces, and a state after them."""
    draft = artifacts.Artifacts(path).begin(["a", "b"], size=2)
    draft.write("c1", {"phi": np.ones((2, 2))})
    draft.write("c2", {"phi": np.zeros((2, 2))})
    draft.save(2, STATE)
    return draft.path


def go_on(path):
    """What is done in an artifact that was begun, its state, and the warnings."""
    lines = []
    fresh = {"w": np.zeros((2, 3)), "n": np.int32(0)}
    draft = artifacts.Artifacts(path, warn=lines.append).begin(["a", "b"], size=2)
    done, state = draft.load(fresh)
    return draft, done, state, lines


def test_an_intact_state_goes_with_its_pieces(tmp_path):
    make_begun(tmp_path)
    draft, done, state, lines = go_on(tmp_path)
    assert (done, lines, sorted(draft.pieces)) == (2, [], ["c1", "c2"])
    np.testing.assert_array_equal(state["w"], STATE["w"])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: flip(path / "leaf0.npy", at=-1), "leaf0.npy: hash differs"),
        (lambda path: flip(path / "leaf1.npy", at=9), "leaf1.npy: hash differs"),
        (lambda path: (path / "leaf1.npy").unlink(), "leaf1.npy: No such file or directory"),
        (lambda path: cut(path / "hashes.json"), "hashes.json: not JSON: "),
        (
            lambda path: (folders.remove(path), folders.write(path, {"leaf0": 1})),
            "hashes.json: another number of arrays",
        ),
    ],
)
def test_a_damaged_state_is_set_aside_and_work_starts_anew(tmp_path, damage, reason):
    path = make_begun(tmp_path)
    damage(path / "state-2")
    draft, done, _, lines = go_on(tmp_path)
    assert (done, sorted(draft.pieces)) == (0, ["c1", "c2"])
    assert len(lines) == 1
    assert lines[0].startswith(f"{path}/state-2 is damaged ({reason}")
    assert lines[0].endswith("); set aside as damaged-1-state-2, computed again")
    assert (path / "damaged-1-state-2").is_dir()
    draft.save(1, STATE)
    assert go_on(tmp_path)[1] == 1


def test_a_damaged_piece_before_a_state_is_set_aside_and_work_starts_anew(tmp_path):
    path = make_begun(tmp_path)
    flip(path / "c1/phi.npy", at=-1)
    draft, done, _, lines = go_on(tmp_path)
    assert (done, sorted(draft.pieces)) == (0, ["c2"])
    assert lines == [
        f"{path}/c1 is damaged (phi.npy: hash differs); set aside as damaged-1-c1, computed again",
        f"{path}/state-2 goes with c1, which is missing or damaged; computed again from the start",
    ]
    before = (path / "c2/phi.npy").stat().st_mtime_ns
    for piece, value in (("c1", np.ones((2, 2))), ("c2", np.zeros((2, 2)))):
        draft.write(piece, {"phi": value})
    assert (path / "c2/phi.npy").stat().st_mtime_ns == before, "an intact piece stays"
    assert go_on(tmp_path)[1] == 2, "the state goes with the piece as it was"


@pytest.mark.parametrize("gone", ["c2", "c2/hashes.json"])
def test_a_missing_piece_before_a_state_starts_work_anew(tmp_path, gone):
    path = make_begun(tmp_path)
    (path / gone).rename(tmp_path / "elsewhere")
    draft, done, _, lines = go_on(tmp_path)
    assert (done, sorted(draft.pieces)) == (0, ["c1"])
    assert lines == [f"{path}/state-2 goes with c2, which is missing or damaged; computed again from the start"]
    draft.write("c2", {"phi": np.zeros((2, 2))})
    assert lines[1:] == (
        []
        if gone == "c2"
        else [f"{path}/c2 is damaged (hashes.json: missing); set aside as damaged-1-c2, computed again"]
    )
    assert go_on(tmp_path)[1] == 2


def test_a_state_that_was_being_deleted_does_not_matter(tmp_path):
    path = make_begun(tmp_path)
    folders.write(path / "state-3", {"leaf0": STATE["n"]})
    (path / "state-3" / "hashes.json").unlink()  # deleted first
    draft, done, _, lines = go_on(tmp_path)
    assert (done, lines) == (2, [])
    draft.save(3, STATE)
    assert [state.name for state in path.glob("state-*")] == ["state-3"]


def test_what_others_put_there_stays_and_is_not_read(tmp_path):
    path = make_finished(tmp_path)
    strangers = [
        tmp_path / ".DS_Store",
        tmp_path / ".git.bak" / "x",
        tmp_path / "notes" / "units.json",
        tmp_path / "0123456789abcdef.bak" / "units.json",
        path / ".DS_Store",
        path / ".draft-notes" / "x",
        path / ".units.json.bak",
        path / "notes" / "x",
        path / "state-x" / "x",
        path / "c1" / ".DS_Store",
        path / "c1" / "copy.npy",
        path / "c1" / "._phi.npy",
    ]
    for stranger in strangers:
        stranger.parent.mkdir(exist_ok=True)
        stranger.write_text("kept")
    lines = []
    kept = artifacts.Artifacts(tmp_path, warn=lines.append)
    assert kept.finished("a")
    assert set(kept.read("a", "c1")) == {"phi", "correct"}
    assert make_finished(tmp_path, lines.append) == path
    assert lines == []
    assert all(stranger.read_text() == "kept" for stranger in strangers)


def test_the_index_says_format_units_and_pieces(tmp_path):
    path = make_finished(tmp_path)
    index = json.loads((path / artifacts.INDEX).read_text())
    assert set(index) == {"format", "units", "pieces", "check"}
    assert (index["format"], index["units"], list(index["pieces"])) == (1, ["a", "b"], ["c1", "c2"])
    assert index["pieces"]["c1"] == hashes.digest((path / "c1" / "hashes.json").read_bytes())
    listed = json.loads((path / "c1" / "hashes.json").read_text())["files"]
    assert listed == {name: hashes.digest((path / "c1" / name).read_bytes()) for name in ("phi.npy", "correct.npy")}
    assert not any(files.is_draft(file) for file in path.iterdir())


def finish(kept, *units, **pieces):
    """An artifact of some units; returns its folder."""
    draft = kept.begin(units, size=len(units))
    for piece in pieces or {"c1": 0}:
        draft.write(piece, {"x": np.arange(len(units))})
    kept.finish(draft)
    return draft.path


def test_artifacts_none_of_whose_units_is_wanted_are_deleted(tmp_path):
    kept = artifacts.Artifacts(tmp_path)
    gone, stays, shared = finish(kept, "a", "b", c1=0, c2=0), finish(kept, "c"), finish(kept, "d", "e")
    kept.drop({"a", "b", "d"})
    for index in (kept, artifacts.Artifacts(tmp_path)):
        assert [unit for unit in "abcde" if index.finished(unit)] == ["c", "d", "e"]
    assert sorted(tmp_path.iterdir()) == sorted([stays, shared])
    assert not gone.exists()


def test_files_of_others_in_an_artifact_that_is_deleted_stay(tmp_path):
    kept = artifacts.Artifacts(tmp_path)
    path = finish(kept, "a")
    (path / "notes.txt").write_text("mine")
    (path / "c1" / "mine.npy").write_text("mine too")
    (path / "export").mkdir()
    (path / "export" / "x.npy").write_text("mine as well")
    kept.drop({"a"})
    left = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
    assert left == ["c1/mine.npy", "export/x.npy", "notes.txt"]
    assert not artifacts.Artifacts(tmp_path).finished("a")


@pytest.mark.parametrize("deleted", [0, 1])
def test_a_process_that_is_killed_while_it_deletes_leaves_nothing_that_counts(monkeypatch, tmp_path, deleted):
    kept = artifacts.Artifacts(tmp_path)
    path, remove, count = finish(kept, "a", c1=0, c2=0), folders.remove_listed, []

    def dying(folder):
        count.append(folder)
        if len(count) > deleted:
            raise KeyboardInterrupt
        remove(folder)

    monkeypatch.setattr(folders, "remove_listed", dying)
    with pytest.raises(KeyboardInterrupt):
        kept.drop({"a"})
    monkeypatch.undo()
    again = artifacts.Artifacts(tmp_path)
    assert not again.finished("a")
    assert not path.exists()


@pytest.mark.parametrize("piece", ["c1", ".."])
def test_a_foreign_index_deletes_nothing_but_arrays_of_its_own_artifact(tmp_path, piece):
    """The seal of an index says that it is whole, and not who wrote it."""
    path = finish(artifacts.Artifacts(tmp_path / "artifacts"), "a")
    others = [tmp_path / "mine.npy", tmp_path / "artifacts" / "mine.npy", path / "c1" / "notes.txt"]
    for other in others:
        other.write_text("mine")
    files_of = {"../../../mine.npy": "", "../mine.npy": "", str(others[0]): "", "notes.txt": "", "mine.npy": ""}
    for folder in (path / "c1", path.parent):
        (folder / hashes.LIST).write_bytes(hashes.seal({"files": files_of, "before": {}}))
    (path / artifacts.INDEX).unlink()
    (path / artifacts.DROPPED).write_bytes(hashes.seal({"pieces": {piece: ""}}))
    artifacts.Artifacts(tmp_path / "artifacts")
    assert [other.read_text() for other in others] == ["mine"] * 3
