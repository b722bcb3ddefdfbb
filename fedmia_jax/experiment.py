"""One experiment, from settings to rows: the only composer.

Every stage is a pure program over many models at once. What a stage leaves is kept in the workdir, so that the same
command goes on where an earlier one stopped.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from fedmia_jax import (
    attacks,
    config,
    errors,
    model,
    progress,
    results,
    shadow,
    signals,
    store,
    types,
)
from fedmia_jax.attacks import contract
from fedmia_jax.data import dataset as datasets
from fedmia_jax.data import pools

Fitted = dict[str, Any]  # fitted attacks by name, as `contract.Attack.fit` returns them
RECORD_BLOCK = 4096  # records whose logits are in memory at once when scoring


@dataclasses.dataclass(frozen=True)
class Run:
    """One independent repetition: its settings and the records that it drew."""

    settings: config.Settings
    replicate: int
    dealt: pools.Pools
    shards: pools.Shards  # [N, n]
    split: pools.ShadowSplit

    @property
    def scored(self) -> np.ndarray:
        """Rows of the scored records, i32[M]: the shards in node order, then the test pool."""
        return np.concatenate([self.shards.indices[self.shards.mask], self.dealt.test])

    @property
    def owners(self) -> np.ndarray:
        """Owner of every scored record, i32[M]: the node's index, or -1 in the test pool."""
        owners = np.repeat(np.arange(len(self.shards.sizes)), self.shards.sizes)
        return np.concatenate([owners, np.full(len(self.dealt.test), -1)]).astype(np.int32)

    def key(self, purpose: pools.Purpose) -> jax.Array:
        """The key of one purpose; it depends on seed, replicate and purpose only."""
        key = jax.random.fold_in(jax.random.key(self.settings.seed), self.replicate)
        return jax.random.fold_in(key, int(purpose))


