"""The bytes of files that are not ours: plain, gzip, tar and zip, unpacked within a budget and checked to be text.

Every reader's bytes come through here. A small file may claim or unpack to far more than a machine has, so whatever is
read is counted, also what an archive says about itself, and past the budget there is one line instead of more memory.
"""

import contextlib
import errno
import gzip
import io
import os
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, cast

import polars as pl

from fedmia_jax import errors
from fedmia_jax.data import records

MOST_LINE_BYTES = 16 * 2**20  # of one line of text
MOST_LINES = 50_000_000  # of a text within the usual budget, since a table may take more than the bytes of its lines
UNBOUNDED = sys.maxsize - 1  # the budget of a reader that holds no more than a block

_BLOCK_BYTES = 16 * 2**20
_MOST_HEADER_BYTES = 2**20  # of what an archive says about its members, at a time
_MOST_MEMBERS = 10_000  # of an archive, passed over in search of a file
_GZIP_MAGIC, _BYTE_ORDER_MARK = b"\x1f\x8b", b"\xef\xbb\xbf"
# What the csv parser takes for the beginning of a compressed file, which it would unpack on its own, without a budget.
_PACKED = (b"\x1f\x8b", b"x\x01", b"x^", b"x\x9c", b"x\xda", b"\x28\xb5\x2f\xfd")
_LONE_QUOTES = (b',"', b'\n"')  # at the end of a text
_ARCHIVES = (".tgz", ".tar.gz", ".tar")
_DAMAGED = "not a whole gzip or tar file; get or make it again"
_DAMAGED_ZIP = "a damaged .npz file; make it again"


class Counted:
    """A stream that counts what it gives, and gives no more than it may.

    Attributes:
      count: bytes given so far.
      most: bytes that it gives at most.
    """

    def __init__(self, source: Any, path: str, *, most: int) -> None:
        self._source, self._path = source, path
        self._problem = too_large(most)
        self.count, self.most = 0, most

    def read(self, size: int = -1) -> bytes:
        """Gives the next bytes: as many as `size`, or all; fewer only at the end.

        Raises:
          InputError: there are more of them than `most`.
        """
        left = self.most - self.count
        content = self._source.read(left + 1 if size < 0 or size > left else size)
        self.count += len(content)
        if self.count > self.most:
            raise records.file_error(self._path, self._problem)
        return content

    def seekable(self) -> bool:
        """Whether `seek` works, for zip archives."""
        return self._source.seekable()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Goes to a place; what is given twice is counted twice."""
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        """The place."""
        return self._source.tell()

    @contextlib.contextmanager
    def header(self, start: int) -> Iterator[None]:
        """Inside the block, nothing is given that lies more than a header's length after the first `start` bytes."""
        whole = self.most, self._problem
        if start + _MOST_HEADER_BYTES < self.most:
            self.most, self._problem = start + _MOST_HEADER_BYTES, "a header larger than 1 MiB; make the file again"
        try:
            yield
        finally:
            self.most, self._problem = whole


def too_large(most: int) -> str:
    """Words that a file is over a budget of that many bytes."""
    return f"larger than {records.in_units(most)} when unpacked; give a smaller file, such as a part of its records"


@contextlib.contextmanager
def opened(path: str, *, most: int | None = None) -> Iterator[Counted]:
    """Opens a plain or gzip file for reading as one stream of plain bytes.

    Compression is recognised by content, not by name. Damage that shows while the body reads is reported as
    such.

    Args:
      path: an existing file.
      most: bytes that may be read from it, unpacked; unset: `records.MOST_BYTES`.

    Yields:
      The stream.

    Raises:
      InputError: the file cannot be opened, is larger than it may be, or is not a whole gzip or tar file.
    """
    most = records.MOST_BYTES if most is None else most
    try:
        with open(path, "rb") as plain:
            is_gzip = plain.read(2) == _GZIP_MAGIC
            plain.seek(0)
            if os.fstat(plain.fileno()).st_size > most:
                raise records.file_error(path, too_large(most))
            with gzip.open(plain, "rb") if is_gzip else contextlib.nullcontext(plain) as stream:
                yield Counted(stream, path, most=most)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error):
        raise records.file_error(path, _DAMAGED) from None
    except OSError as error:
        raise records.file_error(path, error.strerror or "cannot be read") from None


