"""Damaged files through every reader: valid records or one line, within the budget, and nothing else is touched.

The short form runs with all tests. The long form is `FEDMIA_FUZZ=20000 python -m pytest tests/fuzz -s`: that many
damaged files in one process, equally many for each reader and kind of damage, counted at the end.
"""

import collections
import gzip
import io
import math
import os
import resource
import tarfile
import zipfile
from collections.abc import Callable

import damage
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from fedmia_jax import data, errors
from fedmia_jax.data import items, records, streams

NUM_EXAMPLES = int(os.environ.get("FEDMIA_FUZZ", 300))
BUDGET = 4 * 2**20
MOST_MEMORY = 600 * 2**20  # by which the process may grow, with whatever readers import and allocators keep
NUM_FEATURES = 5

Wrap = Callable[[bytes], bytes]


def text_of_bits(num_bits: int, num_classes: int) -> bytes:
    rng = np.random.default_rng(0)
    rows = [[f'"{rng.integers(num_classes) + 1}"', *map(str, rng.integers(0, 2, num_bits))] for _ in range(8)]
    return "\n".join(map(",".join, rows)).encode() + b"\n"


def text_of_orders(ident: str) -> bytes:
    rng = np.random.default_rng(0)
    rows = [f"{ident}{rng.integers(9)},{order},{ident}{rng.integers(12)}" for order in range(80)]
    return "\n".join(["customer,order,item", *rows]).encode() + b"\n"


def text_of_baskets(ident: str) -> bytes:
    rng = np.random.default_rng(0)
    return "\n".join(" ".join(f"{ident}{item}" for item in rng.integers(0, 12, 8)) for _ in range(20)).encode()


