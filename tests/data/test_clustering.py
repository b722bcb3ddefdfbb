"""k-means labels: against scikit-learn's definitions, and the cache."""

import numpy as np
import pytest
import sklearn.cluster
import threadpoolctl

from configs import paper
from fedmia_jax import data, errors
from fedmia_jax.config import sweeps
from fedmia_jax.data import clustering, synthetic


def blobs(sizes, *, num_features=24, seed=0):
    """Bits of well separated groups, shuffled, and the group of each record."""
    random = np.random.default_rng(seed)
    groups = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    likely = np.eye(len(sizes)).repeat(num_features // len(sizes), axis=1) * 0.9 + 0.02
    return (random.random((len(groups), num_features)) < likely[groups]).astype(np.uint8), groups


def labels_of(features, num_classes, seed=0, cache_dir=None):
    return clustering.kmeans_labels(features, num_classes=num_classes, seed=seed, cache_dir=cache_dir)


def test_separated_groups_are_found_and_the_largest_is_class_0():
    features, groups = blobs([50, 400, 100, 200])
    labels = labels_of(features, 4)
    assert labels.dtype == np.int32
    agreement = (labels == np.array([3, 0, 2, 1])[groups]).mean()
    assert agreement > 0.98
    assert (np.diff(np.bincount(labels)) <= 0).all()


def test_labels_are_nearest_means_of_normalised_rows():
    random = np.random.default_rng(3)
    features = (random.random((300, 20)) < random.random((300, 1))).astype(np.uint8)
    features[:5] = 0
    labels = labels_of(features, 6)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    rows = np.divide(features, lengths, out=np.zeros(features.shape), where=lengths > 0)
    means = np.stack([rows[labels == label].mean(axis=0) for label in range(6)])
    nearest = ((rows[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == labels).mean() > 0.99
    assert len(set(labels[:5])) == 1


def test_scale_of_a_record_does_not_matter():
    features, _ = blobs([60, 40])
    scaled = features.astype(np.float32) * np.float32(4)
    np.testing.assert_array_equal(labels_of(features, 2), labels_of(scaled, 2))


def test_the_features_are_not_changed():
    features = blobs([60, 40])[0].astype(np.float32)
    before = features.copy()
    labels_of(features, 2)
    np.testing.assert_array_equal(features, before)


def test_labels_do_not_depend_on_the_number_of_threads(monkeypatch):
    fit_predict = sklearn.cluster.KMeans.fit_predict
    threads = []

    def spy(*args, **kwargs):
        threads.extend(pool["num_threads"] for pool in threadpoolctl.threadpool_info())
        return fit_predict(*args, **kwargs)

    monkeypatch.setattr(sklearn.cluster.KMeans, "fit_predict", spy)
    features = (np.random.default_rng(0).random((2000, 40)) < 0.3).astype(np.uint8)
    results = []
    for limit in (1, 2):
        with threadpoolctl.threadpool_limits(limit):
            results.append(labels_of(features, 20))
    np.testing.assert_array_equal(*results)
    assert set(threads) == {1}


def test_a_remembered_result_is_not_computed_again(tmp_path, monkeypatch):
    features, _ = blobs([60, 40])
    first = labels_of(features, 2, cache_dir=tmp_path / "new")
    assert len(list((tmp_path / "new").iterdir())) == 1
    monkeypatch.setattr(clustering, "_compute", None)
    np.testing.assert_array_equal(labels_of(features, 2, cache_dir=tmp_path / "new"), first)


@pytest.mark.parametrize(
    ("change", "num_classes", "seed"),
    [
        (lambda features: features, 3, 0),
        (lambda features: features, 2, 1),
        (lambda features: features[::-1], 2, 0),
        (lambda features: features.astype(np.float32), 2, 0),
    ],
    ids=["classes", "seed", "content", "type"],
)
def test_whatever_the_labels_depend_on_is_remembered_apart(tmp_path, change, num_classes, seed):
    features, _ = blobs([60, 40])
    labels_of(features, 2, cache_dir=tmp_path)
    labels_of(change(features), num_classes, seed, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_versions_are_part_of_what_is_remembered(tmp_path, monkeypatch):
    features, _ = blobs([60, 40])
    names = {clustering._fingerprint(features, 2, 0)}
    monkeypatch.setattr(clustering, "_RECIPE", 0)
    names.add(clustering._fingerprint(features, 2, 0))
    monkeypatch.setattr(clustering.importlib.metadata, "version", lambda _: "0")
    names.add(clustering._fingerprint(features, 2, 0))
    assert len(names) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(b"rubbish"),
        lambda path: np.savez(path, other=np.zeros(100, np.int32)),
        lambda path: np.savez(path, labels=np.zeros(99, np.int32)),
        lambda path: np.savez(path, labels=np.full(100, 2, np.int32)),
        lambda path: np.savez(path, labels=np.array([{}], object)),
        lambda path: np.savez(path, labels=np.zeros(100, np.int32)),
    ],
    ids=["empty", "cut", "rubbish", "no labels", "too short", "no such class", "objects", "an empty class"],
)
def test_a_damaged_memory_is_computed_again(tmp_path, damage):
    features, _ = blobs([60, 40])
    first = labels_of(features, 2, cache_dir=tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    damage(path)
    np.testing.assert_array_equal(labels_of(features, 2, cache_dir=tmp_path), first)
    assert path.read_bytes() == whole


def test_a_memory_that_cannot_be_written_only_warns(tmp_path):
    features, _ = blobs([60, 40])
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="k-means labels are not remembered"):
        labels = labels_of(features, 2, cache_dir=tmp_path / "file")
    np.testing.assert_array_equal(labels, labels_of(features, 2))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.eye(3, dtype=np.uint8), "more classes than the 3 records"),
        (
            np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]] * np.float32([[1], [1], [1], [2], [-0.0]]),
            "more classes than the 4 records that differ after scaling to length one",
        ),
    ],
    ids=["records", "distinct records"],
)
def test_messages(features, message):
    with pytest.raises(errors.InputError) as caught:
        labels_of(features, 5)
    assert str(caught.value) == f"data.num_classes=5: {message}"


