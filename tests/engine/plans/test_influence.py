"""What an outcome depends on: every field is flipped, and for every stage it is stated whether its fingerprint moves.

A field whose flip leaves a fingerprint alone must leave the outcome alone too. A few flips are computed here; all of
them, in some minutes, by `python -m pytest tests/engine/plans/test_influence.py --all-fields`.
"""

import functools
import pathlib
from typing import Any

import jax
import numpy as np
import pytest

from fedmia_jax import attacks, randomness
from fedmia_jax.config import parsing, schema, sweeps
from fedmia_jax.engine import kinds
from fedmia_jax.engine.plans import influence, plan, planning, runs, tasks
from fedmia_jax.storage import artifacts

BASE: dict[str, Any] = {
    "data.num_records": 260,
    "data.num_features": 6,
    "data.num_classes": 2,
    "data.num_federation": 40,
    "data.num_test": 40,
    "data.num_shadow_pool": 150,
    "data.partition": "dirichlet",
    "data.alpha": 5.0,
    "model.hidden": 4,
    "federation.nodes": 2,
    "federation.cycles": 2,
    "federation.local_epochs": 2,
    "federation.centralised_epochs": 3,
    "shadow.count": 2,
    "shadow.epochs": 2,
    "shadow.num_train": 40,
    "shadow.federations": 8,
    "defense.names": ("toys.defense:SHIFT",),
    "attack.names": tuple(attacks.ATTACKS),
    "attack.epochs": 2,
}
OF_UNNAMED_DEFENCES: dict[str, Any] = {  # which move nothing
    "defense.held_out_every": 5,
    "defense.flip_probability": 0.25,
    "defense.feature_noise": 0.5,
    "defense.fresh_noise": True,
    "defense.answer_temperature": 2.0,
    "defense.answer_digits": 2.0,
    "defense.answer_classes": 3.0,
    "defense.update_clip": 2.0,
    "defense.update_noise": 0.5,
    "defense.output_clip": 2.0,
    "defense.output_noise": 0.5,
    "defense.weight_decay": 0.5,
    "defense.label_smoothing": 0.5,
    "defense.clip": 2.0,
    "defense.noise_multiplier": 2.0,
    "defense.most_records": 3.0,
    "defense.batches": "shuffled",
    "defense.target_epsilon": 2.0,
    "defense.delta": 1e-6,
}
OTHER: dict[str, Any] = {  # a value of each field that differs from the base
    "seed": 1,
    "replicates": 2,
    "data.name": "baskets",
    "data.path": "elsewhere",
    "data.num_classes": 3,
    "data.cluster": True,
    "data.seed": 1,
    "data.num_federation": 30,
    "data.num_test": 30,
    "data.num_shadow_pool": 140,
    "data.partition": "sizes",
    "data.alpha": 0.9,
    "data.sizes": (1.0, 3.0),
    "data.canary_rate": 0.5,
    "data.num_features": 7,
    "data.num_records": 280,
    "data.min_items": 2,
    "model.name": "toys.network:Other",
    "model.hidden": 5,
    "model.dropout_rate": 0.1,
    "training.optimizer": "sgd",
    "training.learning_rate": 0.01,
    "training.batch_size": 16,
    "federation.kind": "toys.protocol:MEAN",
    "federation.nodes": 3,
    "federation.cycles": 3,
    "federation.scored_cycles": 1,
    "federation.local_epochs": 1,
    "federation.order": "random",
    "federation.order_shared": False,
    "federation.centralised_epochs": 1,
    "federation.carry_optimizer_state": True,
    "defense.names": (),
    "defense.toy_shift": 0.5,
    **OF_UNNAMED_DEFENCES,
    "shadow.count": 3,
    "shadow.num_train": 30,
    "shadow.num_out": 30,
    "shadow.kind": "federated",
    "shadow.epochs": 1,
    "shadow.federations": 9,
    "shadow.audit": False,
    "attack.names": tuple(name for name in attacks.ATTACKS if name != "network_per_class"),
    "attack.views": ("outsider",),
    "attack.epsilon_cell": ("loss", "outsider"),
    "attack.epsilon_delta": 1e-7,
    "attack.strongest": "sequence_lira",
    "attack.hidden": 8,
    "attack.learning_rate": 0.05,
    "attack.epochs": 3,
    "attack.batch_size": 32,
    "attack.variance": "per_record",
    "attack.rmia_temperature": 3.0,
    "attack.rmia_softmax": "sm_taylor",
    "attack.gamma": 2.0,
    "attack.offline_a": 0.5,
    "attack.base_temperature": 4.0,
    "attack.base_scale": 0.5,
    "compute.precision": "default",
}
TOGETHER = {
    "data.sizes": {"data.partition": "sizes"},
    "data.partition": {"data.sizes": (1.0, 3.0)},
}  # what a flip needs beside it
PIECES = {"audit by network": "network", "audit by rmia_online": "rmia_online"}  # of the audit, by stage
STAGES = ("target", "shadow", "fit", "baseline", "federation", "reference", "shadow federations", *PIECES)
EVERYTHING = set(STAGES)
READ = {
    "fit",
    "baseline",
    "federation",
    "shadow federations",
    "audit by network",
}  # what fits attacks or scores by them
FEDERATED = {"federation", "reference", "shadow federations", *PIECES}
MOVES: dict[str, set[str]] = {
    "seed": EVERYTHING,
    "replicates": set(PIECES),  # replicates count by their index, and are audited together
    # Records count by their content, wherever they come from; those that are dealt out, by their rows.
    "data.path": set(),
    "data.num_classes": EVERYTHING,
    "data.cluster": set(),  # synthetic records are clustered anyway
    "data.seed": EVERYTHING,
    "data.num_federation": EVERYTHING,
    "data.num_test": EVERYTHING,
    "data.num_shadow_pool": {"shadow", *READ},
    "data.partition": FEDERATED,
    "data.alpha": FEDERATED,
    "data.sizes": FEDERATED,
    "data.canary_rate": {"target", "baseline", *FEDERATED},
    "data.num_features": EVERYTHING,
    "data.num_records": EVERYTHING,
    "data.min_items": set(),  # an option of other readers
    "model.name": EVERYTHING,
    "model.hidden": EVERYTHING,
    "model.dropout_rate": EVERYTHING,
    "training.optimizer": EVERYTHING,
    "training.learning_rate": EVERYTHING,
    "training.batch_size": EVERYTHING,
    "federation.kind": FEDERATED,
    "federation.nodes": FEDERATED,
    "federation.cycles": FEDERATED,
    "federation.scored_cycles": FEDERATED,
    "federation.local_epochs": FEDERATED,
    "federation.order": FEDERATED,
    "federation.order_shared": FEDERATED,
    "federation.centralised_epochs": {"target", "baseline"},
    "federation.carry_optimizer_state": FEDERATED,
    "defense.names": EVERYTHING,
    "defense.toy_shift": EVERYTHING,
    **{field: set() for field in OF_UNNAMED_DEFENCES},
    "shadow.count": READ,
    "shadow.num_train": {"shadow", *READ},
    "shadow.num_out": READ,
    "shadow.kind": {"federation", "audit by network"},  # who reads the snapshots
    "shadow.epochs": {"shadow", "fit", "baseline", "federation", "audit by network"},
    "shadow.federations": set(PIECES),  # each reference counts by its number
    "shadow.audit": {"baseline", "federation", "reference", *PIECES},
    "attack.names": READ,
    "attack.views": set(PIECES),
    "attack.epsilon_cell": set(PIECES),
    "attack.epsilon_delta": set(PIECES),
    "attack.strongest": set(),  # compares what pieces say
    "attack.hidden": READ,
    "attack.learning_rate": READ,
    "attack.epochs": READ,
    "attack.batch_size": READ,
    "attack.variance": set(),  # attacks with references read what is kept
    "attack.rmia_temperature": {"federation", "reference", *PIECES},  # what is kept for them
    "attack.rmia_softmax": {"federation", "reference", *PIECES},
    "attack.gamma": {"audit by rmia_online"},
    "attack.offline_a": {"audit by rmia_online"},  # declared together
    "attack.base_temperature": {"federation", "reference", *PIECES},
    "attack.base_scale": set(),
    "compute.precision": EVERYTHING,
}
COMPUTED = {  # flips of the short form, together where several fields stand, with stages whose outcome they must change
    ("attack.gamma",): {"audit by rmia_online"},
    ("attack.rmia_temperature",): {"federation", "reference", "audit by rmia_online"},
    ("shadow.num_out",): READ,
    ("federation.centralised_epochs", "federation.local_epochs", "shadow.num_train"): EVERYTHING,
}
KINDS = [kind.name for kind in kinds.KINDS]
FEW = {"attack.names": ("network", "rmia_online")}  # attacks of what is computed


