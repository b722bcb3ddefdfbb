"""What tasks say that they read of earlier outcomes, against what computing them reads."""

import collections
import dataclasses

import pytest

from fedmia_jax.engine import needs
from fedmia_jax.engine.engines import local
from fedmia_jax.storage import artifacts

SMALL = {
    "data": {"name": "toys.reader:TOY", "num_federation": 100, "num_test": 100},
    "model": {"hidden": 4},
    "federation": {"nodes": 2, "cycles": 2, "local_epochs": 1},
    "shadow": {"count": 2},
    "attack": {"names": ("loss",), "epochs": 2},
}
ALL = SMALL | {
    "replicates": 2,
    "shadow": {"count": 2, "federations": 8},
    "attack": {"names": ("loss", "sequence_lira"), "strongest": "sequence_lira", "views": ("outsider", "coordinator")},
    "defense": {"names": ("temperature",), "answer_temperature": 2.0},
}
MATCHED = SMALL | {"shadow": {"count": 2, "kind": "federated"}}


@pytest.mark.parametrize(("values", "expected"), [(ALL, 6), (MATCHED, 6)], ids=["central", "federated"])
def test_a_task_reads_what_it_says_and_all_of_it(monkeypatch, run_sweep, tmp_path, values, expected):
    reads, said = collections.defaultdict(set), {}
    read, kind_at_work = artifacts.Artifacts.read, []

    def spy(self, unit, piece):
        reads[kind_at_work[-1]].add((unit, piece))
        return read(self, unit, piece)

    def compute(place, planned, kind, todo, advance):
        kind_at_work.append(kind.name)
        said["tables"] = set(needs.of_results(planned))
        said[kind.name] = {need for chunk in todo for unit in chunk.units for need in kind.needs(planned, unit.task)}
        local.compute(place, planned, kind, todo, advance)
        kind_at_work.append("tables")

    monkeypatch.setattr(artifacts.Artifacts, "read", spy)
    run_sweep(values, tmp_path / "run", engine=dataclasses.replace(local.ENGINE, compute=compute))
    assert len(said) == expected
    assert {name: reads[name] for name in said} == said
