"""What work leaves: whole pieces, found by key, and a state to go on from."""

import numpy as np
import pytest

from fedmia_jax import errors, parts

TREE = {
    "params": {"Dense_0": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3) / 7}},
    "ok": np.array([True, False]),
}


def test_pieces_are_found_by_unit_and_come_back_equal(tmp_path):
    kept = parts.Parts(tmp_path)
    part = kept.part(["a", "b"], size=2)
    part.write("c1", TREE)
    assert not kept.finished("a")
    kept.finish(part)
    for found in (kept, parts.Parts(tmp_path)):
        assert found.finished("a")
        assert found.finished("b")
        assert not found.finished("c")
        second = found.read("b", "c1")
        np.testing.assert_array_equal(second["params"]["Dense_0"]["kernel"], TREE["params"]["Dense_0"]["kernel"][1])
        assert second["params"]["Dense_0"]["kernel"].dtype == np.float32
        assert second["ok"].shape == ()
        assert not second["ok"]


def test_a_piece_that_is_there_stays(tmp_path):
    part = parts.Parts(tmp_path).part(["a"], size=2)
    part.write("c1", {"x": np.ones(1)})
    part.write("c1", {"x": np.zeros(1)})
    assert np.load(part.path / "c1" / "x.npy") == 1


def test_a_state_is_gone_on_from(tmp_path):
    part = parts.Parts(tmp_path).part(["a"], size=2)
    fresh = {"w": np.zeros((2, 3), np.float32), "n": (np.int32(0), np.zeros(0))}
    assert part.load(fresh) == (0, fresh)
    for done in (1, 2):
        part.save(done, {"w": np.full((2, 3), done, np.float32), "n": (np.int32(done), np.zeros(0))})
    done, state = parts.Parts(tmp_path).part(["a"], size=2).load(fresh)
    assert done == 2
    assert (state["w"] == 2).all()
    assert state["n"][0] == 2
    assert state["n"][1].shape == (0,)
    assert [path.name for path in part.path.iterdir()] == ["state-2"]


def test_finishing_drops_the_state(tmp_path):
    kept = parts.Parts(tmp_path)
    part = kept.part(["a"], size=2)
    part.save(3, {"w": np.zeros(2)})
    kept.finish(part)
    assert [path.name for path in part.path.iterdir()] == [parts.INDEX]


def test_another_stack_is_another_part(tmp_path):
    """A state of four rows does not fit a stack of two."""
    kept = parts.Parts(tmp_path)
    assert kept.part(["a"], size=2).path != kept.part(["a"], size=4).path


def test_torn_drafts_are_not_seen(tmp_path):
    part = parts.Parts(tmp_path).part(["a"], size=2)
    (part.path / ".draft-c1").mkdir()
    (part.path / ".draft-c1" / "x.npy").write_bytes(b"half")
    part.save(1, {"w": np.zeros(2)})
    (part.path / ".draft-state-2").mkdir()
    again = parts.Parts(tmp_path)
    assert not again.finished("a")
    assert again.part(["a"], size=2).load({"w": np.ones(2)})[0] == 1
    assert {path.name for path in part.path.iterdir()} == {"state-1"}


def test_a_damaged_file_is_named(tmp_path):
    kept = parts.Parts(tmp_path)
    part = kept.part(["a"], size=2)
    part.write("c1", {"x": np.ones(3)})
    kept.finish(part)
    (part.path / "c1" / "x.npy").write_bytes(b"no array")
    with pytest.raises(errors.InputError, match=r"c1 is missing or damaged"):
        kept.read("a", "c1")
    with pytest.raises(errors.InputError, match=r"c2 is missing or damaged"):
        kept.read("a", "c2")
