"""Files that are not ours: budgets, byte order marks, NUL bytes, archives, and text that looks packed."""

import gzip
import io
import pathlib
import subprocess
import sys
import tarfile
import zipfile

import hostile
import numpy as np
import pytest

from fedmia_jax import data, errors
from fedmia_jax.data import items, records, streams

ROOT = pathlib.Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data"
DAMAGED = "not a whole gzip or tar file; get or make it again"
TRANSACTION = "86246,205,7,707,1078778070,12564,2012-03-02,12,OZ,1,7.59\n"
LOCATION = ",".join(["7", *["01"[place % 3 == 0] for place in range(446)]]) + "\n"
# A few good lines for each reader of text, and what it is told.
TEXTS = {
    "purchases": ("1,0,1\n100,1,1\n", {"num_features": 2}),
    "location": (LOCATION * 3, {}),
    "orders": ("customer,order,item\n10,1,5\n9,1,5\n9,1,6\n", {"num_features": 2, "min_items": 1}),
    "baskets": ("10 9 100\n\n9 10 10 7\n100 8\n", {"num_features": 3, "min_items": 1}),
    "transactions": (TRANSACTION * 3, {"num_features": 2}),
}
NARROW = "larger than 1 MiB when unpacked; give a smaller file, such as a part of its records"


def read(name, path, **fields):
    return data.read(name, data.find(name).options(path=str(path), **fields), seed=0)


def problem_of(name, path, **fields):
    with pytest.raises(errors.InputError) as caught:
        read(name, path, **fields)
    start = f"data.path={path}: "
    assert str(caught.value).startswith(start)
    assert str(caught.value).isprintable()
    return str(caught.value).removeprefix(start)


