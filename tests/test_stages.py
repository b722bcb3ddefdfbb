"""What is shared between points and what never is: keys see every input that an outcome depends on, and no other."""

import dataclasses

import numpy as np
import pytest

from fedmia_jax import stages, sweep, workload

BASE = {
    "data": {"num_records": 400, "num_features": 12, "num_classes": 4, "num_federation": 120, "num_test": 100},
    "federation": {"nodes": 3, "cycles": 2, "local_epochs": 4},
    "shadow": {"count": 2},
}


def keys(**changes):
    """Keys of a run by stage, with other values of some fields by dotted name."""
    return by_stage(stages.make_plan(draw({name: [value] for name, value in changes.items()})))


def draw(asked):
    """Runs of a sweep over `BASE`."""
    return workload.prepare(sweep.expand({**BASE, "sweep": asked}).points)


def by_stage(planned):
    """Keys of the units of each stage."""
    return {stage: {unit.key for unit in units} for stage, units in planned.units.items()}


@pytest.fixture(scope="module")
def before():
    return keys()


ALL = {"central models", "attacks", "baselines", "federations"}
CHANGES = [
    ("seed", 1, ALL),
    ("data.seed", 1, ALL),
    ("data.num_records", 401, ALL),
    ("data.num_classes", 5, ALL),
    ("data.num_features", 11, ALL),
    ("data.num_federation", 121, ALL),
    ("data.num_test", 99, ALL),
    ("data.num_shadow_pool", 150, ALL),
    ("data.partition", "dirichlet", {"federations"}),
    ("model.hidden", 64, ALL),
    ("model.dropout_rate", 0.4, ALL),
    ("training.optimizer", "sgd", ALL),
    ("training.learning_rate", 0.002, ALL),
    ("training.batch_size", 16, ALL),
    ("federation.nodes", 4, {"federations"}),
    ("federation.cycles", 3, {"federations"}),
    ("federation.local_epochs", 5, ALL),
    ("federation.centralised_epochs", 3, ALL - {"federations"}),
    ("federation.carry_optimizer_state", True, {"federations"}),
    ("shadow.count", 3, ALL),
    ("shadow.epochs", 3, ALL),
    ("shadow.num_train", 60, ALL),
    ("shadow.num_out", 40, ALL - {"central models"}),
    ("shadow.federations", 8, ALL - {"attacks"}),
    ("attack.hidden", 32, ALL - {"central models"}),
    ("attack.epochs", 7, ALL - {"central models"}),
    ("attack.learning_rate", 0.03, ALL - {"central models"}),
    ("attack.batch_size", 128, ALL - {"central models"}),
]


@pytest.mark.parametrize(("name", "value", "changed"), CHANGES, ids=[name for name, _, _ in CHANGES])
def test_every_input_changes_the_keys_of_what_depends_on_it(before, name, value, changed):
    after = keys(**{name: value})
    for stage in ALL:
        assert (after[stage] != before[stage]) == (stage in changed), stage


def test_what_is_listed_above_is_every_field_that_there_is():
    listed = {name for name, _, _ in CHANGES}
    without_influence = {
        "replicates", "data.path", "data.name", "data.cluster", "data.min_items", "data.alpha", "data.sizes",
        "model.name", "federation.order", "shadow.kind", "attack.names",
        "shadow.audit", "attack.views", "attack.variance", "attack.gamma", "attack.offline_a",  # of references
    }  # fmt: skip
    assert listed | without_influence == set(stages.config.fields())


def test_node_counts_share_all_but_the_federation(before):
    planned = stages.make_plan(draw({"federation.nodes": [3, 5, 7]}))
    found = by_stage(planned)
    assert all(found[stage] == before[stage] for stage in ("central models", "attacks", "baselines"))
    assert len(found["federations"]) == 3


