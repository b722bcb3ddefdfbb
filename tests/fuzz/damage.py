"""Kinds of damage: each a function of bytes and a generator of random numbers that gives other bytes."""

import gzip
import io
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

Damage = Callable[[bytes, np.random.Generator], bytes]

MAGICS = (
    *(b"\x1f\x8b\x08\x00", b"\x1f\x8b", b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00"),
    *(b"BZh9", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"PAR1", b"\x89PNG\r\n", b"%PDF-1.7", b"\x7fELF", b"#!/bin/sh\n"),
    *(b"\x80\x04\x95", b"id,chain,dept\n", b"customer,order,item\n", b"1,0,1\n", b"{", b"\xff\xd8", b"\x00" * 8),
)
TOKENS = (
    *(
        b"\n",
        b"\r",
        b"\r\n",
        b"\x00",
        b",",
        b'"',
        b"'",
        b" ",
        b"\t",
        b"-",
        b"1",
        b"0",
        b".",
        b"e",
        b"\\",
        b"#",
        b"\x1b[2J",
    ),
    *(
        b"nan",
        b"inf",
        b"1e999",
        b"-1",
        b"2",
        b"\xff",
        b"\xc3",
        b"\xe2\x80\xa8",
        b"\xc2\x85",
        b"None",
        b"True",
        b'"\n"',
        b"\x1a",
    ),
)
CLAIMS = (2**31 - 1, 2**31, 2**32 - 1, 2**32, 10**12, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, -1, -(2**63))


def _place(content: bytes, rng: np.random.Generator) -> int:
    """A place in the content; often near its beginning or its end, where headers are."""
    place = int(rng.integers(len(content) + 1))
    edge = int(min(len(content), rng.integers(64)))
    return (place, place, place, edge, len(content) - edge)[rng.integers(5)]


def _stretch(content: bytes, rng: np.random.Generator) -> tuple[int, int]:
    """Two places, the second not before the first; a few bytes as often as many."""
    first, second = sorted((_place(content, rng), _place(content, rng)))
    return first, second if rng.random() < 0.5 else min(second, first + int(rng.integers(1, 9)))


def _pick(choices: Any, rng: np.random.Generator) -> Any:
    return choices[int(rng.integers(len(choices)))]


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    """The end, the beginning or something in between is missing."""
    first, second = _stretch(content, rng)
    return (content[:first], content[second:], content[:first] + content[second:], content[first:second])[
        rng.integers(4)
    ]


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    """One to sixteen bits are the other way round."""
    damaged = bytearray(content)
    for _ in range(int(_pick((1, 1, 1, 2, 4, 16), rng)) if content else 0):
        damaged[min(_place(content, rng), len(content) - 1)] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def insert(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes that do not belong there: random ones, or some that mean something somewhere."""
    for _ in range(int(_pick((1, 1, 1, 2, 3), rng))):
        place = _place(content, rng)
        strange = (
            _pick(TOKENS, rng) * int(rng.integers(1, 4)) if rng.random() < 0.7 else rng.bytes(rng.integers(1, 100))
        )
        content = content[:place] + strange + content[place:]
    return content


def swap(content: bytes, rng: np.random.Generator) -> bytes:
    """Two stretches have changed places."""
    (a, b), (c, d) = sorted((_stretch(content, rng), _stretch(content, rng)))
    b, d = min(b, c), max(b, d)
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def wrong_header(content: bytes, rng: np.random.Generator) -> bytes:
    """The beginning is that of another kind of file, or nothing at all."""
    magic = _pick(MAGICS, rng) if rng.random() < 0.7 else rng.bytes(rng.integers(1, 64))
    kept = content.partition(b"\n")[2] if rng.random() < 0.3 else content[len(magic) * int(rng.integers(2)) :]
    return magic + kept


def huge_claim(content: bytes, rng: np.random.Generator) -> bytes:
    """A number says that there is far more than there is, or there is far more."""
    claim = _pick(CLAIMS, rng)
    way = rng.integers(5)
    if way == 0 and (numbers := list(re.finditer(rb"[0-9]+", content))):
        first, last = _pick(numbers, rng).span()
        return content[:first] + str(claim).encode() + content[last:]
    if way == 1 and len(content) >= 512:  # the size of a tar member, in octal or as bytes
        size = (
            b"%011o\0" % (claim % 8**11) if rng.random() < 0.5 else b"\x80\0\0\0" + (claim % 2**64).to_bytes(8, "big")
        )
        place = 124 + 512 * int(rng.integers(len(content) // 512))
        return content[:place] + size + content[place + 12 :]
    if way == 2:
        repeated = content[slice(*_stretch(content, rng))] or b"0"
        return content + repeated * (int(rng.integers(1, 6_000_000)) // len(repeated))
    size = int(_pick((2, 4, 8), rng))
    place = _place(content, rng)
    number = (claim % 2 ** (8 * size)).to_bytes(size, _pick(("little", "big"), rng))
    return content[:place] + number + content[place + size :]


def encoding(content: bytes, rng: np.random.Generator) -> bytes:
    """Text in another encoding, with byte order marks, with bytes that are no text, with other ends of lines."""
    text = content.decode("latin-1")
    place = _place(content, rng)
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: text.encode("utf-16"),
        lambda: text.encode("utf-32-be"),
        lambda: text.replace("1", "é").encode(),
        lambda: text.replace("0", "٠").encode(),  # a digit, but not of ASCII
        lambda: b"\xef\xbb\xbf" * int(rng.integers(1, 4)) + content,
        lambda: content[:place] + b"\xef\xbb\xbf" + content[place:],
        lambda: content[:place] + b"\0" * int(rng.integers(1, 9)) + content[place:],
        lambda: (
            content[:place]
            + _pick((b"\xed\xa0\x80", b"\xc0\x80", b"\xf8\x88\x80\x80\x80", b"\xff\xfe"), rng)
            + content[place:]
        ),
        lambda: content.replace(b"\n", _pick((b"\r", b"\r\n", b"\n\n", b"\x0b", b"\xe2\x80\xa8", b""), rng)),
        lambda: content[:place] + "‮\u2028\U000e0001".encode() + content[place:],
        lambda: text.encode("utf-7"),
    )
    return _pick(ways, rng)()


def nesting(content: bytes, rng: np.random.Generator) -> bytes:
    """Archives in archives, up to four deep, and names and headers of strange members before the file."""
    for _ in range(int(_pick((1, 1, 1, 2, 4), rng))):
        content = _pick((_gzip, _gzip_twice, _tar, _tar_of_strangers, _tar_sparse, _tar_of_long_names, _zip), rng)(
            content, rng
        )
    return content


def _gzip(content: bytes, rng: np.random.Generator) -> bytes:
    del rng
    return gzip.compress(content, 1, mtime=0)


def _gzip_twice(content: bytes, rng: np.random.Generator) -> bytes:
    middle = _place(content, rng)
    return b"".join(gzip.compress(half, 1, mtime=0) for half in (content[:middle], b"", content[middle:])) + b"\0" * 512


def _tar(content: bytes, rng: np.random.Generator, *before: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    way = _pick((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT), rng)
    with tarfile.open(fileobj=buffer, mode="w", format=way) as archive:
        for member in before:
            archive.addfile(member, io.BytesIO(b"strange" * 100))
        member = tarfile.TarInfo(_pick(("file", "./folder/file.csv", "/absolute", "../../above", "x" * 90), rng))
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _tar_of_strangers(content: bytes, rng: np.random.Generator) -> bytes:
    strangers = []
    for name in ("._file", ".DS_Store", "__MACOSX/._file", "link", "folder", "device", "unknown"):
        member = tarfile.TarInfo(name)
        kinds = {"link": tarfile.SYMTYPE, "folder": tarfile.DIRTYPE, "device": tarfile.CHRTYPE, "unknown": b"Z"}
        member.type, member.linkname = kinds.get(name, tarfile.REGTYPE), "/etc/passwd"
        member.size = (
            0 if member.type in (tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE) else int(rng.integers(700))
        )
        strangers += [member] if rng.random() < 0.5 else []
    return _tar(content, rng, *strangers)


def _tar_sparse(content: bytes, rng: np.random.Generator) -> bytes:
    """A sparse member of the oldest form, with holes before and perhaps an enormous one behind."""
    hole = int(_pick((0, 512, 10**6, 10 * 2**30), rng))
    header = tarfile.TarInfo("sparse")
    header.size = len(content)
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT)[:512])
    block[156:157] = b"S"
    block[386:410] = b"%011o\0%011o\0" % (_pick((0, hole), rng), len(content))
    block[483:495] = b"\x80\0\0\0" + struct.pack(">Q", hole + len(content))
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:]))
    return bytes(block) + content + b"\0" * (-len(content) % 512 + 1024)


def _tar_of_long_names(content: bytes, rng: np.random.Generator) -> bytes:
    """Headers of names that follow each other, as many as would tire a parser that calls itself."""
    block = bytearray(tarfile.TarInfo("././@LongLink").tobuf(tarfile.GNU_FORMAT)[:512])
    block[156:157] = _pick((b"L", b"K", b"x", b"g"), rng)
    block[124:136] = b"%011o\0" % 512
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:]))
    name = _pick((b"name".ljust(512, b"\0"), b"30 mtime=9999999999999999999\n".ljust(512, b"\0"), b"\xff" * 512), rng)
    return (bytes(block) + name) * int(_pick((1, 10, 2000), rng)) + _tar(content, rng)


def _zip(content: bytes, rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    method = _pick((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA), rng)
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name in ("features.npy", "labels.npy", "a\nb", "../x")[: int(rng.integers(1, 5))]:
            archive.writestr(name, content)
    return buffer.getvalue()


KINDS: dict[str, Damage] = {
    "cut": cut,
    "flip": flip,
    "insert": insert,
    "swap": swap,
    "wrong header": wrong_header,
    "huge claim": huge_claim,
    "encoding": encoding,
    "nesting": nesting,
}
