"""Training speed: what is measured and how it is told, not how long it took."""

import importlib.util
import io

import numpy as np
import rich.console

from fedmia_jax.config import parsing
from fedmia_jax.engine import benchmark, points

SETTINGS = parsing.from_config(
    {"data": {"num_features": 10}, "model": {"hidden": 4}, "training": {"batch_size": 64}, "shadow": {"count": 3}}
)


def test_every_way_is_measured_at_both_batch_sizes(monkeypatch):
    monkeypatch.setattr(benchmark, "NUM_RECORDS", 256)
    monkeypatch.setattr(benchmark, "TURNS", 2)
    monkeypatch.setattr(benchmark, "_jax_way", lambda *args, **sizes: lambda: None)
    table = benchmark.run(SETTINGS, rich.console.Console(file=io.StringIO()))
    assert list(table.header) == ["way", "batch", "us", "range", "times PyTorch", "first call"]
    ways = {row[0] for row in table.rows}
    torch = importlib.util.find_spec("torch") is not None
    assert {"fedmia_jax, 1 model", "fedmia_jax, 3 models"} <= ways
    assert len(ways) == 2 + torch
    assert sorted((row[0], row[1]) for row in table.rows) == sorted(
        (way, size) for way in ways for size in ("64", "128")
    )
    for row in table.rows:
        least, most = (float(bound) for bound in row[3].split("-"))
        assert 0 <= least <= float(row[2]) <= most
        assert (row[4] != "-") == torch
    assert "256 x 10, 4 units, 100 classes, adam, dropout; medians of 2 turns" in table.caption
    assert ("pip install torch" in table.caption) is not torch


def test_a_way_trains_all_of_its_models_and_compiles_once(monkeypatch, compilations):
    rng = np.random.default_rng(0)
    features, labels = rng.integers(2, size=(64, 10), dtype=np.uint8), rng.integers(4, size=64).astype(np.int32)
    monkeypatch.setattr(benchmark, "NUM_RECORDS", 64)
    way = benchmark._jax_way(points.Plans(SETTINGS), features, labels, batch_size=64, num_models=2)
    state, finite = way()
    assert np.asarray(finite).tolist() == [True, True]
    assert {leaf.shape[0] for leaf in (state.params["Dense_0"]["kernel"], state.params["Dense_1"]["kernel"])} == {2}
    with compilations() as names:
        way()
    assert names == []


def test_a_way_says_how_many_steps_it_makes(monkeypatch):
    """The last batch is partial; several models make as many steps each."""
    monkeypatch.setattr(benchmark, "NUM_RECORDS", 257)
    monkeypatch.setattr(benchmark.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(benchmark, "_jax_way", lambda plans, features, labels, **sizes: features.shape)
    ways = benchmark.make_ways(points.Plans(SETTINGS), batch_size=64)
    assert {name: steps for name, (_, steps) in ways.items()} == {"fedmia_jax, 1 model": 5, "fedmia_jax, 3 models": 15}
    assert {shape for shape, _ in ways.values()} == {(257, 10)}
