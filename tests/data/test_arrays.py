"""Arrays: reading, writing, and every message."""

import zipfile

import numpy as np
import pytest

from fedmia_jax import errors
from fedmia_jax.data import arrays, records

BITS = np.array([[0, 1], [1, 1], [0, 0]])


def read(path):
    return arrays.read(records.FileOptions(path=str(path)), name="arrays", seed=0)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float64])
def test_zeros_and_ones_of_any_type_become_bytes(tmp_path, dtype):
    np.savez(tmp_path / "x.npz", features=BITS.astype(dtype))
    raw = read(tmp_path / "x.npz")
    np.testing.assert_array_equal(raw.features, BITS)
    assert raw.features.dtype == np.uint8
    assert raw.labels is None
    assert raw.num_classes is None
    assert raw.title == "arrays of x.npz, 3 records x 2 features"


@pytest.mark.parametrize(
    "values",
    [BITS * 2, BITS - 1, BITS * 0.5, np.asfortranarray(BITS + 7.25)],
    ids=["two", "negative", "half", "by column"],
)
def test_other_numbers_become_single_precision(tmp_path, values):
    np.savez(tmp_path / "x.npz", features=values)
    raw = read(tmp_path / "x.npz")
    np.testing.assert_array_equal(raw.features, values.astype(np.float32))
    assert raw.features.dtype == np.float32
    assert raw.features.flags.c_contiguous


@pytest.mark.parametrize(
    "labels",
    [np.array([2, 0, 2]), np.array([2.0, 0.0, 2.0]), np.eye(3)[[2, 0, 2]], np.eye(3, dtype=bool)[[2, 0, 2]]],
    ids=["integer", "float", "one-hot", "boolean one-hot"],
)
def test_integer_and_one_hot_labels_are_the_same(tmp_path, labels):
    np.savez(tmp_path / "x.npz", features=BITS, labels=labels, title=np.array("mine"))
    raw = read(tmp_path / "x.npz")
    np.testing.assert_array_equal(raw.labels, [2, 0, 2])
    assert (raw.labels.dtype, raw.num_classes, raw.title) == (np.int32, 3, "mine")


