"""How the units of each stage are computed: stacks of equal shape through compiled programs, piece by piece to disk."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import attacking, config, parts, plan, shadow, stages, types, workload, works
from fedmia_jax.attacks import contract
from fedmia_jax.data import pools

MOST_GAIN = 0.02  # accuracy that the second half of fitting may bring to an attack that has converged
SAVE_SECONDS = 10.0  # between two looks of a central training at the disk
Advance = Callable[[float], None]
Devices = tuple[jax.Device, ...]
Compute = Callable[[workload.Lab, stages.Plan, plan.Chunk, parts.Part, Devices, Advance], None]


def train(
    lab: workload.Lab, planned: stages.Plan, chunk: plan.Chunk, part: parts.Part, devices: Devices, advance: Advance
) -> None:
    """Trains central models, and keeps them at every epoch that is wanted."""
    del planned
    asked: list[works.Model] = chunk.stack
    run, epochs = asked[0].run, asked[0].epochs
    settings = config.static(run.settings)
    programs = shadow.make_train(
        run.module, settings.training, num_features=run.dataset.features.shape[1], devices=devices
    )
    records = lab.records(run.dataset, devices)
    rows = np.stack([work.rows for work in asked])
    keys = jnp.stack([work.run.key(work.purpose, work.number) for work in asked])
    hyper = workload.hyper([work.run for work in asked])
    stacked = {"shard": types.Shard(rows, np.ones(rows.shape, bool)), "hyper": hyper, "key": keys}

    def segment(state, bounds):
        state, finite = programs.advance(records, state, stacked, bounds)
        _check_finite(lab, chunk, np.asarray(finite, bool), [f"by epoch {bounds[1]}"] * chunk.size)
        return state, {f"e{bounds[1]}": {"params": state.params}} if bounds[1] in epochs else {}

    _go(
        lab, chunk, part, programs.start(keys), segment, shadow.cut(epochs), advance,
        lengths=[end - first for first, end in shadow.cut(epochs)], save_seconds=SAVE_SECONDS,
    )  # fmt: skip


def federate(
    lab: workload.Lab, planned: stages.Plan, chunk: plan.Chunk, part: parts.Part, devices: Devices, advance: Advance
) -> None:
    """Runs federations cycle by cycle, and scores the snapshots of each before the next."""
    asked: list[works.Federation] = chunk.stack
    run, readers = asked[0].run, asked[0].readers
    score = attacking.make_score(
        run.module,
        tuple(reader.attack for reader in readers),
        num_classes=run.dataset.num_classes,
        devices=devices,
        phi=bool(run.settings.shadow.federations),
    )
    records = lab.records(run.dataset, devices)
    rows = np.stack([work.run.scored for work in asked])

    def read(cycle, snapshots):
        fitted = _fitted(lab, planned, [work.readers for work in asked], cycle, run.settings.federation.nodes)
        found = score(records, (rows, snapshots, fitted))
        return found | ({"params": snapshots} if lab.keep_models else {})

    shards = [work.shards for work in asked]
    hyper = workload.hyper([work.run for work in asked])
    keys = jnp.stack([work.key for work in asked])
    group = [unit.work.shards for unit in chunk.group]
    _federate(lab, chunk, part, devices, advance, shards=shards, group=group, hyper=hyper, keys=keys, read=read)


def federate_shadows(
    lab: workload.Lab, planned: stages.Plan, chunk: plan.Chunk, part: parts.Part, devices: Devices, advance: Advance
) -> None:
    """Runs the shadow federations of an adversary, and fits its attacks on the snapshots of each cycle.

    The attack on snapshot CiNj is fitted on the shadows' snapshots CiNj, members being the records of their node j,
    which had just trained.
    """
    del planned
    (unit,) = chunk.units
    work: works.ShadowFederations = unit.work
    run, count = work.run, len(work.shards)
    nodes = run.settings.federation.nodes
    devices = lab.devices
    fit = attacking.make_fit(run.module, run.attack, num_classes=run.dataset.num_classes, devices=devices[:nodes])
    group = [item for other in chunk.group for item in other.work.shards]
    members = [np.stack([item.indices[node][item.mask[node]] for item in work.shards]) for node in range(nodes)]
    known = attacking.shadow_records(members, [run.split.non_members] * nodes)

    def read(cycle, snapshots):
        by_node = jax.tree.map(lambda leaf: np.moveaxis(np.asarray(leaf), 1, 0), snapshots)  # [N, J, ...]
        keys = jnp.stack([run.key(pools.Purpose.ATTACK, cycle * nodes + node) for node in range(nodes)])
        fitted = fit(lab.records(run.dataset, devices[:nodes]), (by_node, *known, keys))
        _check_attack(lab, run, fitted)
        found = {"fitted": fitted} | ({"params": by_node} if lab.keep_models else {})
        return jax.tree.map(lambda leaf: np.asarray(leaf)[None], found)

    hyper = workload.hyper([run] * count)
    keys = jnp.stack([run.key(pools.Purpose.SHADOW, number) for number in range(count)])
    _federate(
        lab, chunk, part, devices[:count], advance,
        shards=work.shards, group=group, hyper=hyper, keys=keys, read=read,
    )  # fmt: skip


def _federate(lab, chunk, part, devices, advance, *, shards, group, hyper, keys, read) -> None:
    """Federations of one shape; `read(cycle, snapshots [S, N, ...])` makes what is kept of a cycle."""
    run = chunk.units[0].work.run
    rounds, training = run.settings.federation, config.static(run.settings).training
    batches = np.concatenate([-(-item.sizes // training.batch_size) for item in group])
    programs = shadow.make_federate(
        run.module,
        training,
        num_features=run.dataset.features.shape[1],
        devices=devices,
        carry_optimizer_state=rounds.carry_optimizer_state,
        skip_empty=bool(batches.min() < batches.max()),
    )
    records = lab.records(run.dataset, devices)
    stacked = {"shard": _stack(shards, max(item.mask.shape[1] for item in group)), "hyper": hyper, "key": keys}

    def segment(state, cycle):
        state, snapshots, finite = programs.advance(records, state, stacked, rounds.local_epochs, cycle)
        finite = np.asarray(finite, bool)
        where = [f"at snapshot C{cycle + 1}N{int(np.argmin(row)) + 1}" for row in finite]
        _check_finite(lab, chunk, np.all(finite, axis=1), where)
        return state, {f"c{cycle + 1}": read(cycle, snapshots)}

    lengths = [1] * rounds.cycles
    _go(lab, chunk, part, programs.start(keys), segment, range(rounds.cycles), advance, lengths=lengths)


def _stack(shards: Sequence[pools.Shards], longest: int) -> types.Shard:
    """Stacks shards of several models, padded to one shape: leaves [S, N, longest]."""
    padding = [((0, 0), (0, longest - item.mask.shape[1])) for item in shards]
    indices = np.stack([np.pad(item.indices, pad) for item, pad in zip(shards, padding, strict=True)])
    return types.Shard(indices, np.stack([np.pad(item.mask, pad) for item, pad in zip(shards, padding, strict=True)]))


def _go(lab, chunk, part, state, segment, segments, advance, *, lengths, save_seconds=0.0) -> None:
    """Goes through segments from the last whose state was kept; every piece is kept as soon as it is there."""
    done, state = part.load(state)
    saved = time.perf_counter()
    advance(chunk.steps * sum(lengths[:done]) / sum(lengths))
    for number, bounds in enumerate(segments):
        if number < done:
            continue
        if lab.stop.is_set():
            raise InterruptedError("another part has failed")
        state, pieces = segment(state, bounds)
        for name, tree in pieces.items():
            part.write(name, tree)
        last = number + 1 == len(segments)
        if not last and time.perf_counter() - saved >= save_seconds:
            part.save(number + 1, jax.device_get(state))
            saved = time.perf_counter()
        advance(chunk.steps * lengths[number] / sum(lengths))


def fit(
    lab: workload.Lab, planned: stages.Plan, chunk: plan.Chunk, part: parts.Part, devices: Devices, advance: Advance
) -> None:
    """Fits the attacks of some adversaries on their central shadows."""
    asked: list[works.Fit] = chunk.stack
    run = asked[0].run
    shadows = [_models(lab, planned, work.models, work.epochs) for work in asked]
    known = attacking.shadow_records(
        [work.run.split.members for work in asked], [work.run.split.non_members for work in asked]
    )
    keys = jnp.stack([work.run.key(pools.Purpose.ATTACK, 0) for work in asked])
    fit_many = attacking.make_fit(run.module, run.attack, num_classes=run.dataset.num_classes, devices=devices)
    fitted = jax.device_get(fit_many(lab.records(run.dataset, devices), (_stacked(shadows), *known, keys)))
    for row, unit in enumerate(chunk.units):
        _check_attack(lab, unit.work.run, jax.tree.map(lambda leaf, row=row: leaf[row], fitted))
    part.write("fitted", {"fitted": fitted})
    advance(chunk.steps)


def _stacked(trees: Sequence[Any]) -> Any:
    """Trees of equal structure, stacked along a new first axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _models(lab: workload.Lab, planned: stages.Plan, keys: Sequence[str], epochs: int) -> types.Params:
    """Parameters of central models after some epochs, stacked."""
    return _stacked([lab.workdir.parts.read(planned.address[key], f"e{epochs}")["params"] for key in keys])


