"""The registry, the checks that come before any reader, and what readers return."""

import dataclasses

import numpy as np
import pytest

from fedmia_jax import config, data, errors
from fedmia_jax.data import records

BITS = np.array([[0, 1], [1, 1]], np.uint8)
LABELS = np.array([1, 0], np.int32)
FILE_READERS = sorted(set(data.READERS) - {"synthetic"})


def raw_records(features=BITS, labels=LABELS, num_classes=2, title="two"):
    return records.RawRecords(features=features, labels=labels, num_classes=num_classes, title=title)


def test_the_names_are_the_contract():
    names = ["synthetic", "purchases", "transactions", "orders", "baskets", "location", "arrays"]
    assert list(data.READERS) == names


def test_read_hands_settings_and_seed_on(monkeypatch):
    calls = []
    monkeypatch.setitem(data.READERS, "mine", lambda settings, *, seed: calls.append((settings, seed)))
    settings = config.Data(name="mine")
    data.read(settings, seed=3)
    assert calls == [(settings, 3)]


@pytest.mark.parametrize("name", FILE_READERS)
@pytest.mark.parametrize(
    ("path", "message"),
    [
        (None, "data.path is not set: data.name={name} reads a file; give --config.data.path=FILE"),
        (
            "no/foo.csv",
            "data.path=no/foo.csv: no such file; data.name={name} reads a file; give --config.data.path=FILE",
        ),
        (".", "data.path=.: not a file; data.name={name} reads a file; give --config.data.path=FILE"),
    ],
)
def test_messages_about_the_path(name, path, message):
    with pytest.raises(errors.InputError) as caught:
        data.read(config.Data(name=name, path=path), seed=0)
    assert str(caught.value) == message.format(name=name)


def test_message_about_the_name():
    with pytest.raises(errors.InputError) as caught:
        data.read(config.Data(name="purchase"), seed=0)
    names = "synthetic, purchases, transactions, orders, baskets, location, arrays"
    assert str(caught.value) == f"data.name=purchase: one of {names} expected"


def test_equal_content_has_an_equal_fingerprint():
    assert raw_records().fingerprint() == raw_records(title="other").fingerprint()
    assert raw_records().fingerprint() == raw_records(features=np.asfortranarray(BITS)).fingerprint()
    assert len(raw_records().fingerprint()) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"features": BITS[::-1]},
        {"features": BITS.astype(np.float32)},
        {"features": BITS.reshape(1, 4), "labels": LABELS[:1]},
        {"labels": LABELS[::-1]},
        {"labels": None, "num_classes": None},
    ],
    ids=["content", "type", "shape", "labels", "no labels"],
)
def test_other_content_has_another_fingerprint(change):
    assert raw_records(**change).fingerprint() != raw_records().fingerprint()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"features": BITS.astype(np.float64)},
            "features=float64[2, 2]: uint8[M, D] or float32[M, D] expected",
        ),
        ({"features": BITS[0]}, "features=uint8[2]: uint8[M, D] or float32[M, D] expected"),
        ({"labels": LABELS[:1]}, "labels=int32[1]: int32[2] expected"),
        ({"labels": LABELS.astype(np.int64)}, "labels=int64[2]: int32[2] expected"),
        ({"num_classes": None}, "num_classes=None: set exactly where labels are"),
        ({"labels": None}, "num_classes=2: set exactly where labels are"),
    ],
)
def test_messages_about_what_a_reader_returns(change, message):
    with pytest.raises(ValueError, match="=") as caught:
        raw_records(**change)
    assert str(caught.value) == message


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        raw_records().title = "other"  # type: ignore[misc]
