"""Files: whole or not at all."""

import pytest

from fedmia_jax import files


def test_replacing_makes_folders_and_files(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    for text in (b"one", b"two"):
        with files.replacing(path) as file:
            file.write(text)
        assert path.read_bytes() == text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_whole(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")

    def write():
        with files.replacing(path) as file:
            file.write(b"new")
            file.flush()
            assert path.read_bytes() == b"old"
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
