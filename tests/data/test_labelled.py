"""Purchases and location: values, archives and every message."""

import gzip
import io
import pathlib
import tarfile

import numpy as np
import pytest

from fedmia_jax import data, errors
from fedmia_jax.data import records

REAL = pathlib.Path(__file__).parents[3] / "shared" / "data" / "dataset_location.tgz"


def purchases(path, num_features=3):
    settings = records.TableOptions(path=str(path), num_features=num_features)
    return data.read("purchases", settings, seed=0)


def location(path):
    return data.read("location", records.FileOptions(path=str(path)), seed=0)


def tar_bytes(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
            info.size = len(content or b"")
            archive.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


def gzip_bytes(content):
    return gzip.compress(content, mtime=0)


TEXT = b'"13",0,1,0\n100,1,1,1\r\n1,0,0,0'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("purchase", TEXT),
        ("purchase.csv", b"\xef\xbb\xbf" + TEXT + b"\n"),
        ("purchase.csv.gz", gzip_bytes(TEXT)),
        ("purchase.tgz", gzip_bytes(tar_bytes([("folder", None), ("folder/purchase", TEXT), ("x", b"?")]))),
        ("purchase.TAR.GZ", gzip_bytes(tar_bytes([("purchase", TEXT)]))),
        ("purchase.tar", tar_bytes([("purchase", TEXT)])),
    ],
    ids=["plain", "byte order mark", "gzip", "tgz in a folder", "tar.gz in capitals", "tar"],
)
def test_the_same_records_out_of_every_wrapping(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    raw = purchases(path)
    np.testing.assert_array_equal(raw.features, np.array([[0, 1, 0], [1, 1, 1], [0, 0, 0]], np.uint8))
    np.testing.assert_array_equal(raw.labels, np.array([12, 99, 0], np.int32))
    assert raw.features.dtype == np.uint8
    assert raw.features.flags.c_contiguous
    assert raw.labels.dtype == np.int32
    assert raw.num_classes == 100
    assert raw.title == f"purchases of {name}, 3 records x 3 features"
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_values_equal_those_of_a_plain_loop(tmp_path):
    random = np.random.default_rng(0)
    bits, labels = random.integers(0, 2, (500, 600)), random.integers(1, 101, 500)
    lines = [",".join([f'"{label}"', *map(str, row)]) for label, row in zip(labels, bits, strict=True)]
    path = tmp_path / "purchase"
    path.write_text("\n".join(lines) + "\n")
    raw = purchases(path, num_features=600)
    np.testing.assert_array_equal(raw.features, bits)
    np.testing.assert_array_equal(raw.labels, labels - 1)


GOOD = b"1,0,1,0\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (GOOD * 2 + b"1,0,1\n", "line 3: 2 bits after the label, data.num_features=3 expected"),
        (GOOD * 2 + b"1,0,1,0,1\n", "line 3: 4 bits after the label, data.num_features=3 expected"),
        (b"1,0,1\n", "line 1: 2 bits after the label, data.num_features=3 expected"),
        (b"1,0,1,0,0\n" * 2, "line 1: 4 bits after the label, data.num_features=3 expected"),
        (GOOD + b"\n" + GOOD, "line 2: empty line"),
        (GOOD + b"0,0,1,0\n", "line 2: label '0' is not an integer in 1..100"),
        (GOOD + b"101,0,1,0\n", "line 2: label '101' is not an integer in 1..100"),
        (GOOD + b'"-1",0,1,0\n', "line 2: label '\"-1\"' is not an integer in 1..100"),
        (GOOD + b"1.5,0,1,0\n", "line 2: label '1.5' is not an integer in 1..100"),
        (GOOD + b",0,1,0\n", "line 2: label '' is not an integer in 1..100"),
        (GOOD + b"1" * 30 + b",0,1,0\n", f"line 2: label '{'1' * 30}' is not an integer in 1..100"),
        (b"label,a,b,c\n" + GOOD, "line 1: label 'label' is not an integer in 1..100"),
        (GOOD * 16 + b"1,0,2,0\n", "line 17: field 3: '2' is not 0 or 1"),
        (GOOD + b"1,0,0,x\n", "line 2: field 4: 'x' is not 0 or 1"),
        (GOOD + b"1,,0,0\n", "line 2: field 2: '' is not 0 or 1"),
        (GOOD + b"1,0,0,\xff\n", "line 2: not UTF-8 text"),
    ],
)
def test_purchases_messages(tmp_path, content, message):
    path = tmp_path / "purchase"
    path.write_bytes(content)
    with pytest.raises(errors.InputError) as caught:
        purchases(path)
    assert str(caught.value) == f"data.path={path}: {message}"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([31] + [0] * 446, "line 2: label '31' is not an integer in 1..30"),
        ([30] + [0] * 445, "line 2: 445 bits after the label, 446 expected"),
    ],
)
def test_location_messages(tmp_path, line, message):
    path = tmp_path / "bangkok"
    path.write_text(",".join(map(str, [1] + [0] * 446)) + "\n" + ",".join(map(str, line)) + "\n")
    with pytest.raises(errors.InputError) as caught:
        location(path)
    assert str(caught.value) == f"data.path={path}: {message}"


DAMAGED = "not a whole gzip or tar file; get or make it again"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.tgz", b"hello" * 500, DAMAGED),
        ("p.tgz", b"", DAMAGED),
        ("p.tgz", gzip_bytes(TEXT), DAMAGED),
        ("p.tgz", gzip_bytes(tar_bytes([("p", GOOD * 5000)]))[:60], DAMAGED),
        ("p.tar", tar_bytes([("p", GOOD * 5000)])[:2000], DAMAGED),
        ("p.gz", gzip_bytes(TEXT)[:-9], DAMAGED),
        ("p.gz", gzip_bytes(TEXT)[:20] + b"\xff" * 30, DAMAGED),
        ("p.tgz", gzip_bytes(tar_bytes([("folder", None)])), "the archive holds no file"),
        ("p.tgz", gzip_bytes(tar_bytes([("p", b"")])), "the file is empty"),
    ],
    ids=["text", "empty", "no tar inside", "cut tgz", "cut tar", "cut gzip", "bad gzip", "only folders", "empty file"],
)
def test_archive_messages(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(errors.InputError) as caught:
        purchases(path)
    assert str(caught.value) == f"data.path={path}: {message}"


@pytest.mark.skipif(not REAL.exists(), reason="the location set is not here")
def test_the_real_location_set():
    raw = location(REAL)
    sizes = np.bincount(raw.labels)
    assert raw.features.shape == (5010, 446)
    assert raw.num_classes == 30
    assert raw.features.mean() == pytest.approx(0.120, abs=5e-4)
    assert (len(sizes), sizes.min(), sizes.max()) == (30, 97, 308)
    assert raw.title == "location of dataset_location.tgz, 5,010 records x 446 features"
