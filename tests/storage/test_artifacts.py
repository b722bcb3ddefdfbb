"""What work leaves: whole pieces, found by fingerprint, and a state to go on from."""

import numpy as np
import pytest

from fedmia_jax import errors
from fedmia_jax.storage import artifacts

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


def test_another_stack_is_another_artifact(tmp_path):
    """A state of four rows does not fit a stack of two."""
    kept = artifacts.Artifacts(tmp_path)
    assert kept.begin(["a"], size=2).path != kept.begin(["a"], size=4).path


def test_torn_drafts_are_not_seen(tmp_path):
    draft = artifacts.Artifacts(tmp_path).begin(["a"], size=2)
    (draft.path / ".draft-c1").mkdir()
    (draft.path / ".draft-c1" / "x.npy").write_bytes(b"half")
    draft.save(1, {"w": np.zeros(2)})
    (draft.path / ".draft-state-2").mkdir()
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