@dataclasses.dataclass(frozen=True)
class Context:
    """What every stage of a group of runs of equal shapes needs."""

    runs: Sequence[Run]
    dataset: datasets.Dataset
    records: types.Records
    workdir: store.Workdir
    show: progress.Progress
    budget: int  # bytes that the states of models trained at once may take

    @property
    def settings(self) -> config.Settings:
        """Settings of the first run; the static part is everybody's."""
        return self.runs[0].settings

    @property
    def module(self) -> Any:
        """The network that travels."""
        return model.make_model(self.settings.model, num_classes=self.dataset.num_classes)

    @contextlib.contextmanager
    def stage(self, title: str, *, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Shows one stage, and logs how long it took."""
        with self.show.stage(title, total=total) as advance:
            yield advance
        self.workdir.log(stage=title, seconds=round(self.show.seconds[title], 3))

    def attacks(self) -> dict[str, contract.Attack]:
        """The attacks that the settings name."""
        return attacks.make_attacks(self.settings.attack, num_classes=self.dataset.num_classes)

    def largest(self) -> int:
        """Models that may be in training at once."""
        num_features = self.dataset.features.shape[1]
        training = self.settings.training
        return shadow.models_in_budget(self.module, num_features=num_features, settings=training, budget=self.budget)

    def hyper(self, *, repeats: int = 1) -> types.Hyper:
        """Traced numbers of every run, each `repeats` times over: leaves f32[R * repeats]."""
        rates = [run.settings.training.learning_rate for run in self.runs]
        dropout = [run.settings.model.dropout_rate for run in self.runs]
        return types.Hyper(*(jnp.repeat(jnp.array(row, jnp.float32), repeats) for row in (rates, dropout)))

    def keys(self, purpose: pools.Purpose) -> jax.Array:
        """Keys of every run, [R]."""
        return jnp.stack([run.key(purpose) for run in self.runs])

    def shadow_keys(self) -> jax.Array:
        """Keys of every shadow of every run, [R * J]."""
        numbers = jnp.arange(self.settings.shadow.count)
        return jax.vmap(lambda key: jax.vmap(lambda j: jax.random.fold_in(key, j))(numbers))(
            self.keys(pools.Purpose.SHADOW)
        ).reshape(-1)


def make_context(
    runs: Sequence[Run],
    dataset: datasets.Dataset,
    workdir: store.Workdir,
    show: progress.Progress,
    *,
    budget: int = 4 * 2**30,
) -> Context:
    """Puts the records on the device beside what the stages need."""
    records = types.Records(jnp.asarray(dataset.features), jnp.asarray(dataset.labels))
    return Context(runs, dataset, records, workdir, show, budget)


def check(settings: config.Settings) -> None:
    """Checks the names of registered things, before records are read.

    Raises:
      InputError: no such model or attack.
    """
    model.make_model(settings.model, num_classes=2)
    attacks.make_attacks(settings.attack, num_classes=2)


def prepare_runs(settings: config.Settings, dataset: datasets.Dataset) -> list[Run]:
    """Draws the records of every replicate.

    Raises:
      InputError: the data set does not suffice for the pools, nodes or shadows.
    """
    runs = []
    for replicate in range(settings.replicates):
        draw = {"seed": settings.seed, "replicate": replicate}
        dealt = pools.make_pools(len(dataset.labels), settings.data, **draw)
        shards = pools.deal(dealt.federation, dataset.labels, settings.data, nodes=settings.federation.nodes, **draw)
        split = pools.draw_shadows(dealt.shadow, settings.shadow, target_size=int(shards.sizes.sum()), **draw)
        datasets.check_classes(dataset, dealt, replicate=replicate)
        runs.append(Run(settings, replicate, dealt, shards, split))
        if settings.shadow.kind == "federated":
            _shadow_shards(runs[-1], split.members[0])
    return runs


def run(context: Context) -> pl.DataFrame:
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
    fitted = keep("attacks", lambda: fit_attacks(context, shadows, per_snapshot=False))
    matched = fitted
    if context.settings.shadow.kind == "federated":
        federations = keep("shadow_federations", lambda: train_shadow_federations(context))
        matched = keep("attacks_federated", lambda: fit_attacks(context, federations, per_snapshot=True))
    targets = jax.tree.map(line_up, centralised, federated)
    num_snapshots = context.settings.federation.cycles * context.settings.federation.nodes
    fitted = jax.tree.map(
        lambda one, each: np.concatenate([one, np.repeat(each, num_snapshots // each.shape[1], axis=1)], axis=1),
        fitted,
        matched,
    )
    return results.tabulate(context, fitted, keep("scores", lambda: score(context, targets, fitted)))


def line_up(centralised: np.ndarray, federated: np.ndarray) -> np.ndarray:
    """Puts all that is attacked on one axis: [R, ...] and [R, C, N, ...] -> [R, 1 + T, ...], the centralised first."""
    snapshots = federated.reshape(federated.shape[0], -1, *federated.shape[3:])
    return np.concatenate([centralised[:, None], snapshots], axis=1)


def train_centralised(context: Context) -> types.Params:
    """The baseline: one model a run on the union of the shards, for the epochs of a local visit; leaves [R, ...]."""
    unions = [pools.pad([run.shards.indices[run.shards.mask]]) for run in context.runs]
    shards = types.Shard(
        np.concatenate([union.indices for union in unions]), np.concatenate([union.mask for union in unions])
    )
    epochs = context.settings.federation.local_epochs
    keys = context.keys(pools.Purpose.CENTRALISED)
    return _train(context, "centralised target", shards, context.hyper(), keys, epochs=epochs)


def train_shadows(context: Context) -> types.Params:
    """Centrally trained shadows, leaves [R * J, ...]."""
    members = np.concatenate([run.split.members for run in context.runs])
    shards = types.Shard(members, np.ones(members.shape, bool))
    count = context.settings.shadow.count
    epochs = context.settings.shadow.epochs or context.settings.federation.local_epochs
    title = f"{len(context.runs) * count} shadow models"
    return _train(context, title, shards, context.hyper(repeats=count), context.shadow_keys(), epochs=epochs)


def _train(context: Context, title: str, shards: types.Shard, hyper: types.Hyper, keys: jax.Array, *, epochs: int):
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


def train_federated(context: Context) -> types.Params:
    """The federations under attack: snapshots of every hand-off, leaves [R, C, N, ...]."""
    shards = _stack([run.shards for run in context.runs])
    keys = context.keys(pools.Purpose.FEDERATED)
    return _federate(context, "federation", shards, context.hyper(), keys)


def train_shadow_federations(context: Context) -> types.Params:
    """Federations on shadow records, dealt as the target's; snapshots with leaves [R * J, C, N, ...]."""
    dealt = [_shadow_shards(run, members) for run in context.runs for members in run.split.members]
    count = context.settings.shadow.count
    title = f"{len(dealt)} shadow federations"
    return _federate(context, title, _stack(dealt), context.hyper(repeats=count), context.shadow_keys())


def _shadow_shards(run: Run, members: np.ndarray) -> pools.Shards:
    """Deals a shadow's records in the proportions of the target's shards."""
    bounds = np.cumsum(run.shards.sizes) * len(members) // run.shards.sizes.sum()
    parts = np.split(members, bounds[:-1])
    for node, part in enumerate(parts):
        if not len(part):
            raise errors.InputError(
                f"shadow.num_train={len(members)}: node N{node + 1} of a shadow federation gets no record; raise it"
            )
    return pools.pad(parts)


def _stack(shards: Sequence[pools.Shards]) -> types.Shard:
    """Stacks shards of several models, padded to one shape: leaves [S, N, n]."""
    longest = max(item.mask.shape[1] for item in shards)
    padding = [((0, 0), (0, longest - item.mask.shape[1])) for item in shards]
    indices = np.stack([np.pad(item.indices, pad) for item, pad in zip(shards, padding, strict=True)])
    return types.Shard(indices, np.stack([np.pad(item.mask, pad) for item, pad in zip(shards, padding, strict=True)]))


def _federate(context: Context, title: str, shards: types.Shard, hyper: types.Hyper, keys: jax.Array) -> types.Params:
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


def _check_finite(context: Context, title: str, bad: Sequence[tuple[int, str]]) -> None:
    """Raises for the first run whose parameters are no longer finite."""
    for index, where in bad:
        run = context.runs[index]
        raise errors.InputError(
            f"training.learning_rate={run.settings.training.learning_rate:g}: {title} went non-finite in replicate "
            f"{run.replicate} {where}; lower it"
        )


def fit_attacks(context: Context, shadows: types.Params, *, per_snapshot: bool) -> Fitted:
    """Fits every attack on the shadows of each run.

    With `per_snapshot` the shadows are federations: the attack on snapshot CiNj is fitted on their snapshots CiNj,
    members being the records of their node j, which had just trained.

    Args:
      context: runs, records and settings.
      shadows: parameters with leading axes [R * J], or [R * J, C, N] with `per_snapshot`.
      per_snapshot: fit one attack for every snapshot.

    Returns:
      Fitted attacks by name, leaves [R, T, ...]; T is 1 without `per_snapshot`.
    """
    count, num_runs = context.settings.shadow.count, len(context.runs)
    made = context.attacks()
    read = signals.make_signals(model.make_apply(context.module))

    def fit_one(shared, one):
        params, rows, membership, weights, key = one
        seen = jax.lax.map(lambda pair: read(pair[0], shared, pair[1]), (params, rows))
        return {name: attack.fit(key, seen, membership, weights) for name, attack in made.items()}

    fit_many = shadow.make_parallel(fit_one)
    shadows = jax.tree.map(
        lambda leaf: leaf.reshape(num_runs, count, -1, *leaf.shape[3 if per_snapshot else 1 :]), shadows
    )
    snapshots = range(jax.tree.leaves(shadows)[0].shape[2]) if per_snapshot else range(1)
    parts = []
    with context.stage(f"fitting attacks: {', '.join(made)}", total=len(snapshots)) as advance:
        for t in snapshots:
            params = jax.tree.map(lambda leaf, t=t: leaf[:, :, t], shadows)
            node = t % context.settings.federation.nodes if per_snapshot else None
            known = _shadow_records(context.runs, node=node)
            keys = jax.vmap(lambda key, t=t: jax.random.fold_in(key, t))(context.keys(pools.Purpose.ATTACK))
            parts.append(jax.device_get(fit_many(context.records, (params, *known, keys))))
            advance(1)
    return jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *parts)