@pytest.mark.parametrize("labels", [None, np.array([2, 0, 2], np.int32)], ids=["no labels", "labels"])
@pytest.mark.parametrize("features", [BITS.astype(np.uint8), (BITS / 3).astype(np.float32)], ids=["bits", "numbers"])
def test_what_is_written_is_read_back(tmp_path, features, labels):
    num_classes = None if labels is None else 10
    raw = records.RawRecords(features=features, labels=labels, num_classes=num_classes, title="ten, of 3 é")
    path = tmp_path / "new" / "x.npz"
    arrays.write(path, raw)
    arrays.write(path, raw)
    again = read(path)
    assert again.fingerprint() == raw.fingerprint()
    assert (again.num_classes, again.title) == (raw.num_classes, raw.title)
    assert [entry.name for entry in path.parent.iterdir()] == ["x.npz"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    arrays.save(path, {"features": BITS})

    def fail(stream, **_):
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        arrays.save(path, {"features": BITS * 2})
    np.testing.assert_array_equal(read(path).features, BITS)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.npz"]


def test_writing_needs_the_right_ending():
    raw = records.RawRecords(features=BITS.astype(np.uint8), labels=None, num_classes=None, title="")
    with pytest.raises(errors.InputError) as caught:
        arrays.write("x.npy", raw)
    assert str(caught.value) == "data.path=x.npy: prepared records are written to a file that ends in .npz"


FLOATS = BITS * 1.5
NAN = np.where(BITS == 1, np.nan, 0.0)
CLASS = "is not a class (an integer, the first is 0)"
ONE_HOT = "is not one-hot (a single 1 among 0s)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"X": BITS, "y": BITS}, "no array called features, only: X, y"),
        ({}, "no array called features, only: nothing"),
        (
            {"features": np.array([[{}]], object)},
            "features holds Python objects, which are never unpickled; save numbers",
        ),
        ({"features": BITS[0]}, "features: shape [2], [records, features] expected"),
        ({"features": BITS[:0]}, "features: shape [0, 2], [records, features] expected"),
        ({"features": BITS.astype(str)}, "features: type <U21, numbers expected"),
        ({"features": BITS * 1j}, "features: type complex128, numbers expected"),
        (
            {"features": NAN},
            "features: row 0, column 1 (both counted from 0): nan is not a finite number",
        ),
        (
            {"features": np.array([[0.5, 1.0], [-np.inf, 1.0]])},
            "features: row 1, column 0 (both counted from 0): -inf is not a finite number",
        ),
        (
            {"features": np.array([[0.5, 1e300]])},
            "features: row 0, column 1 (both counted from 0): 1e+300 is not a finite number",
        ),
        ({"features": BITS, "labels": np.array([0, 1])}, "labels: 2 of them for 3 rows of features"),
        ({"features": BITS, "labels": np.eye(2)}, "labels: 2 of them for 3 rows of features"),
        ({"features": BITS, "labels": np.array([0, -1, 0])}, f"labels: row 1 (counted from 0): -1 {CLASS}"),
        ({"features": BITS, "labels": np.array([0, 1, 1.5])}, f"labels: row 2 (counted from 0): 1.5 {CLASS}"),
        (
            {"features": BITS, "labels": np.array([np.nan, 1, 2])},
            f"labels: row 0 (counted from 0): nan {CLASS}",
        ),
        (
            {"features": BITS, "labels": np.array([0, 2**31, 2])},
            f"labels: row 1 (counted from 0): 2147483648 {CLASS}",
        ),
        (
            {"features": BITS, "labels": np.array([[0, 1], [1, 1], [0, 1]])},
            f"labels: row 1 (counted from 0): [1 1] {ONE_HOT}",
        ),
        (
            {"features": BITS, "labels": np.array([[0, 1], [1, 0], [2, 1]])},
            f"labels: row 2 (counted from 0): [2 1] {ONE_HOT}",
        ),
        (
            {"features": BITS, "labels": np.array(["a", "b", "c"])},
            "labels: <U1[3], integers [M] or one-hot [M, K] expected",
        ),
        (
            {"features": BITS, "labels": np.array([0, 4, 1]), "num_classes": np.array(4)},
            "num_classes: an integer of 5 or more expected",
        ),
        ({"features": BITS, "title": np.array(["a", "b"])}, "title: <U1[2], one string expected"),
        ({"features": BITS, "title": np.array("a" * 10_001)}, "title: longer than 10,000 characters"),
        (
            {"features": BITS, "title": np.array([2**21], np.uint32).view("<U1")[0:1].reshape(())},
            "title: not a string of Unicode",
        ),
        (
            {"features": BITS, "labels": np.array([0, 1, 2]), "num_classes": np.array(1_000_001)},
            "num_classes: 1,000,001, 1,000,000 is the most",
        ),
        (
            {"features": BITS, "labels": np.array([0, 1, 2]), "num_classes": np.array(2**62)},
            "num_classes: 4,611,686,018,427,387,904, 1,000,000 is the most",
        ),
        (
            {"features": BITS, "labels": np.array([0, 1, 2**31 - 2])},
            "labels: of 2,147,483,647 classes, 1,000,000 is the most",
        ),
        (
            {"features": BITS, "labels": np.full((3, 90), 0.123456789)},
            f"labels: row 0 (counted from 0): [0.12345679 0.12345679 0.12345679 ... 0.12345679 0.12345679 0.12345679] "
            f"{ONE_HOT}",
        ),
        ({"a\nb": BITS}, "no array called features, only: a\\nb"),
    ],
)
def test_messages_about_the_content(tmp_path, content, message):
    path = tmp_path / "x.npz"
    np.savez(path, **content)
    with pytest.raises(errors.InputError) as caught:
        read(path)
    assert str(caught.value) == f"data.path={path}: {message}"


