"""Coins end to end: who trains on what, who is a non-member of whom, and what the audit says of epsilon."""

import numpy as np
import polars as pl
import pytest

from fedmia_jax import attacks
from fedmia_jax.audit import correction
from fedmia_jax.config import parsing
from fedmia_jax.engine import collection


@pytest.fixture(scope="module")
def finished(make_lab):
    """Two nodes that learn random labels by heart from half of their records, two replicates, eight references."""
    return make_lab(
        {"num_records": 700, "num_features": 30, "num_classes": 4, "learnable": False},
        replicates=2,
        data={"num_federation": 200, "num_test": 60, "canary_rate": 0.5},
        model={"hidden": 32},
        training={"learning_rate": 0.01},
        federation={"nodes": 2, "cycles": 1, "local_epochs": 15},
        shadow={"federations": 8, "count": 2},
        attack={"names": ("loss",), "views": ("outsider",), "epsilon_cell": ("loss", "outsider")},
    )


def test_the_owner_of_a_record_is_the_node_whose_coin_came_up(finished):
    sizes = set()
    for run in finished.runs:
        owners, assigned = run.owners, run.assigned
        assert ((owners >= 0) <= (owners == assigned)).all()
        assert (assigned == -1).sum() == 60
        assert (owners >= -1).all()
        assert sorted(run.central_rows) == sorted(run.scored[owners >= 0])
        sizes.add(len(run.central_rows))
        assert len(run.split.members[0]) == 100  # shadows are as large as a target on average
    assert len(sizes) == 2
    held = (finished.runs[0].reference_owners >= 0).mean(axis=1)
    assert abs(held.mean() - 100 / 260) < 0.05


def test_non_members_of_a_node_are_its_own_and_the_test_pool(finished):
    for row in finished.table.iter_rows(named=True):
        run = finished.runs[row["replicate"]]
        nodes = [0, 1] if row["attacked"] == "union" else [int(row["attacked"][1]) - 1]
        own = np.isin(run.assigned, nodes)
        assert row["num_members"] == (own & (run.owners >= 0)).sum()
        assert row["num_non_members"] == (own & (run.owners < 0)).sum() + 60


def test_the_audit_bounds_epsilon_by_the_coins(finished):
    table = pl.read_parquet(finished.folder / "run" / "intervals.parquet")
    arrays = collection.gather(finished.planned, finished.kept, finished.runs)
    assert arrays.coin_rate == 0.5
    assert table["epsilon_adjacency"].unique().to_list() == ["add or remove one"]
    assert table["epsilon_delta"].unique().to_list() == [1e-6]
    (chosen,) = table.filter(pl.col("epsilon_level") == correction.LEVEL).select("attack", "view", "attacked").rows()
    assert chosen == ("loss", "outsider", "node")
    assert set(table["epsilon_level"]) == {0.95, 1 - 0.05 / (2 * len(attacks.ATTACKS))}
    assert table["epsilon"].max() > 0.3
    assert (table["epsilon_gaussian"] >= table["epsilon"]).all()


def test_a_replicate_is_the_same_whatever_stands_beside_it(finished, run_sweep, tmp_path):
    """Federations and central targets of other sizes pad each other; alone there is no padding."""
    values = parsing.nest(finished.settings.flat)
    _, alone = run_sweep(values, tmp_path / "run", only=[0])
    beside = finished.table.filter(pl.col("replicate") == 0)
    assert alone.equals(beside, null_equal=True)