def text_blocks(path: str, *, archives: bool = False, most: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Reads text, plain or gzip, as blocks of whole lines.

    A byte order mark is dropped. Only the last block may end without a line feed.

    Args:
      path: an existing file.
      archives: the text is the first file of a tar archive where the name ends like one.
      most: bytes that the text may have; unset: `records.MOST_BYTES`, in some `MOST_LINES` lines.

    Yields:
      The 1-based number of a block's first line, and the block, of some 16 MiB.

    Raises:
      InputError: see `opened`; a line that is endless, or a NUL byte.
    """
    with opened(path, most=most) as stream:
        source = _first_file(stream, path) if archives and path.lower().endswith(_ARCHIVES) else stream
        for first, block in _whole_lines(source, path):
            if most is None and first > MOST_LINES:
                raise records.file_error(path, f"more than {MOST_LINES:,} lines; give a part of its records")
            yield first, block


def read_text(path: str) -> bytes:
    """Reads the whole of a text; see `text_blocks`."""
    content = io.BytesIO()  # grows in place, so that the text is held once
    for _, block in text_blocks(path):
        content.write(block)
    return content.getvalue()


def numbered_lines(content: bytes, path: str, *, first: int = 1) -> Iterator[tuple[int, str]]:
    """Walks through text line by line, for formats without columns and for finding what is wrong.

    Only a line feed ends a line; a carriage return before it is dropped.

    Args:
      content: plain bytes.
      path: the file, for the message.
      first: number of the first line of `content`.

    Yields:
      The 1-based number of a line and its text.

    Raises:
      InputError: a line is not UTF-8.
    """
    for number, line in enumerate(io.BytesIO(content), first):
        try:
            yield number, line.rstrip(b"\r\n").decode()
        except UnicodeDecodeError:
            raise records.file_error(path, "not UTF-8 text", line=number) from None


def parse_csv(content: bytes, **settings: Any) -> pl.DataFrame | None:
    """Parses text as a table without a header.

    Args:
      content: the text, which is never unpacked, whatever it begins with.
      settings: of `polars.read_csv`.

    Returns:
      The table; None if anything at all is wrong.
    """
    if content.startswith(_PACKED):
        content = _BYTE_ORDER_MARK + content  # text for the parser, which drops the mark again
    if content[-80:].rstrip(b"\r").endswith(_LONE_QUOTES):
        return None  # the parser would panic, and say so on its own
    try:
        return pl.read_csv(content, has_header=False, **settings)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        return None


@contextlib.contextmanager
def opened_zip(path: str) -> Iterator[zipfile.ZipFile]:
    """Opens a zip archive whose table of contents is not unreasonably large.

    Raises:
      InputError: not a zip archive, or damage, also of what is read inside the block from `zip_member`.
    """
    try:
        with open(path, "rb") as plain:
            file = Counted(plain, path, most=UNBOUNDED)
            with file.header(0):
                if not zipfile.is_zipfile(file):
                    raise records.file_error(path, "not an .npz file")
                archive = zipfile.ZipFile(file)  # reading, seeking and telling is enough
            yield archive
    except errors.InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, IndexError):
        raise records.file_error(path, _DAMAGED_ZIP) from None
    except OSError as error:
        is_damage = error.errno == errno.EINVAL  # a place before the beginning
        raise records.file_error(path, _DAMAGED_ZIP if is_damage else error.strerror or _DAMAGED_ZIP) from None


@contextlib.contextmanager
def zip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: str) -> Iterator[Counted]:
    """Opens a member of an archive; it never gives more bytes than the archive says that it has.

    Raises:
      InputError: it is packed in a way whose memory is not bounded, or larger than `records.MOST_BYTES`.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        problem = f"{records.shown(member.filename)}: packed by an unusual method; save it with numpy.savez_compressed"
        raise records.file_error(path, problem)
    if member.file_size > records.MOST_BYTES:
        raise records.file_error(path, too_large(records.MOST_BYTES))
    with archive.open(member) as stream:
        yield Counted(stream, path, most=records.MOST_BYTES)


def _whole_lines(source: Counted, path: str) -> Iterator[tuple[int, bytes]]:
    """Blocks that end with a line, without a byte order mark, each with the number of its first line."""
    first, rest = 1, b""
    block = source.read(_BLOCK_BYTES).removeprefix(_BYTE_ORDER_MARK)
    while block:
        nul = block.find(b"\0")
        if nul >= 0:
            line = first + block.count(b"\n", 0, nul)
            raise records.file_error(path, "a NUL byte; not a text file", line=line)
        lines, newline, rest = (rest + block).rpartition(b"\n")
        if newline:
            yield first, lines + newline
            first += lines.count(b"\n") + 1
        if len(rest) > MOST_LINE_BYTES:
            problem = f"longer than {records.in_units(MOST_LINE_BYTES)}; not a text of lines"
            raise records.file_error(path, problem, line=first)
        block = source.read(_BLOCK_BYTES)
    if rest:
        yield first, rest


def _first_file(stream: Counted, path: str) -> Counted:
    """The first file of a tar archive that a person has put there; nothing is written to disk."""
    with stream.header(0), _tar_damage(path):
        archive = tarfile.open(fileobj=cast(Any, stream), mode="r|")  # noqa: SIM115  # closing writes and frees nothing
    for _ in range(_MOST_MEMBERS):
        with stream.header(archive.offset), _tar_damage(path):
            member = archive.next()
        if member is None:
            raise records.file_error(path, "the archive holds no file")
        archive.members.clear()  # type: ignore[attr-defined]  # else ten thousand are kept
        if not member.isfile() or _is_left_by_system(member.name):
            continue
        if member.size > records.MOST_BYTES:
            raise records.file_error(path, too_large(records.MOST_BYTES))
        return Counted(archive.extractfile(member), path, most=records.MOST_BYTES)
    raise records.file_error(path, f"the first {_MOST_MEMBERS:,} members of the archive hold no file")


@contextlib.contextmanager
def _tar_damage(path: str) -> Iterator[None]:
    """Words whatever a damaged header makes of the parser of headers."""
    try:
        yield
    except errors.InputError:
        raise
    except (ValueError, ArithmeticError, LookupError, TypeError, RecursionError):
        raise records.file_error(path, _DAMAGED) from None


def _is_left_by_system(name: str) -> bool:
    """Whether a file is one that macOS puts into archives beside those that a person packs."""
    *folders, file = name.split("/")
    return file.startswith("._") or file == ".DS_Store" or "__MACOSX" in folders