def prepare(values: dict[str, Any]) -> list[runs.Run]:
    """The runs of one point."""
    settings = parsing.from_flat(BASE | values)
    return runs.prepare([sweeps.Point(settings, {})])


def units_of(every_run: list[runs.Run], federated: list[runs.Run]) -> tuple[dict[str, str], list[plan.Plan]]:
    """Fingerprint of the unit of each stage of the first replicate, and the plans that they are of."""
    planned, shadows = planning.make_plan(every_run), planning.make_plan(federated)
    recipe = planned.recipes[0]

    def model(purpose: randomness.Purpose) -> str:
        return next(
            mark
            for mark, task in planned.task_of.items()
            if isinstance(task, tasks.Model) and task.purpose == purpose and task.run is every_run[0]
        )

    marks = {
        "target": model(randomness.Purpose.CENTRALISED),
        "shadow": model(randomness.Purpose.SHADOW),
        "fit": recipe.federation_reader.task
        if not recipe.federation_reader.per_snapshot
        else recipe.baseline_reader.task,
        "baseline": recipe.baseline,
        "federation": recipe.federation,
        "reference": recipe.references[0],
    }
    (audit,) = planned.audits.values()
    pieces = {planned.task_of[mark].piece: mark for mark in audit}
    marks |= {stage: pieces[piece] for stage, piece in PIECES.items()}
    units = {stage: planned.unit_of[mark] for stage, mark in marks.items()}
    units["shadow federations"] = shadows.unit_of[shadows.recipes[0].federation_reader.task]
    return units, [planned, shadows]


