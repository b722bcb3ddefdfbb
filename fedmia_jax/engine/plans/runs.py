"""What there is to run: independent runs, and the records that each drew."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import data, errors, options, randomness, types
from fedmia_jax.config import schema, sweeps
from fedmia_jax.data import dataset as datasets
from fedmia_jax.data import pools
from fedmia_jax.data import references as reference_records
from fedmia_jax.defenses import contract as defenses_contract
from fedmia_jax.engine import checks, programs
from fedmia_jax.engine.plans import points, sizes
from fedmia_jax.fingerprints import fingerprint
from fedmia_jax.learning import networks
from fedmia_jax.schedule import Schedule


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One independent repetition of one point: its settings and the records that it drew."""

    plans: points.Plans
    values: Mapping[str, Any]  # what sets the point apart, by dotted name
    replicate: int
    dataset: datasets.Dataset
    dealt: pools.Pools
    shards: pools.Shards  # [N, n], trained on
    split: pools.ShadowSplit
    scored: np.ndarray  # i32[M], rows of the federation's pool, then of the test pool; or those of the audit
    audit: reference_records.Audit | None = None
    tossed: pools.Shards | None = None  # [N, n], records of which coins decided whether they are trained on

    @property
    def settings(self) -> schema.Settings:
        """All settings of the point."""
        return self.plans.settings

    @functools.cached_property
    def owners(self) -> np.ndarray:
        """Owner of every scored record, i32[M]: the node's index, -1 in the test pool or left out, -2 if not dealt."""
        owners = np.full(len(self.dataset.labels), -2, np.int32)
        owners[self.dealt.test] = -1
        if self.tossed is not None:
            owners[self.tossed.indices[self.tossed.mask]] = -1
        return self.plans.trained(self.shards).owners(owners)[self.scored]

    @property
    def assigned(self) -> np.ndarray | None:
        """The node that tossed a coin for every scored record, i32[M], -1 for none; None where there are no coins."""
        if self.tossed is None:
            return None
        return self.tossed.owners(np.full(len(self.dataset.labels), -1, np.int32))[self.scored]

    @property
    def central_rows(self) -> np.ndarray:
        """Rows that the centralised target trains on: the federation's pool, but what coins leave out."""
        return self.dealt.federation if self.tossed is None else self.shards.indices[self.shards.mask]

    @property
    def reference_owners(self) -> np.ndarray:
        """Owner of every scored record in every reference federation, i32[J, M]: the node's index, or -1.

        A record that a reference holds out counts as one outside, since no gradient is taken of it.
        """
        outside = np.full(len(self.dataset.labels), -1, np.int32)
        assert self.audit is not None
        trained = [self.plans.trained(shards) for shards in self.audit.references]
        return np.stack([shards.owners(outside)[self.scored] for shards in trained])

    @property
    def schedule(self) -> Schedule:
        """Who trained each attacked snapshot of the federation from which, and who received it."""
        return self.plans.schedule(self.replicate)

    @property
    def use(self) -> defenses_contract.Use:
        """How the federation uses the records of its nodes."""
        rounds = self.plans.rounds
        return defenses_contract.Use(
            num_features=self.dataset.features.shape[1],
            node_sizes=tuple(int(size) for size in self.plans.trained(self.shards).sizes),
            batch_size=self.plans.training.batch_size,
            cycles=rounds.cycles,
            local_epochs=rounds.local_epochs,
            carries_optimizer_state=getattr(self.plans.protocol_options, "carry_optimizer_state", False),
        )

    @functools.cached_property
    def module(self) -> nn.Module:
        """The network that travels."""
        return networks.make_network(self.plans.network, num_classes=self.dataset.num_classes)

    @property
    def learning(self) -> programs.Learning:
        """What decides the programs that train."""
        return programs.Learning(
            self.module,
            options.static(self.plans.training),
            self.plans.defences.static,
            self.dataset.features.shape[1],
        )

    def key(self, purpose: randomness.Purpose, *numbers: int) -> jax.Array:
        """Returns the key of one purpose and its index; it depends on seed, replicate, purpose and index only."""
        return randomness.make_key(self.settings.get("seed"), self.replicate, purpose, *numbers)


@functools.lru_cache(maxsize=4096)
def run_id(run: Run) -> str:
    """Returns the fingerprint of a point: its settings without replicates, and the content of its records."""
    counted = {name: value for name, value in run.settings.active.items() if name not in ("replicates", "data.path")}
    counted["data.num_classes"] = run.dataset.num_classes  # the content counts, wherever it lies
    return fingerprint(counted, run.dataset.fingerprint)


def points_of(every_run: Sequence[Run]) -> list[list[Run]]:
    """Returns the replicates of each point that has reference federations."""
    points: dict[str, list[Run]] = {}
    for run in every_run:
        if run.audit is not None:
            points.setdefault(run_id(run), []).append(run)
    return list(points.values())