def tar_bytes(*members, form=tarfile.GNU_FORMAT, **fields):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for field, value in fields.items():
                setattr(member, field, value)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_enormous_files_end_in_one_line_under_a_limit_of_memory(tmp_path):
    """Six GiB of zeros, an endless line, a hole of ten GiB, claims of six GiB and of 10**12 numbers; with six GiB."""
    command = [sys.executable, hostile.__file__, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    *lines, memory = done.stdout.splitlines()
    large = "larger than 2 GiB when unpacked; give a smaller file, such as a part of its records"
    expected = [
        message
        for name in TEXTS
        for message in (
            f"{name} data.path=zeros.gz: line 1: a NUL byte; not a text file",
            f"{name} data.path=line.gz: line 1: longer than 16 MiB; not a text of lines",
        )
    ]
    assert sorted(lines[:-6]) == sorted(expected)
    assert lines[-6:] == [
        f"purchases data.path=sparse.tgz: {large}",
        "purchases data.path=hole.tgz: line 2: a NUL byte; not a text file",
        f"arrays data.path=large.npz: {large}",
        "arrays data.path=claim.npz: features: its header says 4,000,000,000,000 bytes of numbers, there are 0; make "
        "the file again",
        "arrays data.path=full.npz: features: its header says 2,147,483,252 bytes of numbers, there are 2,147,483,120; "
        "make the file again",
        "arrays data.path=classes.npz: num_classes: 4,611,686,018,427,387,904, 1,000,000 is the most",
    ]
    assert int(memory.removesuffix(" MiB")) < 1024


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_text_over_the_budget_is_one_line(tmp_path, monkeypatch, name, compress):
    monkeypatch.setattr(records, "MOST_BYTES", 2**20)
    text, fields = TEXTS[name]
    path = tmp_path / "file"
    path.write_bytes(compress(text.encode() * (2**20 // len(text) + 1)))
    if name == "transactions":  # streams by, whatever its length
        assert read(name, path, **fields).features.shape == (1, 1)
    else:
        assert problem_of(name, path, **fields) == NARROW


def test_members_over_the_budget_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MOST_BYTES", 2**20)
    text = b"1,0,1\n" * 2**18
    (tmp_path / "p.tgz").write_bytes(gzip.compress(tar_bytes(("p", text))))
    assert problem_of("purchases", tmp_path / "p.tgz", num_features=2) == NARROW
    np.savez_compressed(
        tmp_path / "a.npz", features=np.zeros((600, 1000), np.uint8), labels=np.zeros((600, 1000), bool)
    )
    assert problem_of("arrays", tmp_path / "a.npz") == NARROW
    np.savez_compressed(tmp_path / "b.npz", features=np.full((600, 1000), 2, np.uint8))
    assert problem_of("arrays", tmp_path / "b.npz") == (
        "features: larger than 1 MiB in single precision; give fewer records"
    )


def test_tables_over_the_budget_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MOST_BYTES", 2**14)
    path = tmp_path / "file"
    path.write_text("".join(TRANSACTION.replace("86246", str(customer)) for customer in range(100)))
    assert problem_of("transactions", path) == (
        "a table of 100 customers x 1 categories is larger than 0.015625 MiB; lower data.num_features, or give fewer "
        "customers"
    )
    path.write_text(" ".join(map(str, range(20))) + "\n1" * 900)
    assert problem_of("baskets", path, num_features=20, min_items=1) == (
        "a table of 901 records x 20 features is larger than 0.015625 MiB; lower data.num_features or raise "
        "data.min_items"
    )


@pytest.mark.parametrize("name", ["purchases", "location", "orders", "baskets"])
def test_too_many_lines_or_items_are_one_line(tmp_path, monkeypatch, name):
    monkeypatch.setattr(streams, "MOST_LINES", 10)
    monkeypatch.setattr(streams, "_BLOCK_BYTES", 8)
    text, fields = TEXTS[name]
    path = tmp_path / "file"
    path.write_text((text + text.partition("\n")[2]) * 10)
    assert problem_of(name, path, **fields) == "more than 10 lines; give a part of its records"


def test_too_many_items_of_baskets_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(items, "MOST_ITEMS", 10)
    (tmp_path / "file").write_text("1 2 3\n4 5 6\n\n7 8")
    assert problem_of("baskets", tmp_path / "file") == "more than 10 items; give a part of its records"


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("block_bytes", [16, 2**24])
def test_a_line_without_an_end_is_one_line(tmp_path, monkeypatch, name, block_bytes):
    monkeypatch.setattr(streams, "_BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(streams, "MOST_LINE_BYTES", 2**10)
    text, fields = TEXTS[name]
    path = tmp_path / "file"
    path.write_text(text + "1" * 2000)
    lines = text.count("\n") + 1
    assert problem_of(name, path, **fields) == f"line {lines}: longer than 0.000976562 MiB; not a text of lines"


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("block_bytes", [16, 2**24])
@pytest.mark.parametrize("ending", ["file", "file.gz", "file.tar"])
def test_a_byte_order_mark_changes_nothing(tmp_path, monkeypatch, name, block_bytes, ending):
    monkeypatch.setattr(streams, "_BLOCK_BYTES", block_bytes)
    wrap = {"file": bytes, "file.gz": gzip.compress, "file.tar": lambda content: tar_bytes(("x", content))}[ending]
    if ending == "file.tar" and name not in ("purchases", "location"):
        wrap = bytes
    text, fields = TEXTS[name]
    path = tmp_path / ending
    path.write_bytes(wrap(text.encode()))
    expected = read(name, path, **fields)
    path.write_bytes(wrap(b"\xef\xbb\xbf" + text.encode()))
    assert read(name, path, **fields).fingerprint() == expected.fingerprint()


@pytest.mark.skipif(not REAL.exists(), reason="the shared data files are not here")
@pytest.mark.parametrize("name", ["orders", "baskets"])
def test_a_byte_order_mark_on_a_real_file_changes_nothing(tmp_path, name):
    real = REAL / {"orders": "valued_shoppers_orders.csv", "baskets": "retail.dat.gz"}[name]
    with streams.opened(str(real)) as stream:
        content = stream.read()
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbf" + content)
    assert read(name, tmp_path / "file").fingerprint() == read(name, real).fingerprint()


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("block_bytes", [16, 2**24])
def test_a_nul_byte_is_said_with_its_line(tmp_path, monkeypatch, name, block_bytes):
    monkeypatch.setattr(streams, "_BLOCK_BYTES", block_bytes)
    text, fields = TEXTS[name]
    path = tmp_path / "file"
    path.write_bytes(text.encode()[:-1] + b"\0\n")
    assert problem_of(name, path, **fields) == f"line {text.count(chr(10))}: a NUL byte; not a text file"


@pytest.mark.parametrize("name", ["._purchase", "folder/._purchase", ".DS_Store", "__MACOSX/purchase", "a/__MACOSX/b"])
def test_what_the_system_leaves_in_an_archive_is_passed_over(tmp_path, name):
    path = tmp_path / "p.tgz"
    path.write_bytes(gzip.compress(tar_bytes((name, b"\0\5\x16\7"), ("purchase", b"3,0,1\n"), ("other", b"?"))))
    raw = read("purchases", path, num_features=2)
    np.testing.assert_array_equal(raw.features, [[0, 1]])
    path.write_bytes(gzip.compress(tar_bytes((name, b"\0\5\x16\7"))))
    assert problem_of("purchases", path) == "the archive holds no file"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_members_that_are_no_files_are_passed_over(tmp_path, kind):
    path = tmp_path / "p.tar"
    strange = tar_bytes(("purchase", b""), type=kind, linkname="/etc/passwd")[:512]
    path.write_bytes(strange + tar_bytes(("purchase", b"3,0,1\n")))
    assert read("purchases", path, num_features=2).labels.tolist() == [2]


def test_an_archive_of_very_many_members_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "_MOST_MEMBERS", 50)
    path = tmp_path / "p.tar"
    path.write_bytes(tar_bytes(*[("._x", b"1")] * 50, ("p", b"3,0,1\n")))
    assert problem_of("purchases", path) == "the first 50 members of the archive hold no file"


def header_block(kind, size):
    """A header of a tar archive without a member."""
    block = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT)[:512])
    block[156:157], block[124:136] = kind, b"%011o\0" % size
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:]))
    return bytes(block)