def text_of_transactions(head: bool) -> bytes:
    rng = np.random.default_rng(0)
    rows = [f"{rng.integers(86, 99)},205,7,{rng.integers(9)},107,5,2012-03-02,12,OZ,1,7.59" for _ in range(40)]
    names = "id,chain,dept,category,company,brand,date,productsize,productmeasure,purchasequantity,purchaseamount"
    return "\n".join([names, *rows][not head :]).encode() + b"\n"


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def in_tar(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, held in (("._data", b"left by the system"), ("folder/data", content)):
            member = tarfile.TarInfo(name)
            member.size = len(held)
            archive.addfile(member, io.BytesIO(held))
    return buffer.getvalue()


def in_gzip(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


def in_tgz(content: bytes) -> bytes:
    return in_gzip(in_tar(content))


def in_npz(name: str, **others: np.ndarray) -> Wrap:
    def wrap(content: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{name}.npy", content)
            for other, array in others.items():
                archive.writestr(f"{other}.npy", npy(array))
        return buffer.getvalue()

    return wrap


BITS, NUMBERS = np.eye(7, NUM_FEATURES, dtype=np.uint8), np.arange(35.0).reshape(7, 5)
LABELS, TITLE = np.arange(7) % 3, np.array("seven records")
TEXTS = {
    "purchases": [text_of_bits(NUM_FEATURES, 100)],
    "location": [text_of_bits(446, 30)],
    "orders": [text_of_orders(""), text_of_orders("née ")],
    "baskets": [text_of_baskets(""), text_of_baskets("id")],
    "transactions": [text_of_transactions(True), text_of_transactions(False)],
}
WRAPS: dict[str, Wrap] = {"txt": bytes, "txt.gz": in_gzip, "tar": in_tar, "tgz": in_tgz}
# By reader: the ending of the file's name, what is in the file, and how it is wrapped.
SEEDS: dict[str, list[tuple[str, bytes, Wrap]]] = {
    name: [
        (ending, text, wrap)
        for text in texts
        for ending, wrap in WRAPS.items()
        if name in ("purchases", "location") or ending.startswith("txt")
    ]
    for name, texts in TEXTS.items()
}
SEEDS["arrays"] = [
    ("npz", npy(BITS), in_npz("features", labels=LABELS, title=TITLE, num_classes=np.array(4))),
    ("npz", npy(NUMBERS), in_npz("features", labels=np.eye(3)[LABELS])),
    ("npz", npy(LABELS), in_npz("labels", features=BITS)),
    ("npz", npy(np.eye(3)[LABELS]), in_npz("labels", features=NUMBERS)),
    ("npz", npy(np.array(4)), in_npz("num_classes", features=BITS, labels=LABELS)),
    ("npz", npy(TITLE), in_npz("title", features=BITS)),
]
COUNTS: collections.Counter[tuple[str, str, str]] = collections.Counter()


def make_file(reader: str, kind: str, number: int) -> tuple[str, bytes]:
    """The name and the content of a damaged file; inside its wrapping, outside, or both."""
    rng = np.random.default_rng(number)
    ending, content, wrap = SEEDS[reader][rng.integers(len(SEEDS[reader]))]
    where = rng.integers(5)
    if where < 3:
        content = damage.KINDS[kind](content, rng)
    content = wrap(content)
    if where > 1:
        content = damage.KINDS[kind](content, rng)
    return f"data.{ending}", content


def check_records(raw: records.RawRecords) -> None:
    assert raw.features.flags.c_contiguous
    assert min(raw.features.shape) > 0
    assert raw.features.nbytes <= BUDGET
    assert np.isfinite(raw.features).all()
    assert raw.features.dtype == np.float32 or raw.features.max() <= 1
    if raw.labels is not None:
        assert 0 <= raw.labels.min() <= raw.labels.max() < raw.num_classes <= 1_000_000
    check_line(raw.title)


def check_line(text: str) -> None:
    assert text.isprintable()
    assert len(text) < 1000


class Recorded(streams.Counted):
    """A stream that is remembered."""

    all: list[streams.Counted] = []  # noqa: RUF012

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        Recorded.all.append(self)


@pytest.fixture(autouse=True)
def small_budget(monkeypatch):
    """Everything that bounds memory, a thousandth of what it is."""
    monkeypatch.setattr(records, "MOST_BYTES", BUDGET)
    monkeypatch.setattr(streams, "MOST_LINE_BYTES", 2**20)
    monkeypatch.setattr(streams, "_BLOCK_BYTES", 2**16)
    monkeypatch.setattr(streams, "MOST_LINES", 200_000)
    monkeypatch.setattr(items, "MOST_ITEMS", 200_000)
    monkeypatch.setattr(streams, "Counted", Recorded)


@pytest.fixture(scope="module", autouse=True)
def report():
    """Says what was tried, and by how much the process has grown."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"\n{sum(COUNTS.values()):,} damaged files, {grown / 2**20:.0f} MiB more than before; read/refused:")
    print(" " * 13, *(f"{kind:>12}" for kind in damage.KINDS))
    for reader in SEEDS:
        pairs = ((COUNTS[reader, kind, "read"], COUNTS[reader, kind, "refused"]) for kind in damage.KINDS)
        print(f"{reader:13}", *(f"{f'{read}/{refused}':>12}" for read, refused in pairs))
    assert grown < MOST_MEMORY


@pytest.mark.parametrize("kind", damage.KINDS)
@pytest.mark.parametrize("reader", SEEDS)
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path, capfd, reader, kind):
    options = data.find(reader).options

    @hypothesis.settings(
        max_examples=math.ceil(NUM_EXAMPLES / len(SEEDS) / len(damage.KINDS)),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(strategies.integers(0, 2**64 - 1))
    def check(number: int) -> None:
        name, content = make_file(reader, kind, number)
        path = tmp_path / name
        path.write_bytes(content)
        size = {"num_features": NUM_FEATURES} if reader not in ("location", "arrays") else {}
        Recorded.all.clear()
        try:
            raw, line = data.read(reader, options(path=str(path), **size), seed=0), ""
        except errors.InputError as error:
            raw, line = None, str(error)
        COUNTS[reader, kind, "refused" if line else "read"] += 1
        if raw is None:
            assert line.startswith("data.path=")
            check_line(line)
        else:
            check_records(raw)
        assert all(stream.count <= min(stream.most, BUDGET) + 1 for stream in Recorded.all) or reader == "transactions"
        assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [(name, content)]
        path.unlink()

    check()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("reader", SEEDS)
def test_whole_files_are_read(tmp_path, reader):
    for ending, content, wrap in SEEDS[reader]:
        path = tmp_path / f"data.{ending}"
        path.write_bytes(wrap(content))
        size = {"num_features": NUM_FEATURES} if reader not in ("location", "arrays") else {}
        check_records(data.read(reader, data.find(reader).options(path=str(path), **size), seed=0))
