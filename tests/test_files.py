"""Files: whole or not at all; errors name them; drafts are known by their whole name."""

import errno
import os
import pathlib
import subprocess
import sys

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


def test_drafts_are_known_by_their_whole_name(tmp_path):
    path = tmp_path / ".env"
    with files.replacing(path) as file:
        (draft,) = tmp_path.iterdir()
        assert files.is_draft(draft)
        file.write(b"x")
    assert not files.is_draft(path)
    for name in (".git.bak", ".notes.md", ".env.local", ".results.parquet.ab_12xyz", "x.ab_12xyz.fedmia-draft"):
        (tmp_path / name).write_text("kept")
        assert not files.is_draft(tmp_path / name)
    named = tmp_path / ".x.ab_12xyz.fedmia-draft"
    named.mkdir()
    assert not files.is_draft(named), "a folder"
    named.rmdir()
    named.symlink_to(path)
    assert not files.is_draft(named), "a link"


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (OSError(errno.EFBIG, "File too large"), "[Errno 27] File too large: '{path}'"),
        (OSError("1000 requested and 12 written"), "[Errno 5] 1000 requested and 12 written: '{path}'"),
        (OSError(), "[Errno 5] OSError: '{path}'"),
        (PermissionError(errno.EACCES, "Permission denied", "/other"), "[Errno 13] Permission denied: '/other'"),
    ],
)
def test_an_error_names_the_file_once(tmp_path, raised, expected):
    path = tmp_path / "results.parquet"
    with pytest.raises(OSError, match=r"Errno") as caught, files.replacing(path):
        raise raised
    assert str(caught.value) == expected.format(path=path)
    assert caught.value.errno
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named_rather_than_its_draft(tmp_path):
    path = tmp_path / "figures"
    path.mkdir()
    with pytest.raises(OSError, match="Is a directory") as caught, files.replacing(path) as file:
        file.write(b"x")
    assert str(caught.value) == f"[Errno 21] Is a directory: '{path}'"
    assert os.listdir(tmp_path) == ["figures"]


LIMITED = """
import pathlib, resource, sys
import numpy as np
from fedmia_jax import files
from fedmia_jax.storage import folders

path = pathlib.Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

def write_results():
    with files.replacing(path / "results.csv") as file:
        file.write(bytes(100_000))

for write in (write_results, lambda: folders.write(path / "c1", {"phi": np.zeros(100_000)})):
    try:
        write()
    except OSError as error:
        print(error)
"""


def test_a_file_size_limit_is_an_error_with_reason_and_file(tmp_path):
    """What `ulimit -f` does to results and to arrays, of which NumPy says neither."""
    root = pathlib.Path(files.__file__).parent.parent
    limited = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], cwd=root, capture_output=True, text=True, check=True
    )
    assert limited.stdout.splitlines() == [
        f"[Errno 27] File too large: '{tmp_path}/results.csv'",
        f"[Errno 27] File too large: '{tmp_path}/c1/phi.npy'",
    ]