def score_baselines(
    lab: workload.Lab, planned: stages.Plan, chunk: plan.Chunk, part: parts.Part, devices: Devices, advance: Advance
) -> None:
    """Scores all records at centralised targets."""
    asked: list[works.Baseline] = chunk.stack
    run = asked[0].run
    score = attacking.make_score(
        run.module,
        tuple(reader.attack for reader in asked[0].readers),
        num_classes=run.dataset.num_classes,
        devices=devices,
    )
    targets = _stacked([_models(lab, planned, [work.model], work.epochs) for work in asked])
    fitted = _fitted(lab, planned, [work.readers for work in asked], 0, 1)
    rows = np.stack([work.run.scored for work in asked])
    part.write("scores", score(lab.records(run.dataset, devices), (rows, targets, fitted)))
    advance(chunk.steps)


def _fitted(lab, planned: stages.Plan, readers: Sequence[Sequence[works.Reader]], cycle: int, num_snapshots: int):
    """Fitted attacks of the readers of S models at the snapshots of one cycle: by number, leaves [S, T, ...]."""

    def one(reader: works.Reader):
        found = planned.fitted(lab.workdir.parts, reader, cycle)
        return jax.tree.map(lambda leaf: np.broadcast_to(leaf, (num_snapshots, *leaf.shape[1:])), found)

    numbers = range(len(readers[0]))
    return {str(number): _stacked([one(each[number]) for each in readers]) for number in numbers}