@functools.cache
def flipped(field: str | None) -> dict[str, str]:
    """Units with one field flipped; with none for the base."""
    values = {} if field is None else {field: OTHER[field]} | TOGETHER.get(field, {})
    return units_of(prepare(values), prepare(values | {"shadow.kind": "federated"}))[0]


def moved(field: str) -> set[str]:
    """Stages whose fingerprint a flip moves."""
    before, after = flipped(None), flipped(field)
    return {stage for stage in STAGES if before[stage] != after[stage]}


@pytest.fixture(scope="module", autouse=True)
def admitted():
    """The options of the toys are fields."""
    schema.admit("defense.names", BASE["defense.names"])


def test_every_field_is_flipped_and_stated():
    inside = {name for name in schema.fields() if "toy" not in name or name == "defense.toy_shift"}
    assert inside == set(OTHER)
    assert set(MOVES) == set(OTHER) - {"data.name"}  # other readers need a file; they count by what they read
    settings = parsing.from_flat(BASE)
    for field, value in OTHER.items():
        assert settings.get(field) != value, field


@pytest.mark.parametrize("field", MOVES)
def test_the_fingerprints_that_a_flip_moves(field):
    assert moved(field) == MOVES[field]


# Where an option counts by its value. Several count twice: orders, shards and sources of foreign code do so as well.
BY_VALUE = {
    **{group: set(KINDS) for group in ("model", "training", "defense", "compute", "seed")},
    "federation": {"federations", "shadow federations", "adversaries"},
    "attack": {"attacks", "shadow federations"},
}
OF_RMIA_AND_BASE = {"rmia_temperature", "rmia_softmax", "gamma", "offline_a", "base_temperature", "base_scale"}
NOWHERE = {
    "federation.centralised_epochs",
    "attack.views",
    "attack.epsilon_cell",
    "attack.epsilon_delta",
    "attack.strongest",
    "attack.variance",
    *OF_UNNAMED_DEFENCES,
    *(f"attack.{name}" for name in OF_RMIA_AND_BASE),  # those of signals count by the signals that are kept
}
SCIENCE = [field for field in MOVES if field.partition(".")[0] in BY_VALUE and field not in NOWHERE]


