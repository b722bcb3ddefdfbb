"""A labelled data set: what a reader gives, with k-means labels where it has none or where they are asked for."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32

from fedmia_jax import data, errors, options
from fedmia_jax.data import clustering, pools, records

DEFAULT_CLASSES = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Which records, and how they are labelled; the reader has options of its own."""

    name: str = options.option("synthetic", "reader of the records")
    num_classes: int | None = options.option(None, "classes; unset: the labels of the file, else 100 clusters", low=2)
    cluster: bool = options.option(False, "relabel with k-means even where the file has labels")
    seed: int = options.option(0, "seed of the synthetic records and of k-means", low=0, high=2**31 - 1)


@runtime_checkable
class Read(Protocol):
    """Reads records by the name of their data set, see `data.read`; one that remembers serves several data sets."""

    def __call__(self, name: str, settings: Any, /, *, seed: int) -> records.RawRecords: ...


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Records with labels, on the host."""

    features: records.Features
    labels: Int32[np.ndarray, " M"]  # in 0..K-1
    num_classes: int
    title: str  # what it is, for titles of tables and figures
    fingerprint: str  # of features and labels
    features_fingerprint: str


def load(settings: Options, reader_settings: Any, *, read: Read = data.read) -> Dataset:
    """Reads the records of a data set and labels them.

    Args:
      settings: name of the data set, classes, seed.
      reader_settings: values of the options that the factory of that name declares, see `data.find`.
      read: reads the records, without regard to classes; one that remembers serves several numbers of classes.

    Returns:
      The data set.

    Raises:
      InputError: unusable file or settings; see the readers.
    """
    raw = read(settings.name, reader_settings, seed=settings.seed)
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
    classes_of: dict[str, list[str]] = {}  # "100 k-means classes" and the like, by the title of the records
    for dataset in datasets:
        source, _, classes = dataset.title.rpartition(", ")
        classes_of.setdefault(source, []).append(classes)
    titles = []
    for source, several in classes_of.items():
        numbers = "/".join(classes.partition(" ")[0] for classes in several)
        titles.append(f"{source}, {numbers} {several[0].partition(' ')[2]}")
    return "; ".join(titles)


def check_classes(dataset: Dataset, dealt: pools.Pools, *, replicate: int) -> None:
    """Checks that the adversary has records of every class that it must judge.

    Args:
      dataset: the labels, and how many classes there are.
      dealt: the pools of one replicate.
      replicate: its index, for the message.

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