@pytest.mark.parametrize("before", [b"", header_block(tarfile.REGTYPE, 0)], ids=["first", "later"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header_block(b"x", 2**30) + b"a" * 2**21, "a header larger than 1 MiB; make the file again"),
        (header_block(b"L", 2**30) + b"a" * 2**21, "a header larger than 1 MiB; make the file again"),
        ((header_block(b"L", 512) + b"a" * 512) * 1000, DAMAGED),
        (header_block(b"x", 512) + b"30 GNU.sparse.map=1,2,three,4\n".ljust(512, b"\0"), DAMAGED),
    ],
    ids=["extended header", "long name", "names of names", "damaged map"],
)
def test_headers_of_archives_are_bounded_too(tmp_path, before, content, message):
    path = tmp_path / "p.tar"
    empty = before.replace(b"x", b"._x", 1) and tar_bytes(("._x", b""))[:512]
    path.write_bytes(empty + content + tar_bytes(("p", b"3,0,1\n")))
    assert problem_of("purchases", path, num_features=2) == message


@pytest.mark.parametrize("magic", streams._PACKED)
def test_text_that_looks_packed_is_text(tmp_path, magic):
    path = tmp_path / "file"
    path.write_bytes(magic.decode("latin-1").encode() + b",order,item\n10,1,5\n9,1,5\n9,1,6\n")
    assert read("orders", path, num_features=2, min_items=1).features.tolist() == [[1, 1], [1, 0]]
    assert problem_of("purchases", path, num_features=2).startswith("line 1: label ")
    path.write_bytes(TRANSACTION.encode() + magic.decode("latin-1").encode() + TRANSACTION.encode())
    assert problem_of("transactions", path).startswith("line 2: id ")
    frame = streams.parse_csv(magic + b",2\n", schema=None)
    assert frame is None or frame.height == 1


@pytest.mark.parametrize("name", TEXTS)
def test_a_second_layer_of_gzip_is_not_unpacked(tmp_path, name):
    path = tmp_path / "file.gz"
    text, fields = TEXTS[name]
    path.write_bytes(gzip.compress(gzip.compress(text.encode(), mtime=2**30 + 2**20 + 257)))
    assert problem_of(name, path, **fields)


@pytest.mark.parametrize("end", [b'"', b',"', b'1,0,"', b'"\r', b'1,"\r\r'])
@pytest.mark.parametrize("name", TEXTS)
def test_a_quote_at_the_end_is_one_line(tmp_path, capfd, name, end):
    text, fields = TEXTS[name]
    path = tmp_path / "file"
    path.write_bytes(text.encode() + end)
    if name != "baskets":
        assert problem_of(name, path, **fields)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_an_unusual_method_of_packing_is_refused(tmp_path, method):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("features.npy", hostile.npy_header((2, 2)) + bytes(16))
    problem = "features.npy: packed by an unusual method; save it with numpy.savez_compressed"
    assert problem_of("arrays", path) == problem


def test_a_table_of_contents_is_bounded_too(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(9_000):
            archive.writestr(f"{number:0100}", b"")
    assert problem_of("arrays", path) == "a header larger than 1 MiB; make the file again"


def test_names_of_files_are_shown_on_one_line(tmp_path):
    path = tmp_path / "a\nb\x1b[2J.csv"
    with pytest.raises(errors.InputError) as caught:
        read("orders", path)
    assert str(caught.value).startswith(f"data.path={tmp_path}/a\\nb\\x1b[2J.csv: no such file; ")
    path.write_text("1 2 3\n")
    assert read("baskets", path, num_features=2, min_items=1).title.startswith("baskets of a\\nb\\x1b[2J.csv, 1 ")


def test_too_little_memory_is_one_line(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(records, "to_features", fail)
    np.savez(tmp_path / "x.npz", features=np.eye(2))
    with pytest.raises(errors.InputError) as caught:
        read("arrays", tmp_path / "x.npz")
    assert str(caught.value) == (
        "data.name=arrays: its records need more memory than is left; give a smaller file, or fewer records or features"
    )
