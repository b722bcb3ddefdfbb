"""How tasks are computed: stacks of equal shape through compiled programs, piece by piece to disk."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import randomness, types
from fedmia_jax.attacks import contract
from fedmia_jax.data import pools
from fedmia_jax.engine import chunks, lab, programs, scoring
from fedmia_jax.engine.plans import plan, runs, tasks
from fedmia_jax.storage import artifacts

MOST_GAIN = 0.02  # accuracy that the second half of fitting may bring to an attack that has converged
SAVE_SECONDS = 10.0  # between two looks of a central training at the disk
Advance = Callable[[float], None]
Devices = tuple[jax.Device, ...]


def train(
    place: lab.Lab, planned: plan.Plan, chunk: chunks.Chunk, draft: artifacts.Draft, devices: Devices, advance: Advance
) -> None:
    """Trains central models, and keeps them at every epoch that is wanted."""
    del planned
    models: list[tasks.Model] = chunk.tasks
    run, epochs = models[0].run, models[0].epochs
    sizes = [len(unit.task.rows) for unit in chunk.group]
    batches = [-(-size // run.plans.training.batch_size) for size in sizes]
    trainer = place.join(programs.make_train(run.learning, devices=devices, skip_empty=min(batches) < max(batches)))
    records = place.records(run.dataset, devices)
    shards = pools.pad([model.rows for model in models], least=max(sizes))
    keys = jnp.stack([model.run.key(model.purpose, model.number) for model in models])
    hyper = runs.hyper([model.run for model in models])
    stacked = programs.Models(types.Shard(shards.indices, shards.mask), hyper, keys)

    def segment(state: Any, bounds: tuple[int, int]) -> tuple[Any, dict[str, Any]]:
        state, finite = trainer.advance(records, state, stacked, bounds)
        check_finite(place, chunk, np.asarray(finite, bool), lambda _: f"by epoch {bounds[1]}")
        return state, {f"e{bounds[1]}": {"params": state.params}} if bounds[1] in epochs else {}

    segments = programs.cut(epochs)
    lengths = [end - first for first, end in segments]
    progress = Progress(place, chunk, draft, advance, lengths, save_seconds=SAVE_SECONDS)
    progress.run(trainer.start(keys), segment, segments)


@dataclasses.dataclass(frozen=True)
class Progress:
    """A way through segments, from the last whose state was kept; every piece is kept as soon as it is there.

    Attributes:
      place: where work is done.
      chunk: what is computed.
      draft: where pieces and states are kept.
      advance: called with the model updates that are done.
      lengths: of the segments, in any unit.
      save_seconds: between two looks at the disk.
      goes_on: somebody else goes on after the last segment, whose state is kept as well.
    """

    place: lab.Lab
    chunk: chunks.Chunk
    draft: artifacts.Draft
    advance: Advance
    lengths: Sequence[int]
    save_seconds: float = 0.0
    goes_on: bool = False

    def run(self, state: Any, segment: Callable[[Any, Any], tuple[Any, dict[str, Any]]], segments: Sequence) -> None:
        """Goes through what is not done yet."""
        done, state = self.draft.load(state)
        saved = time.perf_counter()
        share = self.chunk.steps / sum(self.lengths)
        self.advance(share * sum(self.lengths[:done]))
        for number, bounds in list(enumerate(segments))[done:]:
            if self.place.stop.is_set():
                raise InterruptedError("work beside this has failed")
            state, pieces = segment(state, bounds)
            for name, tree in pieces.items():
                self.draft.write(name, tree)
            last = number + 1 == len(segments) and not self.goes_on
            if not last and time.perf_counter() - saved >= self.save_seconds:
                self.draft.save(number + 1, jax.device_get(state))
                saved = time.perf_counter()
            self.advance(share * self.lengths[number])


def fit(
    place: lab.Lab, planned: plan.Plan, chunk: chunks.Chunk, draft: artifacts.Draft, devices: Devices, advance: Advance
) -> None:
    """Fits the attacks of some adversaries on their central shadows."""
    fits: list[tasks.Fit] = chunk.tasks
    run = fits[0].run
    shadows = [_models(place, planned, task.models, task.epochs) for task in fits]
    known = scoring.shadow_records(
        [task.run.split.members for task in fits], [task.run.split.non_members for task in fits]
    )
    keys = jnp.stack([task.run.key(randomness.Purpose.ATTACK, 0) for task in fits])
    answered = fits[0].answered
    fit_many = scoring.make_fit(
        run.module,
        run.plans.model_attacks,
        num_classes=run.dataset.num_classes,
        devices=devices,
        answered_by=run.plans.defences.static if answered else scoring.NOTHING,
    )
    levels = runs.hyper([task.run for task in fits]).levels if answered else ()
    fitted = jax.device_get(fit_many(place.records(run.dataset, devices), (_stacked(shadows), *known, keys, levels)))
    for row, unit in enumerate(chunk.units):
        check_attack(place, unit.task.run, jax.tree.map(lambda leaf, row=row: leaf[row], fitted))
    draft.write("fitted", {"fitted": fitted})
    advance(chunk.steps)


def _stacked(trees: Sequence[Any]) -> Any:
    """Trees of equal structure, stacked along a new first axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _models(place: lab.Lab, planned: plan.Plan, models: Sequence[str], epochs: int) -> types.Params:
    """Parameters of central models after some epochs, stacked."""
    kept = place.workdir.artifacts
    return _stacked([kept.read(planned.unit_of[model], f"e{epochs}")["params"] for model in models])


