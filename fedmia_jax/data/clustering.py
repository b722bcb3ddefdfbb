"""Labels for records that have none: k-means on L2-normalised rows, computed once and remembered.

Those of the default records, for all numbers of classes of the paper, come with the package: k-means takes a good part
of a first run, and processors that round otherwise end at other clusters.
"""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import warnings
import zipfile
import zlib

import numpy as np
import platformdirs
from jaxtyping import Float32, Int32

from fedmia_jax import errors
from fedmia_jax.data import arrays, records

CACHE_DIR = platformdirs.user_cache_path("fedmia_jax") / "kmeans"
PACKAGED = pathlib.Path(__file__).parent / "labels"  # written by .ci/labels

_RECIPE = 2  # Raise it whenever the same input would get other labels.


def kmeans_labels(
    features: records.Features,
    *,
    num_classes: int,
    seed: int,
    cache_dir: str | os.PathLike[str] | None = CACHE_DIR,
) -> Int32[np.ndarray, " M"]:
    """Clusters records into classes, the largest first.

    The classes of Purchases are clusters: rows are scaled to length one (rows of zeros stay) and Lloyd's
    algorithm runs once on all of them from a k-means++ start, on one thread, since several would add up their
    partial sums in whatever order they finish. Source: Shokri et al. (2017), section VI.

    Args:
      features: uint8 or float32 [M, D], finite.
      num_classes: clusters, from 2 to the number of distinct records.
      seed: of the k-means++ start.
      cache_dir: folder that remembers labels by what they depend on, beside those of the package; None computes them
        every time.

    Returns:
      int32[M] in 0..num_classes-1; class 0 is the largest, ties in the order of the start.

    Raises:
      InputError: fewer records, or fewer distinct ones, than classes, or fewer than k-means can tell apart.
    """
    features = np.ascontiguousarray(features)
    if cache_dir is None:
        return _compute(features, num_classes, seed)
    shipped = packaged(features, num_classes, seed)
    path = os.path.join(cache_dir, shipped.name)
    for known in (shipped, path):
        labels = _remembered(known, len(features), num_classes)
        if labels is not None:
            break
    else:
        labels = _compute(features, num_classes, seed)
        try:
            arrays.save(path, {"labels": labels})
        except OSError as error:  # A cache that cannot be written costs time next time, not the result.
            warnings.warn(f"k-means labels are not remembered: {path}: {error.strerror}", stacklevel=2)
    return labels


def packaged(features: records.Features, num_classes: int, seed: int) -> pathlib.Path:
    """Returns where the package has the labels of `kmeans_labels`, if it has them."""
    return PACKAGED / f"{_fingerprint(features, num_classes, seed)}.npz"


def _fingerprint(features: records.Features, num_classes: int, seed: int) -> str:
    """SHA-256 of everything the labels depend on."""
    facts = {
        "recipe": _RECIPE,
        "scikit-learn": importlib.metadata.version("scikit-learn"),
        "num_classes": num_classes,
        "seed": seed,
        "dtype": features.dtype.str,
        "shape": features.shape,
        "content": hashlib.sha256(features.data).hexdigest(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _remembered(path: str | os.PathLike[str], num_records: int, num_classes: int) -> np.ndarray | None:
    """int32[M] of an earlier call; None if there was none or its file is damaged."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            labels: np.ndarray = archive["labels"]
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    if labels.shape != (num_records,) or labels.dtype != np.int32:
        return None
    if labels.min() < 0 or labels.max() >= num_classes or np.bincount(labels, minlength=num_classes).min() == 0:
        return None
    return labels


def _compute(features: records.Features, num_classes: int, seed: int) -> Int32[np.ndarray, " M"]:
    """The recipe itself."""
    import sklearn.cluster  # Takes seconds to import, which a remembered result need not pay.
    import sklearn.exceptions
    import threadpoolctl

    rows = _normalised(features)
    _check_distinct(rows, num_classes)
    kmeans = sklearn.cluster.KMeans(
        num_classes, init="k-means++", n_init=1, random_state=seed, algorithm="lloyd", copy_x=False
    )
    with threadpoolctl.threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)  # empty clusters are refused below
        clusters = kmeans.fit_predict(rows)
    sizes = np.bincount(clusters, minlength=num_classes)
    if not sizes.all():
        problem = f"k-means tells only {np.count_nonzero(sizes)} clusters apart, the features are too alike; lower it"
        raise errors.InputError(f"data.num_classes={num_classes}: {problem}")
    by_size = np.argsort(-sizes, kind="stable")
    classes = np.argsort(by_size).astype(np.int32)
    labels: np.ndarray = classes[clusters]
    return labels


def _normalised(features: records.Features) -> Float32[np.ndarray, "M D"]:
    """Features with rows of length one; rows of zeros stay zero."""
    rows = features.astype(np.float32)
    with np.errstate(over="ignore", under="ignore"):
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    # Squares of single precision overflow or vanish from 1e19 and below 1e-19 on: those rows are measured in double.
    extreme = ((lengths < 1e-15) | ~np.isfinite(lengths))[:, 0] & rows.any(axis=1)
    exact = rows[extreme].astype(np.float64)
    rows /= np.where((lengths > 0) & np.isfinite(lengths), lengths, np.float32(1))
    rows[extreme] = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    return rows


def _check_distinct(rows: Float32[np.ndarray, "M D"], num_classes: int) -> None:
    """Raises unless there is a record for every class; stops counting at the first that suffice."""
    if num_classes > len(rows):
        raise errors.InputError(f"data.num_classes={num_classes}: more classes than the {len(rows):,} records")
    distinct: set[bytes] = set()
    for row in rows:
        distinct.add((row + np.float32(0)).tobytes())  # Adding zero turns -0 into 0.
        if len(distinct) >= num_classes:
            return
    problem = f"more classes than the {len(distinct):,} records that differ after scaling to length one"
    raise errors.InputError(f"data.num_classes={num_classes}: {problem}")
