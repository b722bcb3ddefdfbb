"""One experiment, from settings to rows: the only composer.

Every stage is a pure program over many models at once. What a stage leaves is kept in the workdir, so that the same
command goes on where an earlier one stopped.
"""

from collections.abc import Sequence

import jax
import numpy as np
import polars as pl

from fedmia_jax import attacking, errors, results, shadow, types, workload
from fedmia_jax.data import pools


def run(context: workload.Context) -> pl.DataFrame:
    """Trains targets and shadows, fits the attacks, scores every snapshot.

    Args:
      context: runs, records and workdir.

    Returns:
      The results, one row per (run, replicate, snapshot, attacked, attack, view); columns of `results.SCHEMA`.

    Raises:
      InputError: training went non-finite.
    """
    keep = context.workdir.stage
    centralised = keep("centralised", lambda: train_centralised(context))
    federated = keep("federated", lambda: train_federated(context))
    shadows = keep("shadows", lambda: train_shadows(context))
    fitted = keep("attacks", lambda: attacking.fit(context, shadows, per_snapshot=False))
    matched = fitted
    if context.settings.shadow.kind == "federated":
        federations = keep("shadow_federations", lambda: train_shadow_federations(context))
        matched = keep("attacks_federated", lambda: attacking.fit(context, federations, per_snapshot=True))
    targets = jax.tree.map(line_up, centralised, federated)
    num_snapshots = context.settings.federation.cycles * context.settings.federation.nodes
    fitted = jax.tree.map(
        lambda one, each: np.concatenate([one, np.repeat(each, num_snapshots // each.shape[1], axis=1)], axis=1),
        fitted,
        matched,
    )
    return results.tabulate(context, fitted, keep("scores", lambda: attacking.score(context, targets, fitted)))


def line_up(centralised: np.ndarray, federated: np.ndarray) -> np.ndarray:
    """Puts all that is attacked on one axis: [R, ...] and [R, C, N, ...] -> [R, 1 + T, ...], the centralised first."""
    snapshots = federated.reshape(federated.shape[0], -1, *federated.shape[3:])
    return np.concatenate([centralised[:, None], snapshots], axis=1)


def train_centralised(context: workload.Context) -> types.Params:
    """The baseline: one model a run on the union of the shards, for the epochs of a local visit; leaves [R, ...]."""
    unions = np.stack([run.shards.indices[run.shards.mask] for run in context.runs])
    shards = types.Shard(unions, np.ones(unions.shape, bool))
    epochs = context.settings.federation.local_epochs
    keys = context.keys(pools.Purpose.CENTRALISED)
    return _train(context, "centralised target", shards, context.hyper(), keys, epochs=epochs)


def train_shadows(context: workload.Context) -> types.Params:
    """Centrally trained shadows, leaves [R * J, ...]."""
    members = np.concatenate([run.split.members for run in context.runs])
    shards = types.Shard(members, np.ones(members.shape, bool))
    count = context.settings.shadow.count
    epochs = context.settings.shadow.epochs or context.settings.federation.local_epochs
    title = f"{len(context.runs) * count} shadow models"
    return _train(context, title, shards, context.hyper(repeats=count), context.shadow_keys(), epochs=epochs)


def _train(
    context: workload.Context, title: str, shards: types.Shard, hyper: types.Hyper, keys: jax.Array, *, epochs: int
):
    """Trains models on a shard each, with a bar."""
    train = shadow.make_train_many(
        context.module, context.settings.training, num_features=context.dataset.features.shape[1]
    )
    largest = context.largest()
    per_run = len(keys) // len(context.runs)
    with context.stage(f"training {title}", total=epochs * len(keys)) as advance:

        def on_segment(segment, rows, finite):
            where = f"by epoch {segment[1]}"
            _check_finite(context, title, [(rows[i] // per_run, where) for i in np.flatnonzero(~finite)])
            advance((segment[1] - segment[0]) * len(rows))

        return train(context.records, shards, hyper, keys, epochs=epochs, largest=largest, on_segment=on_segment)


def train_federated(context: workload.Context) -> types.Params:
    """The federations under attack: snapshots of every hand-off, leaves [R, C, N, ...]."""
    shards = _stack([run.shards for run in context.runs])
    keys = context.keys(pools.Purpose.FEDERATED)
    return _federate(context, "federation", shards, context.hyper(), keys)


def train_shadow_federations(context: workload.Context) -> types.Params:
    """Federations on shadow records, dealt as the target's; snapshots with leaves [R * J, C, N, ...]."""
    dealt = [workload.shadow_shards(run, members) for run in context.runs for members in run.split.members]
    count = context.settings.shadow.count
    title = f"{len(dealt)} shadow federations"
    return _federate(context, title, _stack(dealt), context.hyper(repeats=count), context.shadow_keys())


def _stack(shards: Sequence[pools.Shards]) -> types.Shard:
    """Stacks shards of several models, padded to one shape: leaves [S, N, n]."""
    longest = max(item.mask.shape[1] for item in shards)
    padding = [((0, 0), (0, longest - item.mask.shape[1])) for item in shards]
    indices = np.stack([np.pad(item.indices, pad) for item, pad in zip(shards, padding, strict=True)])
    return types.Shard(indices, np.stack([np.pad(item.mask, pad) for item, pad in zip(shards, padding, strict=True)]))


def _federate(
    context: workload.Context, title: str, shards: types.Shard, hyper: types.Hyper, keys: jax.Array
) -> types.Params:
    """Runs federations, with a bar."""
    settings = context.settings
    batches = -(-shards.mask.sum(axis=-1) // settings.training.batch_size)
    federate = shadow.make_federate_many(
        context.module,
        settings.training,
        num_features=context.dataset.features.shape[1],
        carry_optimizer_state=settings.federation.carry_optimizer_state,
        skip_empty=bool(batches.min() < batches.max()),
    )
    largest = context.largest()
    per_run = len(keys) // len(context.runs)
    with context.stage(f"training {title}", total=settings.federation.cycles * len(keys)) as advance:

        def on_segment(cycle, rows, finite):
            bad = [(rows[i] // per_run, f"at snapshot C{cycle + 1}N{node + 1}") for i, node in np.argwhere(~finite)]
            _check_finite(context, title, bad)
            advance(len(rows))

        return federate(
            context.records, shards, hyper, keys,
            local_epochs=settings.federation.local_epochs, cycles=settings.federation.cycles,
            largest=largest, on_segment=on_segment,
        )  # fmt: skip


def _check_finite(context: workload.Context, title: str, bad: Sequence[tuple[int, str]]) -> None:
    """Raises for the first run whose parameters are no longer finite."""
    for index, where in bad:
        run = context.runs[index]
        raise errors.InputError(
            f"training.learning_rate={run.settings.training.learning_rate:g}: {title} went non-finite in replicate "
            f"{run.replicate} {where}; lower it"
        )