def _check_finite(lab: workload.Lab, chunk: plan.Chunk, finite: np.ndarray, where: Sequence[str]) -> None:
    """Says which model is no longer finite; the end of a single experiment, and an empty row of a sweep."""
    for row in np.flatnonzero(~finite).tolist():
        run = chunk.units[min(row, len(chunk.units) - 1)].work.run  # of shadow federations the rows are shadows
        rate = run.settings.training.learning_rate
        stage = works.stage_of(chunk.units[0].work)
        lab.fail(
            f"training.learning_rate={rate:g}: {stage} went non-finite in replicate {run.replicate} {where[row]}; "
            "lower it",
            about=(run.settings, run.replicate),
        )


def _check_attack(lab: workload.Lab, run: workload.Run, fitted: Any) -> None:
    """Says where an attack is not finite, and warns where it has not converged."""
    settings = run.attack
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fitted)):
        lab.fail(f"attack.learning_rate={settings.learning_rate:g}: fitting an attack went non-finite; lower it")
        return
    for name, curve in attacking.curves(settings, fitted, num_classes=run.dataset.num_classes).items():
        gain = contract.gain_at_end(curve)
        lab.workdir.log(attack=name, held_out_accuracy=float(curve[..., -1].mean()), gain_at_end=gain)
        if gain > MOST_GAIN:
            lab.warn(
                f"attack {name} has not converged: the second half of fitting still brought {gain:.3f} of accuracy on "
                "held-out shadows; raise attack.epochs, or leakage is understated"
            )


COMPUTE: dict[str, Compute] = {
    "central models": train,
    "attacks": fit,
    "baselines": score_baselines,
    "shadow federations": federate_shadows,
    "federations": federate,
}
