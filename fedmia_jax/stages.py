"""The stages of an experiment: the units of work of each, with the keys that they are shared and found again by.

A key is a fingerprint of exactly what an outcome depends on, so that points of a sweep that agree on it share it, and
points that do not never do. A model that is wanted after several numbers of epochs is trained once, to the last.
"""

import dataclasses
import hashlib
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from fedmia_jax import attacking, config, parts, plan, shadow, workload
from fedmia_jax.data import pools


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """One centrally trained model, a target or a shadow; leaves a piece `e100` after so many epochs."""

    run: workload.Run
    rows: np.ndarray  # i32[n]
    purpose: pools.Purpose
    number: int
    epochs: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """The attacks of one adversary, fitted on central shadows; leaves `fitted`."""

    run: workload.Run
    models: tuple[str, ...]
    epochs: int


@dataclasses.dataclass(frozen=True, eq=False)
class ShadowFederations:
    """Shadow federations of one adversary, with attacks fitted at every snapshot; leaves `c1`, `c2`, .. [N, ...]."""

    run: workload.Run
    shards: tuple[pools.Shards, ...]


@dataclasses.dataclass(frozen=True)
class Reader:
    """Who scores snapshots: attacks fitted by a `Fit`, or snapshot by snapshot by `ShadowFederations`."""

    key: str
    attack: config.Attack
    per_snapshot: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Baseline:
    """Scores of all records at the centralised target; leaves `scores`, leaves [1, ...]."""

    run: workload.Run
    model: str
    epochs: int
    readers: tuple[Reader, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Federation:
    """One federation and the scores of all records at its hand-offs; leaves `c1`, `c2`, .. [N, ...]."""

    run: workload.Run
    readers: tuple[Reader, ...] = ()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Where the parts of one run's results come from."""

    baseline: str
    baseline_reader: Reader
    federation: str | None = None
    federation_reader: Reader | None = None


class Wanted:
    """Work by key, each with all that is wanted of it: epochs of a model, readers of a federation."""

    def __init__(self) -> None:
        self.work: dict[str, Any] = {}
        self.extras: dict[str, list[Any]] = {}

    def add(self, key: str, work: Any, extra: Any = None) -> str:
        """Enters work, and one more thing that is wanted of it; returns the key."""
        self.work.setdefault(key, work)
        extras = self.extras.setdefault(key, [])
        if extra is not None and extra not in extras:
            extras.append(extra)
        return key


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """All units of all stages, and each run's way to its results."""

    runs: Sequence[workload.Run]
    recipes: Sequence[Recipe]
    address: dict[str, str]  # of work: the key of its unit
    work: dict[str, Any]
    units: dict[str, list[plan.Unit]]  # by stage, in the order of computing

    def fitted(self, kept: parts.Parts, reader: Reader, cycle: int) -> dict[str, Any]:
        """Fitted attacks of a reader of one cycle: leaves [N, ...], or [1, ...] for all snapshots."""
        found = kept.read(self.address[reader.key], f"c{cycle + 1}" if reader.per_snapshot else "fitted")["fitted"]
        return found if reader.per_snapshot else jax.tree.map(lambda leaf: leaf[None], found)


def make_plan(runs: Sequence[workload.Run]) -> Plan:
    """Lists what is to be done for some runs, everything once.

    Args:
      runs: of one or many points.

    Returns:
      The plan; nothing has been computed.
    """
    wanted = Wanted()
    recipes = [_add(wanted, run) for run in runs]
    address, work = {}, {}
    units: dict[str, list[plan.Unit]] = {stage: [] for stage in MAKE_UNIT}
    for key, item in wanted.work.items():
        extras = wanted.extras[key]
        if isinstance(item, Model):
            extras = sorted(extras)
            item = dataclasses.replace(item, epochs=tuple(extras))
        elif isinstance(item, (Baseline, Federation)):
            item = dataclasses.replace(item, readers=tuple(extras))
        stage = STAGE[type(item)]
        asked = [dataclasses.asdict(extra) if isinstance(extra, Reader) else extra for extra in extras]
        unit = MAKE_UNIT[stage](config.fingerprint(key, asked), item)
        address[key], work[key] = unit.key, item
        units[stage].append(unit)
    return Plan(runs, recipes, address, work, units)


def _add(wanted: Wanted, run: workload.Run) -> Recipe:
    """Enters all that one run needs."""
    settings = run.settings
    local = settings.federation.local_epochs
    central = settings.federation.centralised_epochs or local
    target = wanted.add(*_model(run, run.dealt.federation, pools.Purpose.CENTRALISED, 0), central)
    first = _add_fit(wanted, run, settings.shadow.epochs or central)
    baseline = config.fingerprint("baseline", target, central, digest(run.scored))
    wanted.add(baseline, Baseline(run, target, central), first)
    if not settings.federation.cycles:
        return Recipe(baseline, first)
    if settings.shadow.kind == "federated":
        second = _add_shadow_federations(wanted, run)
    else:
        second = _add_fit(wanted, run, settings.shadow.epochs or local)
    shards = digest(run.shards.indices, run.shards.mask)
    federation = config.fingerprint("federation", facts(run), _rounds(run), shards, digest(run.scored))
    wanted.add(federation, Federation(run), second)
    return Recipe(baseline, first, federation, second)


def _model(run: workload.Run, rows: np.ndarray, purpose: pools.Purpose, number: int) -> tuple[str, Model]:
    """A central model and its key, in which epochs do not enter."""
    return config.fingerprint("model", facts(run), int(purpose), number, digest(rows)), Model(
        run, rows, purpose, number
    )


def _add_fit(wanted: Wanted, run: workload.Run, epochs: int) -> Reader:
    """Enters central shadows and the attacks on them."""
    models = tuple(
        wanted.add(*_model(run, rows, pools.Purpose.SHADOW, number), epochs)
        for number, rows in enumerate(run.split.members)
    )
    attack, outside = run.settings.attack, digest(run.split.non_members)
    key = config.fingerprint("fit", facts(run), models, epochs, dataclasses.asdict(attack), outside)
    return Reader(wanted.add(key, Fit(run, models, epochs)), attack, per_snapshot=False)


def _add_shadow_federations(wanted: Wanted, run: workload.Run) -> Reader:
    """Enters shadow federations and the attacks on their snapshots."""
    shards = tuple(workload.shadow_shards(run, members) for members in run.split.members)
    dealt = [digest(item.indices, item.mask) for item in shards]
    attack, outside = run.settings.attack, digest(run.split.non_members)
    key = config.fingerprint("shadow federations", facts(run), _rounds(run), dealt, dataclasses.asdict(attack), outside)
    return Reader(wanted.add(key, ShadowFederations(run, shards)), attack, per_snapshot=True)


def facts(run: workload.Run) -> dict[str, Any]:
    """What every trained model depends on beside its records' rows."""
    return {
        "records": run.dataset.fingerprint,
        "num_classes": run.dataset.num_classes,
        "seed": run.settings.seed,
        "replicate": run.replicate,
        "model": dataclasses.asdict(run.settings.model),
        "training": dataclasses.asdict(run.settings.training),
    }


def _rounds(run: workload.Run) -> dict[str, Any]:
    """What a federation depends on beside that."""
    rounds = dataclasses.asdict(run.settings.federation)
    del rounds["centralised_epochs"]
    return rounds


def digest(*arrays: np.ndarray) -> str:
    """Fingerprint of the content of arrays."""
    content = hashlib.sha256()
    for array in arrays:
        content.update(f"{array.dtype.str}{array.shape};".encode() + np.ascontiguousarray(array).tobytes())
    return content.hexdigest()[:16]


def _static(run: workload.Run, *more: Hashable) -> Hashable:
    """What decides the programs of every stage."""
    settings = config.static(run.settings)
    return (settings.model, settings.training, run.dataset.fingerprint, *more)


def _updates(run: workload.Run, sizes: Iterable[int]) -> int:
    """Updates of one epoch over shards of these sizes."""
    return sum(-(-int(size) // run.settings.training.batch_size) for size in sizes)


def _nbytes(run: workload.Run) -> tuple[int, int]:
    """Memory of a model in training, and of its parameters alone."""
    num_features = run.dataset.features.shape[1]
    batch_size = run.settings.training.batch_size
    training = shadow.training_nbytes(run.module, num_features=num_features, batch_size=batch_size)
    return training, shadow.params_nbytes(run.module, num_features=num_features)


def _scoring_nbytes(run: workload.Run) -> int:
    """Memory of a block of records on its way through a model and the attacks."""
    return attacking.RECORD_BLOCK * 4 * (run.dataset.features.shape[1] + 8 * run.dataset.num_classes)


def _model_unit(key: str, work: Model) -> plan.Unit:
    """A central model as a unit."""
    run, (training, params) = work.run, _nbytes(work.run)
    shards = 16 * len(work.rows)
    return plan.Unit(
        key,
        _static(run, len(work.rows), work.epochs),
        work,
        steps=work.epochs[-1] * _updates(run, [len(work.rows)]),
        nbytes=training + params + shards,
        num_models=1,
    )


def _fit_unit(key: str, work: Fit) -> plan.Unit:
    """An adversary's fit as a unit: its memory is a device's, which fits one after the other."""
    run, (_, params) = work.run, _nbytes(work.run)
    count, num_records = len(work.models), run.split.members.shape[1] + run.split.non_members.shape[1]
    memory = attacking.fit_nbytes(num_classes=run.dataset.num_classes, num_shadows=count, num_records=num_records)
    return plan.Unit(
        key,
        _static(run, count, run.split.members.shape, run.split.non_members.shape, run.settings.attack),
        work,
        steps=1.0,
        nbytes=count * (params + 9 * num_records),
        fixed_nbytes=memory,
        most=8,
    )


def _federation_static(run: workload.Run) -> Hashable:
    """What decides the programs and trip counts of federations."""
    rounds = dataclasses.replace(run.settings.federation, centralised_epochs=None)
    return _static(run, rounds, len(run.scored))


def _shadow_federations_unit(key: str, work: ShadowFederations) -> plan.Unit:
    """An adversary's shadow federations as a unit."""
    run, (training, params) = work.run, _nbytes(work.run)
    rounds, count = run.settings.federation, len(work.shards)
    updates = sum(_updates(run, item.sizes) for item in work.shards)
    num_records = run.split.non_members.shape[1] + max(int(item.sizes.max()) for item in work.shards)
    return plan.Unit(
        key,
        (_federation_static(run), run.split.members.shape, run.split.non_members.shape, run.settings.attack),
        work,
        steps=rounds.cycles * rounds.local_epochs * updates,
        nbytes=count * (training + 2 * rounds.nodes * params),
        fixed_nbytes=attacking.fit_nbytes(
            num_classes=run.dataset.num_classes, num_shadows=count, num_records=num_records
        ),
        num_models=count,
    )


def _baseline_unit(key: str, work: Baseline) -> plan.Unit:
    """The scoring of a centralised target as a unit."""
    run, (_, params) = work.run, _nbytes(work.run)
    return plan.Unit(
        key,
        _static(run, len(run.scored), tuple(reader.attack for reader in work.readers)),
        work,
        steps=1.0,
        nbytes=params + (5 + 4 * len(work.readers)) * len(run.scored),
        fixed_nbytes=_scoring_nbytes(run),
    )


def _federation_unit(key: str, work: Federation) -> plan.Unit:
    """A federation as a unit: the snapshots of one cycle are in memory at once, scored, and gone."""
    run, (training, params) = work.run, _nbytes(work.run)
    rounds = run.settings.federation
    scores = rounds.nodes * len(run.scored) * (1 + 4 * len(work.readers))
    readers = tuple((reader.attack, reader.per_snapshot) for reader in work.readers)
    return plan.Unit(
        key,
        (_federation_static(run), readers),
        work,
        steps=rounds.cycles * rounds.local_epochs * _updates(run, run.shards.sizes),
        nbytes=training + 2 * rounds.nodes * params + 2 * scores + 4 * len(run.scored) + 16 * run.shards.mask.size,
        fixed_nbytes=_scoring_nbytes(run),
        num_models=1,
    )


STAGE = {
    Model: "central models",
    Fit: "attacks",
    Baseline: "baselines",
    ShadowFederations: "shadow federations",
    Federation: "federations",
}
MAKE_UNIT: dict[str, Any] = {
    "central models": _model_unit,
    "attacks": _fit_unit,
    "baselines": _baseline_unit,
    "shadow federations": _shadow_federations_unit,
    "federations": _federation_unit,
}
