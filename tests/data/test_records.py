"""What readers return: fingerprints, and every message."""

import dataclasses

import numpy as np
import pytest

from fedmia_jax.data import records

BITS = np.array([[0, 1], [1, 1]], np.uint8)
LABELS = np.array([1, 0], np.int32)


def raw_records(features=BITS, labels=LABELS, num_classes=2, title="two"):
    return records.RawRecords(features=features, labels=labels, num_classes=num_classes, title=title)


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


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (None, "gave a NoneType"),
        (raw_records(features=np.array([[1, np.nan]], np.float32), labels=LABELS[:1]), "features that are not finite"),
        (raw_records(features=BITS[:, :0]), "features of shape [2, 0]"),
        (raw_records(labels=LABELS + 1), "labels from 1 to 2: 0 to 2 - 1 expected"),
        (raw_records(labels=LABELS - 1), "labels from -1 to 0: 0 to 2 - 1 expected"),
    ],
)
def test_what_a_foreign_reader_gave_is_looked_at(raw, line):
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        records.check_foreign(raw)
    assert str(refused.value).startswith(line)
