"""Files that appear whole or not at all, and errors that name the file."""

import contextlib
import errno
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

SUFFIX = ".fedmia-draft"
DRAFT = re.compile(r"\..+\.[a-z0-9_]{8}" + re.escape(SUFFIX), re.DOTALL)  # what mkstemp makes of a file's name


@contextlib.contextmanager
def replacing(path: os.PathLike | str) -> Iterator[BinaryIO]:
    """Opens a file that takes the place of `path` only when the block ends without an exception.

    Until then it is a draft beside it, whose name no other program gives.

    Raises:
      OSError: it cannot be written; the error names `path`.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path):
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=SUFFIX)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(draft, 0o644)
            os.replace(draft, path)
        except BaseException:
            pathlib.Path(draft).unlink(missing_ok=True)
            raise


def is_draft(path: pathlib.Path) -> bool:
    """Whether a file is a draft that `replacing` has left behind, of a process that was killed."""
    return bool(DRAFT.fullmatch(path.name)) and path.is_file() and not path.is_symlink()


@contextlib.contextmanager
def naming(path: os.PathLike | str) -> Iterator[None]:
    """Makes an OSError inside the block name `path` where it names no file, or only a draft.

    Raises:
      OSError: what was raised inside, with a number, a reason and a file.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None and not DRAFT.fullmatch(pathlib.Path(os.fsdecode(error.filename)).name):
            raise
        reason = error.strerror or str(error) or type(error).__name__
        raise OSError(error.errno or errno.EIO, reason, str(path)) from error
