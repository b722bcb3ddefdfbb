"""Folders of arrays: whole or not at all, checked file by file, never more deleted than our own."""

import numpy as np
import pytest

from fedmia_jax.storage import folders, hashes

LEAVES = {"phi": np.arange(6, dtype=np.float32).reshape(2, 3), "none": np.zeros((2, 0)), "ok": np.array(True)}


def test_arrays_come_back_bit_equal(tmp_path):
    written = folders.write(tmp_path / "c2", LEAVES, before={"c1": "ab"})
    listing = folders.check(tmp_path / "c2")
    assert listing == written
    assert listing.before == {"c1": "ab"}
    assert {path.name for path in (tmp_path / "c2").iterdir()} == {f"{name}.npy" for name in LEAVES} | {"hashes.json"}
    arrays = folders.read(tmp_path / "c2", listing)
    assert set(arrays) == set(LEAVES)
    for name, leaf in LEAVES.items():
        np.testing.assert_array_equal(arrays[name], leaf)
        assert arrays[name].dtype == leaf.dtype
        np.save(tmp_path / "usual.npy", leaf)
        assert (tmp_path / "usual.npy").read_bytes() == (tmp_path / "c2" / f"{name}.npy").read_bytes()


def test_files_of_others_are_not_read(tmp_path):
    listing = folders.write(tmp_path / "c1", LEAVES)
    for name in (".DS_Store", "._phi.npy", "copy.npy", "notes.txt"):
        (tmp_path / "c1" / name).write_text("kept")
    assert folders.check(tmp_path / "c1") == listing
    assert set(folders.read(tmp_path / "c1", listing)) == set(LEAVES)


def test_every_flip_is_told(tmp_path):
    listing = folders.write(tmp_path / "c1", {"phi": LEAVES["phi"]})
    for name in ("phi.npy", "hashes.json"):
        content = (tmp_path / "c1" / name).read_bytes()
        for at in range(len(content)):
            flipped = bytearray(content)
            flipped[at] ^= 1 << (at % 8)
            (tmp_path / "c1" / name).write_bytes(flipped)
            with pytest.raises(hashes.DamagedError):
                folders.check(tmp_path / "c1", expected=listing.digest)
        (tmp_path / "c1" / name).write_bytes(content)
    folders.check(tmp_path / "c1", expected=listing.digest)


def test_the_list_of_another_folder_is_told(tmp_path):
    listing = folders.write(tmp_path / "c1", LEAVES)
    folders.write(tmp_path / "c2", {"phi": np.ones(2)})
    with pytest.raises(hashes.DamagedError, match=r"^hashes\.json: hash differs$"):
        folders.check(tmp_path / "c2", expected=listing.digest)


def test_only_own_files_are_removed(tmp_path):
    folders.write(tmp_path / "state-1", LEAVES)
    folders.write(tmp_path / "state-2", LEAVES)
    (tmp_path / "state-2" / "notes.txt").write_text("kept")
    (tmp_path / "state-2" / "folder.npy").mkdir()
    for name in ("state-1", "state-2", "state-3"):
        folders.remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["state-2"]
    assert {path.name for path in (tmp_path / "state-2").iterdir()} == {"notes.txt", "folder.npy"}


def test_a_link_is_not_followed(tmp_path):
    folders.write(tmp_path / "c1", LEAVES)
    (tmp_path / "state-1").symlink_to(tmp_path / "c1")
    folders.remove(tmp_path / "state-1")
    folders.check(tmp_path / "c1")


def test_what_is_damaged_is_renamed_to_a_free_name(tmp_path):
    for number in (1, 2):
        folders.write(tmp_path / "c1", LEAVES)
        assert folders.set_aside(tmp_path / "c1") == tmp_path / f"damaged-{number}-c1"
        folders.check(tmp_path / f"damaged-{number}-c1")
