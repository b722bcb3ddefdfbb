"""Small files that unpack to enormous ones, or claim to; `python hostile.py FOLDER` reads them with little memory."""

import gzip
import io
import pathlib
import resource
import sys
import tarfile
import zipfile
from collections.abc import Iterator

import numpy as np

MEMORY = 6 * 2**30  # of addresses, the libraries' own included
SIZE = 6 * 2**30


def endless(line: bytes, size: int = SIZE) -> bytes:
    """Gzip of a line that repeats until there is that much of it; every part of it is a gzip file of its own."""
    part = line * (64 * 2**20 // len(line))
    return gzip.compress(part, 1, mtime=0) * -(-size // len(part))


def sparse_tgz(size: int) -> bytes:
    """A tar archive of a file that is a hole of that size, but for its first bytes."""
    member = tarfile.TarInfo("purchase")
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT)[:512])
    block[124:136], block[156:157] = b"%011o\0" % 512, b"S"
    block[386:410] = b"%011o\0%011o\0" % (0, 512)
    block[483:495] = b"\x80\0\0\0" + size.to_bytes(8, "big")
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:]))
    return gzip.compress(bytes(block) + b"1,0,1\n".ljust(512, b"1") + b"\0" * 1024, mtime=0)


def npy_header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    """The header of a .npy file, without a number."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_2_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def npz(content: bytes, *, claim: int | None = None, **others: np.ndarray) -> bytes:
    """An .npz file whose features are that content; its table of contents may claim another size."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("features.npy", content)
        for name, array in others.items():
            held = io.BytesIO()
            np.save(held, array)
            archive.writestr(f"{name}.npy", held.getvalue())
        if claim is not None:
            archive.filelist[0].file_size = claim
    return buffer.getvalue()


def hostile_files() -> Iterator[tuple[str, str, bytes]]:
    """Reader, name and content of each file."""
    zeros = endless(b"\0")
    for reader in ("purchases", "location", "orders", "baskets", "transactions"):
        yield reader, "zeros.gz", zeros
        yield reader, "line.gz", endless(b"1,", 2**26)
    yield "purchases", "sparse.tgz", sparse_tgz(10 * 2**30)
    yield "purchases", "hole.tgz", sparse_tgz(2**30)
    yield "arrays", "large.npz", npz(npy_header((SIZE // 4, 1)) + b"\0" * 1000, claim=SIZE)
    yield "arrays", "claim.npz", npz(npy_header((10**6, 10**6)))
    yield "arrays", "full.npz", npz(npy_header((2**29 - 99, 1)) + b"\0" * 1000, claim=2**31 - 400)
    yield "arrays", "classes.npz", npz_of_classes(2**62)


def npz_of_classes(num_classes: int) -> bytes:
    """Three records, and that many classes."""
    features = io.BytesIO()
    np.save(features, np.eye(3))
    return npz(features.getvalue(), labels=np.arange(3), num_classes=np.array(num_classes))


def main(folder: pathlib.Path) -> None:
    """Reads every file under a limit of addresses and prints what it is told."""
    from fedmia_jax import data, errors

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for reader, name, content in hostile_files():
        path = folder / name
        path.write_bytes(content)
        try:
            data.read(reader, data.find(reader).options(path=str(path)), seed=0)
        except errors.InputError as error:
            print(reader, str(error).replace(str(path), name))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10, "MiB")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