def score_baselines(
    place: lab.Lab, planned: plan.Plan, chunk: chunks.Chunk, draft: artifacts.Draft, devices: Devices, advance: Advance
) -> None:
    """Scores all records at centralised targets."""
    baselines: list[tasks.Baseline] = chunk.tasks
    run = baselines[0].run
    score = scoring.make_score(
        run.module,
        tuple(reader.attacks for reader in baselines[0].readers),
        num_classes=run.dataset.num_classes,
        devices=devices,
    )
    targets = _stacked([_models(place, planned, [task.model], task.epochs) for task in baselines])
    fitted = fitted_by(place, planned, [task.readers for task in baselines], 0, 1)
    rows = np.stack([task.run.scored for task in baselines])
    draft.write("scores", score(place.records(run.dataset, devices), (rows, targets, fitted, ())))
    advance(chunk.steps)


def fitted_by(
    place: lab.Lab, planned: plan.Plan, readers: Sequence[Sequence[tasks.Reader]], cycle: int, positions: int
) -> dict[str, Any]:
    """Fitted attacks of the readers of S models at the snapshots of one cycle: by number, leaves [S, P, ...]."""

    def of_reader(reader: tasks.Reader) -> Any:
        fitted = planned.fitted(place.workdir.artifacts, reader, cycle)
        return jax.tree.map(lambda leaf: np.broadcast_to(leaf, (positions, *leaf.shape[1:])), fitted)

    numbers = range(len(readers[0]))
    return {str(number): _stacked([of_reader(of_model[number]) for of_model in readers]) for number in numbers}


def check_finite(place: lab.Lab, chunk: chunks.Chunk, finite: np.ndarray, where: Callable[[int], str]) -> None:
    """Says which model is no longer finite; the end of a single experiment, and an empty row of a sweep."""
    for row in np.flatnonzero(~finite).tolist():
        run = chunk.units[min(row, len(chunk.units) - 1)].task.run  # of shadow federations the rows are shadows
        stage, rate = type(chunk.units[0].task).NAME, run.plans.training.learning_rate
        place.fail(
            f"training.learning_rate={rate:g}: {stage} went non-finite in replicate {run.replicate} {where(row)}; "
            "lower it",
            about=f"{dict(run.values)} in replicate {run.replicate}",
        )


def check_attack(place: lab.Lab, run: runs.Run, fitted: Any) -> None:
    """Says where an attack is not finite, and warns where it has not converged."""
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fitted)):
        rate = run.settings.get("attack.learning_rate")
        place.fail(f"attack.learning_rate={rate:g}: fitting an attack went non-finite; lower it")
        return
    curves = scoring.curves(run.plans.model_attacks, fitted, num_classes=run.dataset.num_classes)
    for name, curve in curves.items():
        gain = contract.gain_at_end(curve)
        place.workdir.log(attack=name, held_out_accuracy=float(curve[..., -1].mean()), gain_at_end=gain)
        if gain > MOST_GAIN:
            place.warn(
                f"attack {name} has not converged: the second half of fitting still brought {gain:.3f} of accuracy on "
                "held-out shadows; raise attack.epochs, or leakage is understated"
            )