def test_fewer_epochs_are_a_stop_on_the_way_to_more():
    planned = stages.make_plan(draw({"federation.local_epochs": [3, 9]}))
    (epochs,) = {unit.work.epochs for unit in planned.units["central models"]}
    assert epochs == (3, 9)
    assert len(planned.units["central models"]) == 3
    assert len(planned.units["attacks"]) == len(planned.units["federations"]) == 2


def test_attacks_that_differ_read_one_federation():
    planned = stages.make_plan(draw({"attack.hidden": [8, 16]}))
    (federation,) = planned.units["federations"]
    assert [reader.attack.hidden for reader in federation.work.readers] == [8, 16]
    assert len(planned.units["central models"]) == 3
    assert len(planned.units["baselines"]) == 1


def test_references_are_shared_by_replicates_and_depend_on_their_records():
    found = []
    for audit in (True, False):
        values = {**BASE, "replicates": 2, "shadow": {**BASE.get("shadow", {}), "federations": 8, "audit": audit}}
        values["data"] = {**BASE["data"], "num_federation": 60}
        runs = workload.prepare(sweep.expand(values).points)
        planned = stages.make_plan(runs)
        assert planned.recipes[0].references == planned.recipes[1].references
        assert len(planned.units["federations"]) == 2 + 8
        assert len({unit.static for unit in planned.units["federations"]}) == 2  # targets have readers
        found.append(set(planned.recipes[0].references))
    assert not found[0] & found[1]


def test_what_only_comparisons_read_trains_nothing_anew():
    runs = draw({"attack.gamma": [1.0, 2.0], "attack.variance": ["pooled", "per_record"]})
    assert {stage: len(units) for stage, units in stages.make_plan(runs).units.items() if units} == {
        stage: len(found) for stage, found in keys().items() if found
    }


def test_replicates_share_nothing():
    runs = workload.prepare(sweep.expand({**BASE, "replicates": 2}).points)
    found = [by_stage(stages.make_plan([run])) for run in runs]
    assert all(not found[0][stage] & found[1][stage] for stage in ALL)


def test_shadow_federations_depend_on_their_records():
    first, second = (
        stages.make_plan(draw({"shadow.kind": ["federated"], "federation.local_epochs": [epochs]})) for epochs in (4, 5)
    )
    assert by_stage(first)["shadow federations"] != by_stage(second)["shadow federations"]
    run = first.runs[0]
    members = run.split.members.copy()
    members[0, 0] = run.split.non_members[0, 0]
    moved = dataclasses.replace(run, split=dataclasses.replace(run.split, members=members))
    assert by_stage(stages.make_plan([moved]))["shadow federations"] != by_stage(first)["shadow federations"]


def test_keys_see_the_code_of_a_network_from_outside(tmp_path, monkeypatch):
    """Its source counts, not only its name."""
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for number in (1, 2):
        source = "from fedmia_jax.model import Mlp\n\n\nclass Mine(Mlp):\n    pass\n" + "\n# changed\n" * number
        (tmp_path / f"mine{number}.py").write_text(source)
        (run,) = draw({"model.name": [f"mine{number}:Mine"]})
        found.append(stages.code(run))
    assert found[0] != found[1]
    assert stages.code(draw({})[0])["network"] == ""


def test_kept_models_are_another_outcome(before):
    planned = stages.make_plan(draw({}), keep_models=True)
    assert by_stage(planned)["central models"] == before["central models"]
    assert not by_stage(planned)["federations"] & before["federations"]


def test_a_digest_sees_content_type_and_shape():
    arrays = [np.arange(6), np.arange(6, dtype=np.int32), np.arange(6).reshape(2, 3), np.arange(6)[::-1]]
    assert len({stages.digest(array) for array in arrays}) == 4
    assert stages.digest(arrays[0], arrays[1]) != stages.digest(arrays[1], arrays[0])
    assert stages.digest(np.arange(12)[::2]) == stages.digest(np.arange(0, 12, 2))