def _shadow_records(runs: Sequence[Run], *, node: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, membership and weights of what each run's shadows are asked about, [R, J, m]: in, out, padding.

    Members are all training records of a shadow, or those of one node of a shadow federation.
    """
    members = [run.split.members for run in runs]
    if node is not None:
        dealt = [[_shadow_shards(run, row) for row in run.split.members] for run in runs]
        members = [np.stack([item.indices[node][item.mask[node]] for item in row]) for row in dealt]
    lengths = np.array(
        [part.shape[1] + run.split.non_members.shape[1] for run, part in zip(runs, members, strict=True)]
    )
    longest = int(lengths.max())
    shape = (len(runs), runs[0].settings.shadow.count, longest)
    rows, slots = np.zeros(shape, np.int32), np.arange(longest)
    for index, (run, part) in enumerate(zip(runs, members, strict=True)):
        rows[index, :, : lengths[index]] = np.concatenate([part, run.split.non_members], axis=1)
    sizes = np.array([part.shape[1] for part in members])
    membership = np.broadcast_to((slots < sizes[:, None])[:, None], shape)
    return rows, membership, np.broadcast_to((slots < lengths[:, None])[:, None], shape).astype(np.float32)


def score(context: Context, snapshots: types.Params, fitted: Fitted) -> dict[str, Any]:
    """Scores every record at every snapshot, once, with every attack.

    Args:
      context: runs, records and settings.
      snapshots: parameters, leaves [R, 1 + T, ...], see `line_up`.
      fitted: fitted attacks by name, leaves [R, 1 + T, ...].

    Returns:
      `correct` bool[R, 1 + T, M], whether the target's answer is right; `scores` f32[R, 1 + T, M] and `threshold`
      f32[R, 1 + T] by attack. Records are those of `Run.scored`.
    """
    made = context.attacks()
    read = signals.make_signals(model.make_apply(context.module))

    def score_snapshot(shared, rows, params, fitted):
        def record(row):
            seen = read(params, shared, row[None])
            return signals.correct(seen)[0], {name: made[name].score(fitted[name], seen)[0] for name in made}

        right, scores = jax.lax.map(record, rows, batch_size=RECORD_BLOCK)
        return {
            "correct": right,
            "scores": scores,
            "threshold": {name: made[name].threshold(fitted[name]) for name in made},
        }

    def score_one(shared, one):
        rows, snapshots, fitted = one
        return jax.lax.map(lambda pair: score_snapshot(shared, rows, *pair), (snapshots, fitted))

    rows = np.stack([run.scored for run in context.runs])
    number = jax.tree.leaves(snapshots)[0].shape[1]
    with context.stage(f"scoring {number} snapshots x {rows.shape[1]:,} records"):
        return jax.device_get(shadow.make_parallel(score_one)(context.records, (rows, snapshots, fitted)))