def test_objects_elsewhere_in_the_file_are_left_alone(tmp_path):
    np.savez(tmp_path / "x.npz", features=BITS, notes=np.array([{}], object))
    np.testing.assert_array_equal(read(tmp_path / "x.npz").features, BITS)


def test_messages_about_the_file(tmp_path):
    path = tmp_path / "x.npz"
    for content in (b"", b"label,bit\n", b"PK\x03\x04" + b"x" * 100):
        path.write_bytes(content)
        with pytest.raises(errors.InputError) as caught:
            read(path)
        assert str(caught.value) == f"data.path={path}: not an .npz file"
    np.save(tmp_path / "x.npy", BITS)
    with pytest.raises(errors.InputError) as caught:
        read(tmp_path / "x.npy")
    assert str(caught.value) == f"data.path={tmp_path / 'x.npy'}: not an .npz file"


def save_header(path, shape, dtype="<f4", numbers=b"", version=(1, 0)):
    """An archive whose features have that header, and those bytes for numbers."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    size = len(header).to_bytes(2 if version == (1, 0) else 4, "little")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("features.npy", b"\x93NUMPY" + bytes(version) + size + header + numbers)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ("(10**12,)", "<f4", "not a .npy array; a damaged .npz file, make it again"),
        (
            "(1000000, 1000000)",
            "<f4",
            "its header says 4,000,000,000,000 bytes of numbers, there are 24; make the file again",
        ),
        (
            f"({2**62}, {2**62})",
            "|u1",
            f"its header says {2**124:,} bytes of numbers, there are 24; make the file again",
        ),
        ("(3, 2)", "<f8", "its header says 48 bytes of numbers, there are 24; make the file again"),
        ("(2, 2)", "<f4", "its header says 16 bytes of numbers, there are 24; make the file again"),
        ("(-3, -2)", "<f4", "shape [-3, -2]; a damaged .npz file, make it again"),
        ("(3, 2", "<f4", "not a .npy array; a damaged .npz file, make it again"),
        ("3", "<f4", "not a .npy array; a damaged .npz file, make it again"),
        ("(3, 2)", "<x4", "not a .npy array; a damaged .npz file, make it again"),
        ("(3, " + "(" * 200 + ")" * 200 + ")", "<f4", "not a .npy array; a damaged .npz file, make it again"),
    ],
)
def test_a_header_that_claims_what_is_not_there(tmp_path, shape, dtype, message):
    path = tmp_path / "x.npz"
    save_header(path, shape, dtype, bytes(24))
    with pytest.raises(errors.InputError) as caught:
        read(path)
    assert str(caught.value) == f"data.path={path}: features: {message}"


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_headers_of_every_version_are_read(tmp_path, version):
    save_header(tmp_path / "x.npz", "(3, 2)", "<f4", np.arange(6, dtype=np.float32).tobytes(), version)
    np.testing.assert_array_equal(read(tmp_path / "x.npz").features, np.arange(6).reshape(3, 2))


def test_a_claim_over_the_budget_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    np.savez(path, features=np.ones((2, 2)))
    monkeypatch.setattr(records, "MOST_BYTES", 100)
    with pytest.raises(errors.InputError, match=r"larger than 9\.53674e-05 MiB when unpacked"):
        read(path)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("a\nb\x1b[2J\u2028\x00c", "a\\nb\\x1b[2J\\u2028\\x00c"),
        ("[/] [bold]", "[/] [bold]"),
        ("\ud800", "\\ud800"),
        ("é" * 300, "é" * 200 + "..."),
        ("", ""),
    ],
    ids=["control characters", "markup", "half a character", "long", "empty"],
)
def test_titles_are_made_fit_to_be_shown(tmp_path, title, expected):
    np.savez(tmp_path / "x.npz", features=BITS, title=np.array(title))
    assert read(tmp_path / "x.npz").title == expected


@pytest.mark.parametrize("name", ["features.npy", "features"])
def test_a_damaged_member_is_said(tmp_path, name):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"\x93NUMPY rubbish")
    with pytest.raises(errors.InputError, match=r"^data\.path=.*x\.npz: "):
        read(path)