def hyper(runs: Sequence[Run]) -> types.Hyper:
    """Returns the traced numbers of training of every run, leaves f32[len(runs)]."""
    return jax.tree.map(lambda *values: jnp.array(values, jnp.float32), *(run.plans.hyper for run in runs))


def prepare(swept: Sequence[sweeps.Point]) -> list[Run]:
    """Reads the records of every point and draws those of its replicates; what points share is made once.

    Raises:
      InputError: unusable records, or records that do not suffice for the pools, nodes or shadows.
    """
    every = [(points.Plans(point.settings), point.values) for point in swept]
    sizes.check_count(plans.settings for plans, _ in every)
    for plans in {plans.settings.static: plans for plans, _ in every}.values():
        points.check(plans)
    read = functools.cache(data.read)
    load = functools.cache(functools.partial(datasets.load, read=read))
    draw = functools.cache(functools.partial(_draw, load))
    runs: list[Run] = []
    for plans, values in every:
        settings = plans.settings
        drawing: tuple[Any, ...] = (
            settings.read("data", datasets.Options),
            settings.read("data", data.find(settings.get("data.name")).options),
            settings.read("data", pools.Options),
            settings.read("shadow", pools.ShadowOptions),
            plans.references,
            plans.rounds.nodes,
            settings.get("seed"),
        )
        of_point = []
        for replicate in range(settings.get("replicates")):
            run = Run(plans, values, replicate, *draw(*drawing, replicate))
            networks.check(options.static(plans.network), run.module, num_features=run.dataset.features.shape[1])
            if plans.rounds.cycles:
                checks.check_protocol(
                    run.learning,
                    plans.rounds.kind,
                    plans.protocol_options,
                    nodes=plans.rounds.nodes,
                    num_snapshots=plans.snapshots_per_cycle,
                )
            if plans.defences.names:
                checks.check_training(run.learning, run.dataset.features.dtype)
                _check_held_out(run)
            of_point.append(run)
            if plans.shadows.kind == "federated":
                pools.deal_like(run.shards, run.split.members[0])
        runs += _solve(plans, of_point)
    return runs


def _check_held_out(run: Run) -> None:
    """Raises where records are to be held out and cannot be."""
    if (every := run.plans.held_out) is None:
        return
    if run.tossed is not None:
        raise errors.InputError(
            f"data.canary_rate={run.settings.get('data.canary_rate'):g}: coins say which records are trained on, and "
            "defense.names='early_stopping' holds some of them out; leave out one of the two"
        )
    smallest = min(int(shards.sizes.min()) for shards in (run.shards, *(run.audit.references if run.audit else ())))
    if smallest < every:
        raise errors.InputError(
            f"defense.held_out_every={every}: a node has {smallest} records, of which none is held out; lower it, or "
            "give nodes more records"
        )


def _solve(plans: points.Plans, of_point: Sequence[Run]) -> Sequence[Run]:
    """The replicates of a point with what their defences solve for as settings like any other; no promise is void."""
    solved = {f"defense.{name}": value for name, value in plans.defences.solve([run.use for run in of_point]).items()}
    if solved:
        items = tuple((name, solved.get(name, value)) for name, value in plans.settings.items)
        plans = points.Plans(schema.Settings(items))
        of_point = [dataclasses.replace(run, plans=plans) for run in of_point]
    for run in of_point:
        plans.defences.guarantees(run.use)
    return of_point


def _draw(
    load: Callable[..., datasets.Dataset],
    records: datasets.Options,
    reader: Any,
    dealing: pools.Options,
    shadows: pools.ShadowOptions,
    references: reference_records.Options,
    nodes: int,
    seed: int,
    replicate: int,
) -> tuple[Any, ...]:
    """Data set, pools, shards, shadow, scored, audited and tossed records of one replicate, as `Run` takes them."""
    dataset, draw = load(records, reader), {"seed": seed, "replicate": replicate}
    audit = None
    if references.federations:
        common = pools.make_pools(len(dataset.labels), dealing, name=records.name, seed=seed, replicate=0)
        audit = reference_records.draw_audit(common, dataset.labels, dealing, references, nodes=nodes, seed=seed)
        dealt = reference_records.redraw(common, **draw)
    else:
        dealt = pools.make_pools(len(dataset.labels), dealing, name=records.name, **draw)
    everyone = pools.deal(dealt.federation, dataset.labels, dealing, nodes=nodes, **draw)
    shards = pools.toss(everyone, dealing, **draw)
    target_size = max(1, round(len(dealt.federation) * (dealing.canary_rate or 1.0)))
    split = pools.draw_shadows(dealt.shadow, shadows, target_size=target_size, **draw)
    datasets.check_classes(dataset, dealt, replicate=replicate)
    scored = audit.rows if audit else np.concatenate([dealt.federation, dealt.test])
    return dataset, dealt, shards, split, scored, audit, everyone if dealing.canary_rate else None