@pytest.mark.parametrize("scale", [1e20, 1e38, 1e-30, 1e-38])
def test_extreme_scales_get_the_same_labels(scale):
    """Squares of such numbers overflow or vanish in single precision."""
    features = np.random.default_rng(0).random((300, 8)).astype(np.float32)
    np.testing.assert_array_equal(labels_of(features * np.float32(scale), 10), labels_of(features, 10))


def test_lengths_of_ordinary_rows_are_those_of_single_precision():
    features = np.random.default_rng(0).random((300, 8)).astype(np.float32) * np.float32(100)
    plain = features / np.linalg.norm(features, axis=1, keepdims=True)
    features[7] *= np.float32(1e30)
    rows = clustering._normalised(features)
    np.testing.assert_array_equal(np.delete(rows, 7, 0), np.delete(plain, 7, 0))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1e20, 1e-30, 3e38, 1e-45])
def test_records_that_are_all_alike_are_one_line(value):
    with pytest.raises(errors.InputError) as caught:
        labels_of(np.full((20, 4), value, np.float32), 2)
    problem = "more classes than the 1 records that differ after scaling to length one"
    assert str(caught.value) == f"data.num_classes=2: {problem}"


def test_fewer_clusters_than_classes_are_one_line(tmp_path, monkeypatch):
    """Records that differ by a rounding count as distinct; k-means may put them together all the same."""
    features, _ = blobs([60, 40])
    monkeypatch.setattr(sklearn.cluster.KMeans, "fit_predict", lambda self, rows: np.zeros(len(rows), np.int32))
    with pytest.raises(errors.InputError) as caught:
        labels_of(features, 5, cache_dir=tmp_path)
    assert str(caught.value) == (
        "data.num_classes=5: k-means tells only 1 clusters apart, the features are too alike; lower it"
    )
    assert not list(tmp_path.iterdir())


def test_the_labels_of_the_package_are_k_means_of_the_default_records(monkeypatch, tmp_path):
    """For every number of classes of the paper: nearly a fixed point of Lloyd's algorithm, wherever it was computed."""
    config = paper.get_config("all")
    settings = sweeps.expand(config).settings
    raw = data.read("synthetic", settings.read("data", synthetic.Options), seed=settings.get("data.seed"))
    rows = clustering._normalised(raw.features)
    monkeypatch.setattr(clustering, "_compute", lambda *_: pytest.fail("computed anew: run .ci/labels"))
    numbers = config.sweep["data.num_classes"]
    assert len(list(clustering.PACKAGED.glob("*.npz"))) == len(numbers)
    for num_classes in numbers:
        labels = labels_of(raw.features, num_classes, cache_dir=tmp_path)
        sizes = np.bincount(labels, minlength=num_classes)
        assert (np.diff(sizes) <= 0).all()
        means = np.stack([rows[labels == label].mean(axis=0) for label in range(num_classes)])
        nearest = ((means**2).sum(axis=1) - 2 * rows @ means.T).argmin(axis=1)
        assert (nearest == labels).mean() > 0.999
    assert not list(tmp_path.iterdir())


def test_labels_of_the_package_are_for_these_records_alone(tmp_path):
    features, _ = blobs([60, 40])
    labels_of(features, 2, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
