"""The kinds of work, what each takes in shapes, updates and memory, and what its outcome depends on.

A task says what is to be done, its unit what that takes. `NAME` is what people read, `WITHOUT` lists the settings that
have no influence on its outcome. How it is computed stands in the registry `kinds.py`.
"""

import dataclasses
import functools
from collections.abc import Hashable, Iterable
from typing import Any, ClassVar

import jax
import numpy as np

from fedmia_jax import attacks, protocols, randomness
from fedmia_jax.attacks import signals
from fedmia_jax.data import pools
from fedmia_jax.engine import chunks, memory
from fedmia_jax.engine.plans import amounts, influence, runs
from fedmia_jax.schedule import Schedule


@dataclasses.dataclass(frozen=True)
class Reader:
    """Who scores snapshots: attacks fitted by a `Fit`, or snapshot by snapshot by `ShadowFederations`.

    Attributes:
      task: fingerprint of that task.
      attacks: the attacks on one model.
      per_snapshot: fitted for each snapshot by itself.
      answered: whoever reads what an outsider is answered, of the last snapshot alone.
    """

    task: str
    attacks: attacks.Chosen
    per_snapshot: bool
    answered: bool = False

    def piece(self, cycle: int) -> str:
        """Returns the piece of its task that holds the attacks on the snapshots of a cycle."""
        return f"c{cycle + 1}" if self.per_snapshot else "fitted"

    @property
    def plain(self) -> tuple[Any, ...]:
        """All of it, for a fingerprint."""
        return (self.task, _plain(self.attacks), self.per_snapshot, self.answered)


