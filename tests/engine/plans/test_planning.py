"""What is shared between points and what never is: fingerprints see every input of an outcome, and no other.

Covers `planning.py`, `plan.py`, `tasks.py`, `influence.py` and `kinds.py`.
"""

import dataclasses

import pytest

from fedmia_jax import defenses, options
from fedmia_jax.config import schema, sweeps
from fedmia_jax.engine.plans import influence, planning, runs, tasks

BASE = {
    "data": {"num_records": 400, "num_features": 12, "num_classes": 4, "num_federation": 120, "num_test": 100},
    "federation": {"nodes": 3, "cycles": 2, "local_epochs": 4},
    "shadow": {"count": 2},
}


def fingerprints(**changes):
    """Fingerprints of a run by kind, with other values of some fields by dotted name."""
    return by_kind(planning.make_plan(draw({name: [value] for name, value in changes.items()})))


def draw(sweep):
    """Runs of a sweep over `BASE`."""
    return runs.prepare(sweeps.expand({**BASE, "sweep": sweep}).points)


def by_kind(planned):
    """Fingerprints of the units of each kind of task."""
    return {kind: {unit.fingerprint for unit in units} for kind, units in planned.units.items()}


@pytest.fixture(scope="module")
def before():
    return fingerprints()


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
    ("data.canary_rate", 0.5, ALL),
    ("model.hidden", 64, ALL),
    ("model.dropout_rate", 0.4, ALL),
    ("training.optimizer", "sgd", ALL),
    ("training.learning_rate", 0.002, ALL),
    ("training.batch_size", 16, ALL),
    ("federation.nodes", 4, {"federations"}),
    ("federation.cycles", 3, {"federations"}),
    ("federation.local_epochs", 5, ALL),
    ("federation.scored_cycles", 1, {"federations"}),
    ("federation.centralised_epochs", 3, ALL - {"federations"}),
    ("federation.carry_optimizer_state", True, {"federations"}),
    ("federation.order", "random", {"federations"}),
    ("federation.order_shared", False, {"federations"}),
    ("shadow.count", 3, ALL),
    ("shadow.epochs", 3, ALL),
    ("shadow.num_train", 60, ALL),
    ("shadow.num_out", 40, ALL - {"central models"}),
    ("shadow.federations", 8, ALL - {"attacks"}),
    ("attack.hidden", 32, ALL - {"central models"}),
    ("attack.epochs", 7, ALL - {"central models"}),
    ("attack.learning_rate", 0.03, ALL - {"central models"}),
    ("attack.batch_size", 128, ALL - {"central models"}),
    ("compute.precision", "default", ALL),
]


@pytest.mark.parametrize(("name", "value", "changed"), CHANGES, ids=[name for name, _, _ in CHANGES])
def test_every_input_changes_the_fingerprints_of_what_depends_on_it(before, name, value, changed):
    after = fingerprints(**{name: value})
    for kind in ALL:
        assert (after[kind] != before[kind]) == (kind in changed), kind


def declared_by_the_package():
    """Names of all fields but those of foreign things that other tests have admitted."""
    return set(schema._fields(((),) * len(schema.REGISTRIES)))


def test_what_is_listed_above_is_every_field_that_there_is():
    listed = {name for name, _, _ in CHANGES}
    without_influence = {
        "replicates", "data.path", "data.name", "data.cluster", "data.min_items", "data.alpha", "data.sizes",
        "model.name", "federation.kind", "shadow.kind", "attack.names", "defense.names",
        "shadow.audit", "attack.views", "attack.variance", "attack.gamma", "attack.offline_a",  # of references
        "attack.epsilon_cell", "attack.epsilon_delta", "attack.strongest",
        "attack.rmia_temperature", "attack.rmia_softmax", "attack.base_temperature", "attack.base_scale",
    }  # fmt: skip
    of_defences = options.declared(*(factory.options for factory in defenses.DEFENSES.values()))  # none is named here
    without_influence |= {f"defense.{name}" for name in of_defences}
    assert listed | without_influence == declared_by_the_package()


