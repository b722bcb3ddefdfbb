"""The registry of data sets, their options, foreign readers, and the checks that come before any reader."""

import dataclasses

import numpy as np
import pytest

from fedmia_jax import data, errors, options
from fedmia_jax.data import contract, dataset, pools, records

NAMES = ["synthetic", "purchases", "transactions", "orders", "baskets", "location", "arrays"]

FOREIGN = """
import dataclasses

import numpy as np

from fedmia_jax import options
from fedmia_jax.data import contract, records


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(records.FeatureOptions):
    chance: float = options.option(0.5, "chance of a bit", low=0.0, high=1.0)


def read(settings, *, name, seed):
    bits = np.random.default_rng(seed).random((30, settings.num_features)) < settings.chance
    return records.RawRecords(features=bits.astype(np.uint8), labels=None, num_classes=None, title=name)


COINS = contract.Factory(read, Options)
"""


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """The name of a reader in a module outside of the package."""
    (tmp_path / "coins_of_a_stranger.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(tmp_path)
    return "coins_of_a_stranger:COINS"


def test_the_names_are_the_contract():
    assert list(data.READERS) == NAMES


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("synthetic", {"num_features": 600, "num_records": 60_000}),
        ("purchases", {"path": None, "num_features": 600}),
        ("transactions", {"path": None, "num_features": 600}),
        ("orders", {"path": None, "num_features": 600, "min_items": None}),
        ("baskets", {"path": None, "num_features": 600, "min_items": None}),
        ("location", {"path": None}),
        ("arrays", {"path": None}),
    ],
)
def test_every_reader_declares_what_it_reads(name, expected):
    assert dataclasses.asdict(data.find(name).options()) == expected


def test_the_options_of_all_readers_stand_in_one_group():
    """Options that several readers share are declared alike, and none is traced: records are made on the host."""
    readers = [factory.options for factory in data.READERS.values()]
    declared = options.declared(dataset.Options, pools.Options, *readers)
    assert set(declared) == {
        *("name", "num_classes", "cluster", "seed"),
        *("num_federation", "num_test", "num_shadow_pool", "partition", "alpha", "sizes", "canary_rate"),
        *("path", "num_features", "num_records", "min_items"),
    }
    assert not any(declaration.traced for declaration in declared.values())


def test_read_hands_settings_name_and_seed_on(monkeypatch):
    calls = []
    raw = records.RawRecords(features=np.eye(2, dtype=np.uint8), labels=None, num_classes=None, title="two")

    def reader(settings, *, name, seed):
        calls.append((settings, name, seed))
        return raw

    monkeypatch.setitem(data.READERS, "mine", contract.Factory(reader))
    settings = options.NoOptions()
    assert data.read("mine", settings, seed=3) is raw
    assert calls == [(settings, "mine", 3)]


def test_a_foreign_reader_is_found_and_read(foreign):
    factory = data.find(foreign)
    raw = data.read(foreign, factory.options(num_features=4, chance=0.25), seed=5)
    np.testing.assert_array_equal(raw.features, np.random.default_rng(5).random((30, 4)) < 0.25)
    assert raw.title == foreign
    assert options.declared(*(known.options for known in data.READERS.values()), factory.options)["chance"]


def test_a_foreign_data_set_is_labelled_like_any_other(foreign, monkeypatch):
    monkeypatch.setattr(dataset.clustering, "kmeans_labels", lambda features, **_: np.zeros(len(features), np.int32))
    reader_settings = data.find(foreign).options(num_features=4)
    loaded = dataset.load(dataset.Options(name=foreign, num_classes=2), reader_settings)
    assert (loaded.features.shape, loaded.title) == ((30, 4), f"{foreign}, 2 k-means classes")


@pytest.mark.parametrize("name", NAMES[1:])
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
    ids=["unset", "missing", "folder"],
)
def test_messages_about_the_path(name, path, message):
    settings = data.find(name).options(path=path)
    assert isinstance(settings, records.FileOptions)
    with pytest.raises(errors.InputError) as caught:
        data.read(name, settings, seed=0)
    assert str(caught.value) == message.format(name=name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("purchase", "data.name='purchase': {choices}"),
        ("no_such_module:READER", "data.name='no_such_module:READER': No module named 'no_such_module'; {choices}"),
        (
            "fedmia_jax.data.arrays:read",
            "data.name='fedmia_jax.data.arrays:read': function, not data.contract.Factory; {choices}",
        ),
    ],
    ids=["unknown", "no module", "no factory"],
)
def test_messages_about_the_name(name, message):
    choices = f"must be one of {', '.join(NAMES)}, or package.module:name"
    with pytest.raises(errors.InputError) as caught:
        data.read(name, options.NoOptions(), seed=0)
    assert str(caught.value) == message.format(choices=choices)
