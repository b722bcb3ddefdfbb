"""Orders and baskets: against a plain loop, the real files, and every message."""

import collections
import gzip
import pathlib

import numpy as np
import pytest

from fedmia_jax import data, errors
from fedmia_jax.data import items

REAL = pathlib.Path(__file__).parents[3] / "shared" / "data"


def read(name, path, **fields):
    return data.read(name, items.Options(path=str(path), **fields), seed=0)


def naive_bits(records, num_features, min_items):
    counts = collections.Counter(item for _, held in records for item in set(held))
    kept = sorted(counts, key=lambda item: (-counts[item], item))[:num_features]
    rows = [[int(item in set(held)) for item in kept] for _, held in records]
    return np.array([row for row in rows if sum(row) >= min_items], np.uint8)


def random_records(*, spell, seed):
    random = np.random.default_rng(seed)
    customers = random.permutation(200)[:80]
    return [(spell(who), [spell(item) for item in random.zipf(1.3, 12) % 120]) for who in customers]


def write_orders(path, records, seed=0):
    rows = [f"{who},{order},{item}" for who, held in records for order, item in enumerate(held)]
    np.random.default_rng(seed).shuffle(rows)
    path.write_text("CUSTOMER,ORDER,ITEM\r\n" + "\r\n".join(rows) + "\r\n")


@pytest.mark.parametrize("spell", [int, lambda number: f"id{number}"], ids=["integers", "strings"])
@pytest.mark.parametrize("min_items", [None, 1, 6])
def test_orders_equal_a_plain_loop(tmp_path, spell, min_items):
    records = random_records(spell=spell, seed=1)
    path = tmp_path / "orders.csv"
    write_orders(path, records)
    raw = read("orders", path, num_features=20, min_items=min_items)
    expected = naive_bits(sorted(records), 20, min_items or 3)
    np.testing.assert_array_equal(raw.features, expected)
    assert raw.features.dtype == np.uint8
    assert raw.labels is None
    assert raw.num_classes is None
    assert raw.title == f"orders of orders.csv, {len(expected)} customers x 20 items"


@pytest.mark.parametrize("spell", [int, lambda number: f"id{number}"], ids=["integers", "strings"])
@pytest.mark.parametrize("min_items", [None, 1, 6])
def test_baskets_equal_a_plain_loop(tmp_path, spell, min_items):
    records = random_records(spell=spell, seed=2)
    path = tmp_path / "retail.dat.gz"
    text = "\n".join(" ".join(map(str, held)) + " " for _, held in records)
    path.write_bytes(gzip.compress(text.encode()))
    raw = read("baskets", path, num_features=20, min_items=min_items)
    expected = naive_bits(records, 20, min_items or 5)
    np.testing.assert_array_equal(raw.features, expected)
    assert raw.title == f"baskets of retail.dat.gz, {len(expected)} baskets x 20 items"


def test_ties_go_to_the_smaller_item_as_a_number(tmp_path):
    path = tmp_path / "baskets"
    path.write_text("10 9 100\n\n9 10 10 7\n100 8\n")
    raw = read("baskets", path, num_features=3, min_items=1)
    np.testing.assert_array_equal(raw.features, [[1, 1, 1], [1, 1, 0], [0, 0, 1]])


def test_customers_ascend_as_numbers_or_as_text(tmp_path):
    path = tmp_path / "orders"
    path.write_text("c,o,i\n10,1,5\n9,1,5\n9,1,6\n")
    np.testing.assert_array_equal(read("orders", path, num_features=2, min_items=1).features, [[1, 1], [1, 0]])
    path.write_text("c,o,i\n10,1,5\n9,1,5\n9,1,6\nx,1,5\n")
    np.testing.assert_array_equal(read("orders", path, num_features=2, min_items=1).features, [[1, 0], [1, 1], [1, 0]])


def test_quoted_fields_of_orders_are_one_field(tmp_path):
    path = tmp_path / "orders.csv"
    path.write_text('customer,order,item\n"a, b",1,"x,y"\nc,1,"x,y"\nc,1,z\n')
    np.testing.assert_array_equal(read("orders", path, num_features=2, min_items=1).features, [[1, 0], [1, 1]])


HEAD = "customer,order,item\n"
FEWER = "2 distinct items, data.num_features=3 needs at least as many"
NONE_LEFT = "no records left: none holds data.min_items=5 of the data.num_features=3 items"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("orders", "", "no orders in the file"),
        ("orders", HEAD, "no orders in the file"),
        ("orders", HEAD + "1,2,3\n1,2\n", "line 3: 2 fields, 3 expected (customer, order, item)"),
        ("orders", HEAD + "1,2\n1,2,3\n", "line 2: 2 fields, 3 expected (customer, order, item)"),
        ("orders", HEAD + '1,2,"3,4"\n1,2,3,4\n', "line 3: 4 fields, 3 expected (customer, order, item)"),
        ("orders", HEAD + "1,2,3\n\n1,2,3\n", "line 3: 0 fields, 3 expected (customer, order, item)"),
        ("orders", HEAD + "1,2,3\n,2,3\n", "line 3: the customer is empty"),
        ("orders", HEAD + "1,2,3\n1,,3\n", "line 3: the order is empty"),
        ("orders", HEAD + '1,2,""\n', "line 2: the item is empty"),
        ("orders", HEAD + "1,2,\udcff\n", "line 2: not UTF-8 text"),
        ("orders", "1,2,3\n1,2,4\n", "line 1: a header line expected (customer, order, item), found '1,2,3'"),
        ("orders", "1 2 3\n", "line 1: a header line expected (customer, order, item), found '1 2 3'"),
        ("orders", HEAD + "1,2,3\n1,2,4\n", FEWER),
        ("orders", HEAD + "1,2,3\n1,2,4\n1,2,5\n", NONE_LEFT),
        ("baskets", "", "0 distinct items, data.num_features=3 needs at least as many"),
        ("baskets", "1 2\n2 1\n", FEWER),
        ("baskets", "1 2 3\n3 4\n", NONE_LEFT),
        ("baskets", "1 2\n\udcff 4\n", "line 2: not UTF-8 text"),
    ],
)
def test_messages(tmp_path, name, content, message):
    path = tmp_path / "file"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(errors.InputError) as caught:
        read(name, path, num_features=3, min_items=5)
    assert str(caught.value) == f"data.path={path}: {message}"


@pytest.mark.skipif(not REAL.exists(), reason="the shared data files are not here")
def test_the_real_orders():
    path = REAL / "valued_shoppers_orders.csv"
    raw = read("orders", path)
    assert raw.features.shape == (9738, 600)
    assert read("orders", path, min_items=1).features.sum() / (9999 * 600) == pytest.approx(0.027, abs=5e-4)
    assert raw.title == "orders of valued_shoppers_orders.csv, 9,738 customers x 600 items"


@pytest.mark.skipif(not REAL.exists(), reason="the shared data files are not here")
def test_the_real_baskets():
    raw = read("baskets", REAL / "retail.dat.gz")
    assert raw.features.shape == (41548, 600)
    assert (np.diff(raw.features.sum(axis=0, dtype=np.int64)) <= 0).mean() > 0.5
    assert raw.features.sum(axis=1).min() == 5