@functools.cache
def _plain(chosen: attacks.Chosen) -> dict[str, Any]:
    """Attacks and their options, for a fingerprint."""
    return dataclasses.asdict(chosen)


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """One centrally trained model, a target or a shadow; leaves a piece `e100` after so many epochs."""

    run: runs.Run
    rows: np.ndarray  # i32[n]
    purpose: randomness.Purpose
    number: int
    epochs: tuple[int, ...] = ()

    NAME: ClassVar = "central models"
    WITHOUT: ClassVar = ("federation.*", "shadow.*", "attack.*")

    def unit(self, fingerprint: str) -> chunks.Unit:
        """Returns what it takes."""
        training, params = amounts.of_model(self.run)
        # Coins leave other numbers of records to each target; padded, they share a program.
        target = self.purpose == randomness.Purpose.CENTRALISED
        slots = len(self.run.dealt.federation) if target else len(self.rows)
        epoch = memory.epoch_nbytes(self.run.module, num_slots=slots)
        return chunks.Unit(
            fingerprint,
            _static(self.run, self.WITHOUT, slots, self.epochs),
            self,
            **_joining(self.run, self.WITHOUT, slots, self.epochs),
            steps=self.epochs[-1] * _updates(self.run, [len(self.rows)]),
            **amounts.of_unit(training + params + 16 * slots, 0, epoch=epoch),
            kept_nbytes=params * len(self.epochs),
            num_models=1,
            shown={"epochs": self.epochs[-1]},
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """The attacks of one adversary, fitted on central shadows; leaves `fitted`."""

    run: runs.Run
    models: tuple[str, ...]  # fingerprints of the shadows
    epochs: int
    answered: bool = False  # on what an outsider would be answered

    NAME: ClassVar = "attacks"
    WITHOUT: ClassVar = ("federation.*", "shadow.*")

    def unit(self, fingerprint: str) -> chunks.Unit:
        """Returns what it takes: its memory is a device's, which fits one adversary after the other."""
        _, params = amounts.of_model(self.run)
        split, count = self.run.split, len(self.models)
        num_records = split.members.shape[1] + split.non_members.shape[1]
        return chunks.Unit(
            fingerprint,
            _static(self.run, self.WITHOUT, count, split.members.shape, split.non_members.shape, self.answered),
            self,
            steps=1.0,
            **amounts.of_unit(count * (params + 9 * num_records), amounts.of_fitting(self.run, num_records)),
            most=8,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Baseline:
    """Scores of all records at the centralised target; leaves `scores`, leaves [1, ...]."""

    run: runs.Run
    model: str  # fingerprint of the target
    epochs: int
    readers: tuple[Reader, ...] = ()

    NAME: ClassVar = "baselines"
    WITHOUT: ClassVar = Model.WITHOUT

    def unit(self, fingerprint: str) -> chunks.Unit:
        """Returns what it takes."""
        _, params = amounts.of_model(self.run)
        num_scored = len(self.run.scored)
        return chunks.Unit(
            fingerprint,
            _static(self.run, self.WITHOUT, num_scored, tuple(reader.attacks for reader in self.readers)),
            self,
            steps=1.0,
            kept_nbytes=num_scored * (1 + 4 * sum(len(reader.attacks.names) for reader in self.readers)),
            **amounts.of_unit(params + (5 + 4 * len(self.readers)) * num_scored, amounts.of_scoring(self.run)),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class ShadowFederations:
    """Shadow federations of one adversary, with attacks fitted at every snapshot; leaves `c1`, `c2`, .. [P, ...]."""

    run: runs.Run
    shards: tuple[pools.Shards, ...]

    NAME: ClassVar = "shadow federations"
    WITHOUT: ClassVar = ("federation.centralised_epochs", "shadow.*")

    def unit(self, fingerprint: str) -> chunks.Unit:
        """Returns what it takes."""
        run, count = self.run, len(self.shards)
        training, params = amounts.of_model(run)
        rounds, positions = run.plans.rounds, run.plans.snapshots_per_cycle
        updates = sum(_updates(run, shards.sizes) for shards in self.shards)
        largest = max(int(shards.sizes.max()) for shards in self.shards)
        fitting = amounts.of_fitting(run, run.split.non_members.shape[1] + largest)
        epoch = memory.epoch_nbytes(run.module, num_slots=largest)
        return chunks.Unit(
            fingerprint,
            _static(run, self.WITHOUT, len(run.scored), run.split.members.shape, run.split.non_members.shape),
            self,
            steps=rounds.cycles * rounds.local_epochs * updates,
            **amounts.of_unit(
                count * (training + 2 * positions * params), fitting, at_once=positions, epoch=epoch, models=count
            ),
            alone=True,
            num_models=count,
            shown={"nodes": rounds.nodes, "epochs": rounds.local_epochs},
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Federation:
    """One federation and the scores of all records at its hand-offs; leaves `c1`, `c2`, .. [P, ...].

    A reference federation has a number, and no reader but the comparison with the target.
    """

    run: runs.Run
    shards: pools.Shards
    number: int | None = None
    readers: tuple[Reader, ...] = ()

    NAME: ClassVar = "federations"
    WITHOUT: ClassVar = ("federation.centralised_epochs", "shadow.*", "attack.*")

    @property
    def key(self) -> jax.Array:
        """The key of its randomness."""
        if self.number is None:
            return self.run.key(randomness.Purpose.FEDERATED)
        return self.run.key(randomness.Purpose.REFERENCE, self.number)

    @property
    def order(self) -> np.ndarray:
        """Who trains when, i32[C, N]."""
        return self.run.plans.order(self.run.replicate, self.number)

    @property
    def schedule(self) -> Schedule:
        """Who trained each snapshot."""
        return self.run.plans.schedule(self.run.replicate, self.number)

    @property
    def answered(self) -> bool:
        """Whether its last snapshot is also read as an outsider is answered; leaves `answers` in the last piece."""
        return self.run.plans.answered and bool(self.run.plans.references.federations)

    @functools.cached_property
    def kept(self) -> tuple[signals.Signal, ...]:
        """The signals of every record that it leaves: phi, and what else the attacks with references read."""
        if not self.run.plans.references.federations:
            return ()
        return self.run.plans.signals

    def unit(self, fingerprint: str) -> chunks.Unit:
        """Returns what it takes: the snapshots of one cycle are in memory at once, scored, and gone."""
        run = self.run
        training, params = amounts.of_model(run)
        rounds, positions, num_scored = run.plans.rounds, run.plans.snapshots_per_cycle, len(run.scored)
        num_floats = len(self.kept) + sum(len(reader.attacks.names) for reader in self.readers)
        scores = positions * num_scored * (1 + 4 * num_floats)
        readers = tuple((reader.attacks, reader.per_snapshot, reader.answered) for reader in self.readers)
        slots = self.shards.mask.size
        state = training + 2 * positions * params + 2 * scores + 4 * num_scored + 16 * slots
        epoch = memory.epoch_nbytes(run.module, num_slots=slots)
        return chunks.Unit(
            fingerprint,
            _static(run, self.WITHOUT, num_scored, self.kept, readers),
            self,
            **_joining(run, self.WITHOUT, num_scored, self.kept, readers),
            steps=rounds.cycles * rounds.local_epochs * _updates(run, self.shards.sizes),
            **amounts.of_unit(state, amounts.of_scoring(run), epoch=epoch),
            kept_nbytes=scores * len(run.plans.scored_cycles),
            num_models=1,
            shown={"nodes": rounds.nodes, "epochs": rounds.local_epochs},
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Audit:
    """One piece of the audit of a point, see `findings.study`; leaves `tables`.

    Of the options of attacks only those of its own attack count: see `influence.of_audit`.
    """

    replicates: tuple[runs.Run, ...]  # of one point
    piece: str

    NAME: ClassVar = "adversaries"
    WITHOUT: ClassVar = Federation.WITHOUT

    @property
    def run(self) -> runs.Run:
        """The first replicate."""
        return self.replicates[0]

    def unit(self, fingerprint: str) -> chunks.Unit:
        """Returns what it takes: the signals of all targets and references, as given and in the common layout."""
        run = self.run
        num_federations = len(self.replicates) + run.plans.references.federations
        signals = 4 * num_federations * len(run.schedule) * len(run.scored)
        nbytes = 2 * signals * len(run.plans.signals)
        return chunks.Unit(fingerprint, self.replicates, self, steps=1.0, nbytes=nbytes, beside=True)


Task = Model | Fit | Baseline | ShadowFederations | Federation | Audit


def _static(run: runs.Run, without: tuple[str, ...], *more: Hashable) -> Hashable:
    """What decides the programs of a task: all settings but traced ones and those without influence, and its shapes."""
    return (influence.static(run, without), run.dataset.fingerprint, *more)


def _joining(run: runs.Run, without: tuple[str, ...], *more: Hashable) -> dict[str, Any]:
    """What a unit says of the others that it may train as one with, see `chunks.Unit`."""
    by_label = run.settings.get("data.partition") == "dirichlet"  # other labels, shards of other lengths
    if by_label or not run.learning.may_join or run.plans.rounds.kind not in protocols.PROTOCOLS:
        return {}
    alike = (influence.static(run, without), run.dataset.features_fingerprint, *more)
    labels = run.dataset.labels
    return {"bundled_by": alike, "bundled_nbytes": labels.nbytes, "num_classes": run.dataset.num_classes}


def _updates(run: runs.Run, sizes: Iterable[int]) -> int:
    """Updates of one epoch over shards of these sizes."""
    return sum(-(-int(size) // run.plans.training.batch_size) for size in sizes)
