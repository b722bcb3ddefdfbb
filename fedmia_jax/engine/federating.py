"""How federations are run: side by side, cycle by cycle, their snapshots scored or attacked before the next."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import errors, options, randomness, schedule, types
from fedmia_jax.data import pools
from fedmia_jax.engine import chunks, execution, lab, programs, scoring
from fedmia_jax.engine.plans import plan, runs, tasks
from fedmia_jax.storage import artifacts


def federate(
    place: lab.Lab,
    planned: plan.Plan,
    chunk: chunks.Chunk,
    draft: artifacts.Draft,
    devices: execution.Devices,
    advance: execution.Advance,
) -> None:
    """Scores the snapshots that are held, then runs federations cycle by cycle and scores those of each cycle."""
    federations: list[tasks.Federation] = chunk.tasks
    last = federations[0].run.plans.rounds.cycles - 1
    score = _make_score(place, planned, federations, devices, answered=False)
    score_answers = _make_score(place, planned, federations, devices, answered=True)

    def read(cycle: int, snapshots: types.Params) -> dict[str, Any]:
        scored = score(cycle, snapshots)
        if cycle == last and federations[0].answered:
            scored["answers"] = score_answers(cycle, jax.tree.map(lambda leaf: leaf[:, -1:], snapshots))
        return scored | ({"params": snapshots} if place.keep_models else {})

    for cycle in federations[0].run.plans.scored_cycles:
        piece = _piece(cycle)
        held = draft.held(piece)
        if held is not None and piece not in draft.pieces:
            draft.write(piece, read(cycle, jax.tree.map(lambda leaf: leaf[chunk.rows], held)))
    _run_federations(place, chunk, draft, devices, advance, stack=_stack(chunk), read=read)


def federate_ahead(
    place: lab.Lab,
    planned: plan.Plan,
    chunk: chunks.Chunk,
    draft: artifacts.Draft,
    devices: execution.Devices,
    advance: execution.Advance,
) -> None:
    """Runs federations cycle by cycle before there are attacks, and holds the snapshots for `federate` to score."""
    del planned
    _run_federations(place, chunk, draft, devices, advance, stack=_stack(chunk), read=None)


def _piece(cycle: int) -> str:
    """The piece that one cycle leaves, by its 0-based number."""
    return f"c{cycle + 1}"


def _make_score(
    place: lab.Lab,
    planned: plan.Plan,
    federations: Sequence[tasks.Federation],
    devices: execution.Devices,
    *,
    answered: bool,
) -> Callable[[int, types.Params], dict[str, Any]]:
    """`score(cycle, snapshots [S, P, ...])`, as participants read them or as an outsider is answered."""
    run = federations[0].run
    readers = [[reader for reader in each.readers if reader.answered == answered] for each in federations]
    score = scoring.make_score(
        run.module,
        tuple(reader.attacks for reader in readers[0]),
        num_classes=run.dataset.num_classes,
        devices=devices,
        kept=federations[0].kept,
        answered_by=run.plans.defences.static if answered else scoring.NOTHING,
    )
    records = place.records(run.dataset, devices)
    rows = np.stack([federation.run.scored for federation in federations])
    levels = runs.hyper([federation.run for federation in federations]).levels if answered else ()

    def call(cycle: int, snapshots: types.Params) -> dict[str, Any]:
        fitted = execution.fitted_by(place, planned, readers, cycle, jax.tree.leaves(snapshots)[0].shape[1])
        return score(records, (rows, snapshots, fitted, levels))

    return call


def federate_shadows(
    place: lab.Lab,
    planned: plan.Plan,
    chunk: chunks.Chunk,
    draft: artifacts.Draft,
    devices: execution.Devices,
    advance: execution.Advance,
) -> None:
    """Runs the shadow federations of an adversary, and fits its attacks on the snapshots of each cycle.

    The attack on a snapshot is fitted on the shadows' snapshots of the same place in the schedule, members being the
    records of the node that had just trained, or of all nodes where it is an aggregate.
    """
    del planned
    (unit,) = chunk.units
    task: tasks.ShadowFederations = unit.task
    run, count, positions = task.run, len(task.shards), task.run.plans.snapshots_per_cycle
    devices, fitting = place.devices, place.devices[:positions]
    fit = scoring.make_fit(run.module, run.plans.model_attacks, num_classes=run.dataset.num_classes, devices=fitting)

    trained = [run.plans.trained(shards) for shards in task.shards]

    def read(cycle: int, snapshots: types.Params) -> dict[str, Any]:
        first = cycle * positions
        members = [_trained_on(trained, trainer) for trainer in run.schedule.trainer[run.schedule.cycle == cycle]]
        known = scoring.shadow_records(members, [run.split.non_members] * positions)
        by_snapshot = jax.tree.map(lambda leaf: np.moveaxis(np.asarray(leaf), 1, 0), snapshots)  # [P, J, ...]
        keys = jnp.stack([run.key(randomness.Purpose.ATTACK, first + position) for position in range(positions)])
        fitted = fit(place.records(run.dataset, fitting), (by_snapshot, *known, keys, ()))
        execution.check_attack(place, run, fitted)
        kept = {"fitted": fitted} | ({"params": by_snapshot} if place.keep_models else {})
        return jax.tree.map(lambda leaf: np.asarray(leaf)[None], kept)

    stack = _Stack(
        every_run=[run] * count,
        shards=task.shards,
        group=[shards for other in chunk.group for shards in other.task.shards],
        keys=jnp.stack([run.key(randomness.Purpose.SHADOW, number) for number in range(count)]),
        orders=[run.plans.order(run.replicate)] * count,
    )
    _run_federations(place, chunk, draft, devices[:count], advance, stack=stack, read=read)


def _trained_on(shards: Sequence[pools.Shards], trainer: int) -> np.ndarray:
    """Rows that the trainer of a snapshot had in each shadow federation, i32[J, n]; of all nodes for an aggregate."""
    if trainer == schedule.AGGREGATE:
        return np.stack([of_shadow.indices[of_shadow.mask] for of_shadow in shards])
    return np.stack([of_shadow.indices[trainer][of_shadow.mask[trainer]] for of_shadow in shards])


def _stack(chunk: chunks.Chunk) -> "_Stack":
    """The federations of a chunk, side by side."""
    federations: list[tasks.Federation] = chunk.tasks
    return _Stack(
        every_run=[federation.run for federation in federations],
        shards=[federation.shards for federation in federations],
        group=[unit.task.shards for unit in chunk.group],
        keys=jnp.stack([federation.key for federation in federations]),
        orders=[federation.order for federation in federations],
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Stack:
    """Federations of one shape, side by side."""

    every_run: Sequence[runs.Run]
    shards: Sequence[pools.Shards]
    group: Sequence[pools.Shards]  # of all federations of the group, which decide the padded shape
    keys: jax.Array
    orders: Sequence[np.ndarray]  # i32[C, N] each

    def models(self) -> programs.Models:
        """What they train with, shards padded to one shape."""
        longest = max(shards.mask.shape[1] for shards in self.group)
        padded = [(shards, ((0, 0), (0, longest - shards.mask.shape[1]))) for shards in self.shards]
        indices = np.stack([np.pad(shards.indices, padding) for shards, padding in padded])
        mask = np.stack([np.pad(shards.mask, padding) for shards, padding in padded])
        return programs.Models(types.Shard(indices, mask), runs.hyper(self.every_run), self.keys)


def _run_federations(
    place: lab.Lab,
    chunk: chunks.Chunk,
    draft: artifacts.Draft,
    devices: execution.Devices,
    advance: execution.Advance,
    *,
    stack: _Stack,
    read: Callable[[int, types.Params], dict[str, Any]] | None,
) -> None:
    """Federations of one shape; `read(cycle, snapshots [S, P, ...])` makes what is kept of a cycle.

    Without it the snapshots are held for who will read them.
    """
    run = stack.every_run[0]
    plans, rounds = run.plans, run.plans.rounds
    batches = np.concatenate([-(-plans.trained(shards).sizes // plans.training.batch_size) for shards in stack.group])
    federation = place.join(
        programs.make_federate(
            run.learning,
            rounds.kind,
            options.static(plans.protocol_options),
            devices=devices,
            skip_empty=bool(batches.min() < batches.max()),
        )
    )
    records, models = place.records(run.dataset, devices), stack.models()
    orders = np.stack(stack.orders)

    def play(state: Any, cycle: int) -> tuple[Any, Any]:
        now = dataclasses.replace(models, order=orders[:, cycle : cycle + 1])
        final = cycle + 1 == rounds.cycles
        state, snapshots, finite = federation.advance(records, state, now, (rounds.local_epochs, cycle, final))
        _check_snapshots(place, chunk, stack, cycle, np.asarray(finite, bool))
        return state, snapshots

    def segment(state: Any, cycles: range) -> tuple[Any, dict[str, Any]]:
        for cycle in cycles:
            state, snapshots = play(state, cycle)
        piece = _piece(cycles.stop - 1)
        if read is None:
            draft.hold(piece, snapshots)
            return state, {}
        return state, {piece: read(cycles.stop - 1, snapshots)}

    ends = [0, *(cycle + 1 for cycle in plans.scored_cycles)]
    segments = [range(*bounds) for bounds in itertools.pairwise(ends)]
    lengths = [len(cycles) for cycles in segments]
    progress = execution.Progress(place, chunk, draft, advance, lengths, goes_on=read is None)
    progress.run(federation.start(models.key), segment, segments)


def _check_snapshots(place: lab.Lab, chunk: chunks.Chunk, stack: _Stack, cycle: int, finite: np.ndarray) -> None:
    """Checks that a cycle left as many snapshots as its schedule names, bool[S, P], all of them finite."""
    plans = stack.every_run[0].plans
    positions = plans.snapshots_per_cycle
    if finite.shape[1] != positions:
        raise errors.InputError(
            f"federation.kind={plans.rounds.kind!r}: a round leaves {finite.shape[1]} snapshots, its schedule names "
            f"{positions}; they must agree"
        )

    def where(row: int) -> str:
        first = cycle * positions + int(np.argmin(finite[row]))
        return f"at snapshot {plans.make_schedule(stack.orders[row]).label(first)}"

    execution.check_finite(place, chunk, np.all(finite, axis=1), where)