def counted(field: str) -> set[str]:
    """Kinds of tasks into whose fingerprint a field goes by its value."""
    settings = parsing.from_flat(BASE)
    return {kind.name for kind in kinds.KINDS if field in influence.values(settings, kind.task.WITHOUT)}


@pytest.mark.parametrize("field", SCIENCE)
def test_a_field_that_is_left_out_is_missed(field, monkeypatch):
    expected = BY_VALUE[field.partition(".")[0]]
    assert counted(field) == expected
    monkeypatch.setattr(influence, "WITHOUT", (*influence.WITHOUT, field))  # the planted defect
    flipped.cache_clear()
    try:
        assert counted(field) != expected
        # Names of code and what orders and shards follow from are in the fingerprint a second time.
        twice = field.endswith(("seed", ".name", ".names", ".kind", ".nodes", ".cycles", ".order"))
        assert twice or moved(field) != MOVES[field]
    finally:
        flipped.cache_clear()


def test_what_counts_nowhere_is_stated():
    assert all(not counted(field) for field in NOWHERE)
    assert all(not counted(field) for field in MOVES if field.startswith(("data.", "shadow.", "replicates")))


def outcomes(folder: pathlib.Path, run_sweep: Any, values: dict[str, Any]) -> dict[str, Any]:
    """What each stage left, by stage: pieces of arrays."""
    kept: dict[str, Any] = {}
    every = []
    for kind in ("centralised", "federated"):
        config = parsing.nest(BASE | FEW | values | {"shadow.kind": kind})
        every.append(run_sweep(config, folder / kind, strict=False)[0])
    for stage, unit in units_of(*every)[0].items():
        kind = "federated" if stage == "shadow federations" else "centralised"
        where = artifacts.Artifacts(folder / kind / "artifacts")
        names = sorted(path.name for path in where.index[unit][0].iterdir() if path.is_dir())
        kept[stage] = {name: where.read(unit, name) for name in names}
    return kept


def test_what_keeps_its_fingerprint_keeps_its_outcome(tmp_path, run_sweep, request):
    flips = dict(COMPUTED)
    if request.config.getoption("all_fields"):
        flips |= {(field,): set() for field in MOVES if field not in ("data.path", "shadow.kind")}
    before = outcomes(tmp_path / "base", run_sweep, {})
    for number, (fields, changed) in enumerate(flips.items()):
        values = {field: OTHER[field] for field in fields}
        for field in fields:
            values |= TOGETHER.get(field, {})
        after = outcomes(tmp_path / str(number), run_sweep, values)
        moving = set().union(*(MOVES[field] for field in fields))
        for stage in STAGES:
            same = jax.tree.structure(before[stage]) == jax.tree.structure(after[stage]) and all(
                jax.tree.leaves(jax.tree.map(np.array_equal, before[stage], after[stage]))
            )
            assert same or stage in moving, (fields, stage)
            assert not same or stage not in changed, (fields, stage)
