"""Sealed JSON, and hashes of files: whatever is changed in them is told."""

import contextlib

import pytest

from fedmia_jax.storage import hashes

CONTENTS = {"format": 1, "units": ["ab", "cd"], "numbers": [0.1, 1e-300, None, True], "text": "\u00e9\u4e2d"}


@pytest.mark.parametrize("indent", [None, 2])
def test_what_is_sealed_comes_back(indent):
    assert hashes.unseal(hashes.seal(CONTENTS, indent=indent), "x.json") == CONTENTS


@pytest.mark.parametrize("indent", [None, 2])
def test_every_flip_of_a_sealed_file_is_told_or_changes_nothing(indent):
    sealed = hashes.seal(CONTENTS, indent=indent)
    for at in range(len(sealed)):
        for bit in range(8):
            flipped = bytearray(sealed)
            flipped[at] ^= 1 << bit
            with contextlib.suppress(hashes.DamagedError):
                assert hashes.unseal(bytes(flipped), "x.json") == CONTENTS


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON: "),
        (b"7", "no JSON object"),
        (b"[]", "no JSON object"),
        (b"{}", "has no check"),
        (b'{"a": 1}', "has no check"),
        (b'{"a": 1, "check": 7}', "hash differs"),
        (b'{"a": NaN, "check": ""}', "not JSON: "),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        (b"\xef\xbb\xbf{}", "not JSON: "),
        (hashes.seal(CONTENTS)[:50], "not JSON: "),
        (hashes.seal(CONTENTS).replace(b"cd", b"ce"), "hash differs"),
        (hashes.seal({"a": 1, "b": 2}).replace(b'"a"', b'"b"'), "hash differs"),  # a name that is there twice
        pytest.param(b"[" * 100_000, "not JSON: ", id="nested"),
        pytest.param(b"9" * 10_000, "not JSON: ", id="long"),
    ],
)
def test_what_is_not_a_sealed_file_says_why(content, reason):
    with pytest.raises(hashes.DamagedError) as caught:
        hashes.unseal(content, "x.json")
    assert str(caught.value).startswith(f"x.json: {reason}")


def test_a_file_is_compared_with_its_hash(tmp_path):
    (tmp_path / "x").write_bytes(b"content")
    hashes.check(tmp_path, "x", hashes.digest(b"content"))
    for name, expected, line in (
        ("x", hashes.digest(b"other"), "x: hash differs"),
        ("x", None, "x: no hash of it in hashes.json"),
        ("y", hashes.digest(b"content"), "y: No such file or directory"),
        (".", hashes.digest(b"content"), ".: Is a directory"),
    ):
        with pytest.raises(hashes.DamagedError) as caught:
            hashes.check(tmp_path, name, expected)
        assert str(caught.value) == line


def test_what_is_written_is_hashed_on_the_way(tmp_path):
    with open(tmp_path / "x", "wb") as file:
        writer = hashes.Writer(file)
        for block in (b"some", b"", memoryview(b"thing")):
            writer.write(block)
    assert writer.digest() == hashes.digest((tmp_path / "x").read_bytes()) == hashes.digest(b"something")
