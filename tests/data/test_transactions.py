"""Raw transactions: against a plain loop, in blocks of any size, the real sample, and every message."""

import gzip
import pathlib

import numpy as np
import pytest

from fedmia_jax import errors
from fedmia_jax.data import records, streams, transactions

REAL = pathlib.Path(__file__).parents[3] / "shared" / "data" / "transactions_sample.csv.gz"
HEAD = "id,chain,dept,category,company,brand,date,productsize,productmeasure,purchasequantity,purchaseamount"


def read(path, num_features=600):
    settings = records.TableOptions(path=str(path), num_features=num_features)
    return transactions.read(settings, name="transactions", seed=0)


def line(customer, category, amount="7.59"):
    return f"{customer},205,7,{category},107,,2012-03-02,12,OZ,1,{amount}"


def random_lines(num_lines=2000):
    random = np.random.default_rng(0)
    pairs = zip(random.integers(1, 60, num_lines) * 7, random.zipf(1.2, num_lines) % 90, strict=True)
    return [line(customer, category) for customer, category in pairs]


def naive_bits(lines, num_features):
    columns, bought = [], {}
    for fields in (text.split(",") for text in lines):
        customer, category = int(fields[0]), int(fields[3])
        if category not in columns and len(columns) < num_features:
            columns.append(category)
        bought.setdefault(customer, set()).add(category)
    rows = [[int(category in bought[customer]) for category in columns] for customer in sorted(bought)]
    return np.array([row for row in rows if any(row)], np.uint8)


@pytest.mark.parametrize("block_bytes", [100, 1000, 2**24])
@pytest.mark.parametrize("num_features", [4, 30, 600])
def test_equals_a_plain_loop_whatever_the_block(tmp_path, monkeypatch, block_bytes, num_features):
    monkeypatch.setattr(streams, "_BLOCK_BYTES", block_bytes)
    lines = random_lines(200 if block_bytes == 100 else 800)
    path = tmp_path / "transactions.csv"
    path.write_text("\n".join([HEAD, *lines]))
    raw = read(path, num_features)
    np.testing.assert_array_equal(raw.features, naive_bits(lines, num_features))
    assert raw.features.dtype == np.uint8
    assert raw.features.flags.c_contiguous
    assert raw.labels is None


@pytest.mark.parametrize("head", [[], [HEAD]], ids=["without header", "with header"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_every_spelling_of_a_file(tmp_path, head, end, compress):
    path = tmp_path / "transactions.csv.gz"
    lines = [line(9, 5), line(86, 5), line(9, 3), line(10, 44), line(86, 5)]
    path.write_bytes(compress((end.join(head + lines) + end).encode()))
    raw = read(path, num_features=2)
    np.testing.assert_array_equal(raw.features, [[1, 1], [1, 0]])
    assert raw.title == "transactions of transactions.csv.gz, 2 customers x 2 categories"


def test_the_title_says_when_there_are_fewer_categories(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(line(9, 5) + "\n" + line(8, 4))
    raw = read(path)
    np.testing.assert_array_equal(raw.features, [[0, 1], [1, 0]])
    assert raw.title == "transactions of t.csv, 2 customers x 2 categories (all there are; data.num_features=600)"


GOOD = line(9, 5) + "\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no transactions in the file"),
        (HEAD + "\n", "no transactions in the file"),
        (GOOD * 2 + "9,205,7,5\n", f"line 3: 4 fields, 11 expected ({HEAD})"),
        (HEAD + "\n" + GOOD * 15 + "9,205,7,5", f"line 17: 4 fields, 11 expected ({HEAD})"),
        (GOOD + line(9, 5) + ",1\n", f"line 2: 12 fields, 11 expected ({HEAD})"),
        (GOOD + line(9, 5) + ",1\n" + line(9, 5)[:-5] + "\n", f"line 2: 12 fields, 11 expected ({HEAD})"),
        (GOOD + line(9, 5)[:-5] + "\n" + line(9, 5) + ",1\n", f"line 2: 10 fields, 11 expected ({HEAD})"),
        (GOOD + "\n" + GOOD, f"line 2: 1 fields, 11 expected ({HEAD})"),
        (GOOD + line("x", 5), "line 2: id 'x' is not an integer"),
        (GOOD + line("", 5), "line 2: id '' is not an integer"),
        (GOOD + line(9, "5.0"), "line 2: category '5.0' is not an integer"),
        (GOOD + line(9, ""), "line 2: category '' is not an integer"),
        (GOOD + HEAD, "line 2: id 'id' is not an integer"),
        (GOOD + line(9, 5, amount="\udcff"), "line 2: not UTF-8 text"),
        ("a,b\n" + GOOD, f"line 1: a transaction or {HEAD} expected, found 'a,b'"),
    ],
)
@pytest.mark.parametrize("block_bytes", [150, 2**24])
def test_messages(tmp_path, monkeypatch, content, message, block_bytes):
    monkeypatch.setattr(streams, "_BLOCK_BYTES", block_bytes)
    path = tmp_path / "t.csv"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(errors.InputError) as caught:
        read(path)
    assert str(caught.value) == f"data.path={path}: {message}"


def test_a_cut_gzip_file_is_said(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress("\n".join(random_lines()).encode())[:-30])
    with pytest.raises(errors.InputError) as caught:
        read(path)
    assert str(caught.value) == f"data.path={path}: not a whole gzip or tar file; get or make it again"


@pytest.mark.skipif(not REAL.exists(), reason="the transactions sample is not here")
def test_the_real_sample():
    with gzip.open(REAL, "rt") as stream:
        expected = naive_bits(stream.read().splitlines(), 600)
    raw = read(REAL)
    np.testing.assert_array_equal(raw.features, expected)
    assert raw.features.shape == (2, 600)
