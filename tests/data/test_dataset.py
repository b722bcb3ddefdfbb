"""Labelled data sets: whose labels they get, what they are called, and classes that the adversary does not know."""

import dataclasses
import functools

import numpy as np
import pytest

from fedmia_jax import data, errors
from fedmia_jax.data import clustering, dataset, pools, records, synthetic

SMALL = synthetic.Options(num_records=200, num_features=12)
FILE = records.FileOptions(path="somewhere.npz")
BITS = (np.random.default_rng(0).random((60, 8)) < 0.4).astype(np.uint8)
LABELS = np.random.default_rng(1).integers(3, size=60).astype(np.int32)


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    """k-means labels are computed, and nothing is left in the user's cache."""
    compute = clustering.kmeans_labels
    monkeypatch.setattr(clustering, "kmeans_labels", functools.partial(compute, cache_dir=None))


def labelled(name, settings, /, *, seed):
    """Stands for a file with three classes."""
    del name, settings, seed
    return records.RawRecords(features=BITS, labels=LABELS, num_classes=3, title="a file, 60 records x 8 features")


def test_records_without_labels_get_those_of_k_means():
    loaded = dataset.load(dataset.Options(num_classes=4, seed=3), SMALL)
    raw = data.read("synthetic", SMALL, seed=3)
    np.testing.assert_array_equal(loaded.features, raw.features)
    np.testing.assert_array_equal(loaded.labels, clustering.kmeans_labels(raw.features, num_classes=4, seed=3))
    assert loaded.num_classes == 4
    assert loaded.title == "synthetic purchases, 200 customers x 12 items, 4 k-means classes"
    assert loaded.features_fingerprint == raw.fingerprint()[:16]


def test_unset_classes_of_k_means_are_a_hundred():
    assert dataset.load(dataset.Options(), SMALL).num_classes == dataset.DEFAULT_CLASSES == 100


@pytest.mark.parametrize("num_classes", [None, 3])
def test_labels_of_the_file_are_used(num_classes):
    loaded = dataset.load(dataset.Options(name="arrays", num_classes=num_classes), FILE, read=labelled)
    np.testing.assert_array_equal(loaded.labels, LABELS)
    assert (loaded.num_classes, loaded.title) == (3, "a file, 60 records x 8 features, 3 classes")


def test_labels_of_the_file_are_replaced_where_that_is_asked_for():
    loaded = dataset.load(dataset.Options(name="arrays", num_classes=5, cluster=True), FILE, read=labelled)
    np.testing.assert_array_equal(loaded.labels, clustering.kmeans_labels(BITS, num_classes=5, seed=0))
    assert loaded.title == "a file, 60 records x 8 features, 5 k-means classes"


def test_other_classes_than_those_of_the_file_are_refused():
    with pytest.raises(errors.InputError) as caught:
        dataset.load(dataset.Options(name="arrays", num_classes=5), FILE, read=labelled)
    assert str(caught.value) == (
        "data.num_classes=5: arrays has labels of 3 classes; leave it unset to use them, or set data.cluster=True to "
        "make classes by k-means"
    )


def test_a_reader_that_remembers_reads_once_for_several_numbers_of_classes():
    calls = []

    @functools.cache
    def read(name, settings, /, *, seed):
        calls.append((name, settings, seed))
        return data.read(name, settings, seed=seed)

    ways = [dataset.Options(num_classes=4), dataset.Options(num_classes=5), dataset.Options(num_classes=5, seed=1)]
    loaded = [dataset.load(way, synthetic.Options(num_records=200, num_features=12), read=read) for way in ways]
    assert calls == [("synthetic", SMALL, 0), ("synthetic", SMALL, 1)]
    assert len({each.fingerprint for each in loaded}) == 3
    assert len({each.features_fingerprint for each in loaded}) == 2


def test_the_fingerprint_is_of_the_labels_and_classes_too():
    loaded = dataset.load(dataset.Options(name="arrays"), FILE, read=labelled)

    def more_classes(name, settings, /, *, seed):
        return dataclasses.replace(labelled(name, settings, seed=seed), num_classes=4)

    other = dataset.load(dataset.Options(name="arrays"), FILE, read=more_classes)
    assert other.fingerprint != loaded.fingerprint


def named(title):
    return dataset.Dataset(BITS, LABELS, 3, title, "", "")


@pytest.mark.parametrize(
    ("titles", "expected"),
    [
        (["a, 9 rows, 3 classes"], "a, 9 rows, 3 classes"),
        (["a, 9 rows, 3 k-means classes", "a, 9 rows, 5 k-means classes"], "a, 9 rows, 3/5 k-means classes"),
        (["a, 3 classes", "b, 4 classes", "a, 5 classes"], "a, 3/5 classes; b, 4 classes"),
    ],
    ids=["single", "classes differ", "records differ"],
)
def test_titles_are_joined(titles, expected):
    assert dataset.join_titles([named(title) for title in titles]) == expected


def test_a_class_that_the_shadow_pool_lacks_is_one_line():
    of_class = [np.flatnonzero(label == LABELS).astype(np.int32) for label in range(3)]
    known = np.concatenate([of_class[0][5:], of_class[1][5:]])
    dealt = pools.Pools(np.concatenate([of_class[0][:5], of_class[2][:4]]), of_class[2][4:6], known)
    with pytest.raises(errors.InputError) as caught:
        dataset.check_classes(named("a"), dealt, replicate=2)
    assert str(caught.value) == (
        "data.num_classes=3: class 2 has no record in the shadow pool of replicate 2 (1 such, 6 records of the first "
        "to attack); use fewer classes, a larger data.num_shadow_pool or smaller other pools"
    )
    dataset.check_classes(
        named("a"), dataclasses.replace(dealt, federation=of_class[0][:5], test=of_class[1][:5]), replicate=2
    )