def test_node_counts_share_all_but_the_federation(before):
    planned = planning.make_plan(draw({"federation.nodes": [3, 5, 7]}))
    of_kind = by_kind(planned)
    assert all(of_kind[kind] == before[kind] for kind in ("central models", "attacks", "baselines"))
    assert len(of_kind["federations"]) == 3


def test_fewer_epochs_are_a_stop_on_the_way_to_more():
    planned = planning.make_plan(draw({"federation.local_epochs": [3, 9]}))
    (epochs,) = {unit.task.epochs for unit in planned.units["central models"]}
    assert epochs == (3, 9)
    assert len(planned.units["central models"]) == 3
    assert len(planned.units["attacks"]) == len(planned.units["federations"]) == 2


def test_attacks_that_differ_read_one_federation():
    planned = planning.make_plan(draw({"attack.hidden": [8, 16]}))
    (federation,) = planned.units["federations"]
    assert [dict(reader.attacks.values)["hidden"] for reader in federation.task.readers] == [8, 16]
    assert len(planned.units["central models"]) == 3
    assert len(planned.units["baselines"]) == 1


def test_references_are_shared_by_replicates_and_depend_on_their_records():
    references = []
    for audit in (True, False):
        values = {**BASE, "replicates": 2, "shadow": {**BASE.get("shadow", {}), "federations": 8, "audit": audit}}
        values["data"] = {**BASE["data"], "num_federation": 60}
        planned = planning.make_plan(runs.prepare(sweeps.expand(values).points))
        assert planned.recipes[0].references == planned.recipes[1].references
        assert len(planned.units["federations"]) == 2 + 8
        assert len({unit.static for unit in planned.units["federations"]}) == 2  # targets have readers
        references.append(set(planned.recipes[0].references))
    assert not references[0] & references[1]


def test_what_only_comparisons_read_trains_nothing_anew(before):
    every_run = draw({"attack.gamma": [1.0, 2.0], "attack.variance": ["pooled", "per_record"]})
    assert by_kind(planning.make_plan(every_run)) == before


def test_replicates_share_nothing():
    every_run = runs.prepare(sweeps.expand({**BASE, "replicates": 2}).points)
    first, second = (by_kind(planning.make_plan([run])) for run in every_run)
    assert all(not first[kind] & second[kind] for kind in ALL)


def test_shadow_federations_depend_on_their_records():
    first, second = (
        planning.make_plan(draw({"shadow.kind": ["federated"], "federation.local_epochs": [epochs]}))
        for epochs in (4, 5)
    )
    assert by_kind(first)["shadow federations"] != by_kind(second)["shadow federations"]
    run = first.runs[0]
    members = run.split.members.copy()
    members[0, 0] = run.split.non_members[0, 0]
    moved = dataclasses.replace(run, split=dataclasses.replace(run.split, members=members))
    assert by_kind(planning.make_plan([moved]))["shadow federations"] != by_kind(first)["shadow federations"]


def code(run):
    """What computes the models of a run."""
    return influence.code(run, influence.values(run.settings, tasks.Model.WITHOUT))


def test_fingerprints_see_the_code_of_a_network_from_outside(tmp_path, monkeypatch):
    """Its source counts, not only its name."""
    monkeypatch.syspath_prepend(tmp_path)
    sources = []
    for number in (1, 2):
        source = (
            "from fedmia_jax.learning.networks import Mlp\n\n\nclass Own(Mlp):\n    pass\n" + "\n# changed\n" * number
        )
        (tmp_path / f"own{number}.py").write_text(source)
        (run,) = draw({"model.name": [f"own{number}:Own"]})
        assert code(run)[f"own{number}:Own own{number}.py"] == source
        sources.append(set(code(run).values()))
    assert sources[0] != sources[1]
    assert set(code(draw({})[0])) == {"recipe", "jax", "backend", "x64", "threefry_partitionable"}, (
        "nothing comes from outside"
    )


def test_kept_models_are_another_outcome(before):
    planned = planning.make_plan(draw({}), keep_models=True)
    assert by_kind(planned)["central models"] == before["central models"]
    assert not by_kind(planned)["federations"] & before["federations"]
