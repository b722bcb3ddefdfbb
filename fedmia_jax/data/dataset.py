"""A labelled data set: what a reader found, with k-means labels where it found none or where they are asked for."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from fedmia_jax import config, data, errors
from fedmia_jax.data import clustering, pools

DEFAULT_CLASSES = 100


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Records with labels, on the host."""

    features: np.ndarray  # uint8[M, D] where all are bits, else f32[M, D]
    labels: np.ndarray  # i32[M] in 0..K-1
    num_classes: int
    title: str  # what it is, for titles of tables and figures
    fingerprint: str  # of features and labels
    features_fingerprint: str


def load(settings: config.Data, *, read: data.Reader = data.read) -> Dataset:
    """Reads the records that the settings name and labels them.

    Args:
      settings: reader, path, classes.
      read: reads the records without regard to classes; one that remembers serves several numbers of them.

    Returns:
      The data set.

    Raises:
      InputError: unusable file or settings; see the readers.
    """
    raw = read(dataclasses.replace(settings, num_classes=None, cluster=False), seed=settings.seed)
    num_classes, labels, title = raw.num_classes, raw.labels, raw.title
    if labels is None or settings.cluster:
        num_classes = settings.num_classes or DEFAULT_CLASSES
        labels = clustering.kmeans_labels(raw.features, num_classes=num_classes, seed=settings.seed)
        title = f"{title}, {num_classes} k-means classes"
    elif settings.num_classes not in (None, num_classes):
        raise errors.InputError(
            f"data.num_classes={settings.num_classes}: {settings.name} has labels of {num_classes} classes; leave it "
            "unset to use them, or set data.cluster=True to make classes by k-means"
        )
    else:
        title = f"{title}, {num_classes} classes"
    assert num_classes is not None
    content = hashlib.sha256(f"{raw.fingerprint()};{num_classes};".encode() + np.ascontiguousarray(labels).tobytes())
    return Dataset(raw.features, labels, num_classes, title, content.hexdigest()[:16], raw.fingerprint()[:16])


def join_titles(datasets: Sequence[Dataset]) -> str:
    """Returns one title for several data sets; those that differ in their classes only are named once."""
    found: dict[str, list[str]] = {}
    for one in datasets:
        records, _, classes = one.title.rpartition(", ")
        found.setdefault(records, []).append(classes)
    numbers = {records: [kind.partition(" ")[0] for kind in kinds] for records, kinds in found.items()}
    return "; ".join(
        f"{records}, {'/'.join(numbers[records])} {kinds[0].partition(' ')[2]}" for records, kinds in found.items()
    )


def check_classes(dataset: Dataset, dealt: pools.Pools, *, replicate: int) -> None:
    """Raises where the adversary has no record of a class that it must judge.

    Raises:
      InputError: a class of the federation's or the test pool is absent from the shadow pool.
    """
    judged = np.concatenate([dealt.federation, dealt.test])
    counts = np.bincount(dataset.labels[judged], minlength=dataset.num_classes)
    known = np.bincount(dataset.labels[dealt.shadow], minlength=dataset.num_classes)
    missing = np.flatnonzero((counts > 0) & (known == 0))
    if len(missing):
        raise errors.InputError(
            f"data.num_classes={dataset.num_classes}: class {missing[0]} has no record in the shadow pool of replicate "
            f"{replicate} ({len(missing)} such, {counts[missing[0]]} records of the first to attack); use fewer "
            "classes, a larger data.num_shadow_pool or smaller other pools"
        )
