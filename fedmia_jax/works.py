"""Units of work of each stage: what there is to do, and what it takes in shapes, updates and memory."""

import dataclasses
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import jax
import numpy as np

from fedmia_jax import attacking, config, plan, shadow, workload
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
    """One federation and the scores of all records at its hand-offs; leaves `c1`, `c2`, .. [N, ...].

    A reference federation has a number, and no reader but the comparison with the target.
    """

    run: workload.Run
    shards: pools.Shards
    number: int | None = None
    readers: tuple[Reader, ...] = ()

    @property
    def key(self) -> jax.Array:
        """Of its randomness."""
        if self.number is None:
            return self.run.key(pools.Purpose.FEDERATED)
        return self.run.key(pools.Purpose.REFERENCE, self.number)


def _static(run: workload.Run, *more: Hashable) -> Hashable:
    """What decides the programs of every stage."""
    settings = config.static(run.settings)
    return (settings.model, settings.training, run.dataset.fingerprint, *more)


def _updates(run: workload.Run, sizes: Iterable[int]) -> int:
    """Updates of one epoch over shards of these sizes."""
    return sum(-(-int(size) // run.settings.training.batch_size) for size in sizes)


def _memory(state: int, work: int, *, at_once: int = 1) -> dict[str, Any]:
    """A unit's bytes: a CPU core works at one unit after the other, an accelerator at all of its units at once."""
    if jax.default_backend() == "cpu":
        return {"nbytes": state, "fixed_nbytes": work}
    return {"nbytes": state + at_once * work}


def _nbytes(run: workload.Run) -> tuple[int, int]:
    """Memory of a model in training, and of its parameters alone."""
    num_features = run.dataset.features.shape[1]
    batch_size = run.settings.training.batch_size
    training = shadow.training_nbytes(run.module, num_features=num_features, batch_size=batch_size)
    return training, shadow.params_nbytes(run.module, num_features=num_features)


def _scoring_nbytes(run: workload.Run) -> int:
    """Memory of a block of records on its way through a model and the attacks."""
    return attacking.RECORD_BLOCK * 4 * (run.dataset.features.shape[1] + 8 * run.dataset.num_classes)


def _fit_nbytes(run: workload.Run, num_records: int) -> int:
    """Memory of fitting one attack, each shadow asked about so many records."""
    return attacking.fit_nbytes(
        num_classes=run.dataset.num_classes,
        num_features=run.dataset.features.shape[1],
        num_shadows=run.settings.shadow.count,
        num_records=num_records,
    )


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
    memory = _fit_nbytes(run, num_records)
    return plan.Unit(
        key,
        _static(run, count, run.split.members.shape, run.split.non_members.shape, run.attack),
        work,
        steps=1.0,
        **_memory(count * (params + 9 * num_records), memory),
        most=8,
    )


def _federation_static(run: workload.Run) -> Hashable:
    """What decides the programs and trip counts of federations."""
    rounds = dataclasses.replace(run.settings.federation, centralised_epochs=None)
    return _static(run, rounds, len(run.scored), bool(run.settings.shadow.federations))


def _shadow_federations_unit(key: str, work: ShadowFederations) -> plan.Unit:
    """An adversary's shadow federations as a unit."""
    run, (training, params) = work.run, _nbytes(work.run)
    rounds, count = run.settings.federation, len(work.shards)
    updates = sum(_updates(run, item.sizes) for item in work.shards)
    memory = _fit_nbytes(run, run.split.non_members.shape[1] + max(int(item.sizes.max()) for item in work.shards))
    return plan.Unit(
        key,
        (_federation_static(run), run.split.members.shape, run.split.non_members.shape, run.attack),
        work,
        steps=rounds.cycles * rounds.local_epochs * updates,
        **_memory(count * (training + 2 * rounds.nodes * params), memory, at_once=rounds.nodes),
        alone=True,
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
        **_memory(params + (5 + 4 * len(work.readers)) * len(run.scored), _scoring_nbytes(run)),
    )


def _federation_unit(key: str, work: Federation) -> plan.Unit:
    """A federation as a unit: the snapshots of one cycle are in memory at once, scored, and gone."""
    run, (training, params) = work.run, _nbytes(work.run)
    rounds = run.settings.federation
    scores = rounds.nodes * len(run.scored) * (5 + 4 * sum(len(reader.attack.names) for reader in work.readers))
    readers = tuple((reader.attack, reader.per_snapshot) for reader in work.readers)
    return plan.Unit(
        key,
        (_federation_static(run), readers),
        work,
        steps=rounds.cycles * rounds.local_epochs * _updates(run, work.shards.sizes),
        **_memory(
            training + 2 * rounds.nodes * params + 2 * scores + 4 * len(run.scored) + 16 * work.shards.mask.size,
            _scoring_nbytes(run),
        ),
        num_models=1,
    )


STAGES: dict[type, tuple[str, Callable[[str, Any], plan.Unit]]] = {  # in the order of computing
    Model: ("central models", _model_unit),
    Fit: ("attacks", _fit_unit),
    Baseline: ("baselines", _baseline_unit),
    ShadowFederations: ("shadow federations", _shadow_federations_unit),
    Federation: ("federations", _federation_unit),
}


def stage_of(work: Any) -> str:
    """Returns the name of the stage that a piece of work belongs to."""
    return STAGES[type(work)][0]


def make_unit(key: str, work: Any) -> plan.Unit:
    """Returns a piece of work as a unit of the planner.

    Args:
      key: fingerprint of all that its outcome depends on.
      work: one of the classes above.
    """
    return STAGES[type(work)][1](key, work)
