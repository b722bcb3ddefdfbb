"""What there is to run: independent runs, and the records that each drew."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import attacks, data, defenses, errors, options, protocols, randomness, registry, types
from fedmia_jax.attacks import contract as attacks_contract
from fedmia_jax.attacks import signals as attack_signals
from fedmia_jax.audit import correction, views
from fedmia_jax.config import schema, sweeps
from fedmia_jax.data import dataset as datasets
from fedmia_jax.data import pools
from fedmia_jax.data import references as reference_records
from fedmia_jax.defenses import contract as defenses_contract
from fedmia_jax.engine import programs, sizes
from fedmia_jax.learning import networks, training
from fedmia_jax.protocols import contract as protocols_contract
from fedmia_jax.schedule import Schedule


@dataclasses.dataclass(frozen=True)
class Plans:
    """What the settings say to each part of the science, as that declares its own options.

    Attributes:
      settings: all of them.
    """

    settings: schema.Settings

    @functools.cached_property
    def training(self) -> training.Options:
        """How a party trains."""
        return self.settings.read("training", training.Options)

    @functools.cached_property
    def network(self) -> networks.Options:
        """The network that travels."""
        return self.settings.read("model", networks.Options)

    @functools.cached_property
    def rounds(self) -> protocols_contract.Options:
        """Nodes, cycles and local epochs."""
        return self.settings.read("federation", protocols_contract.Options)

    @functools.cached_property
    def protocol(self) -> protocols_contract.Factory:
        """How models travel."""
        return protocols.find(self.rounds.kind)

    @functools.cached_property
    def protocol_options(self) -> Any:
        """The protocol's own options."""
        return self.settings.read("federation", self.protocol.options)

    @functools.cached_property
    def defences(self) -> defenses.Chosen:
        """What every node does to leak less."""
        return defenses.choose(self.settings.get("defense.names"), self.settings.group("defense"))

    @functools.cached_property
    def held_out(self) -> int | None:
        """One in so many records of a node is held out."""
        return self.defences.make().held_out

    def trained(self, shards: pools.Shards) -> pools.Shards:
        """Returns the records of nodes that they train on, which is all but those that are held out."""
        return shards.without(self.held_out)

    @functools.cached_property
    def answered(self) -> bool:
        """Whether a defence changes what an outsider is answered."""
        return bool(self.defences.make().hooks("answer"))

    @functools.cached_property
    def references(self) -> reference_records.Options:
        """Reference federations."""
        return self.settings.read("shadow", reference_records.Options)

    @functools.cached_property
    def shadows(self) -> schema.Shadows:
        """How shadows are trained."""
        return self.settings.read("shadow", schema.Shadows)

    @functools.cached_property
    def model_attacks(self) -> attacks.Chosen:
        """The attacks on one model."""
        names = attacks.on_one_model(self.settings.get("attack.names"))
        return attacks.choose(names, self.settings.group("attack"))

    @functools.cached_property
    def reference_attacks(self) -> attacks.Chosen:
        """The attacks that compare with reference federations."""
        names = attacks.with_references(self.settings.get("attack.names"))
        return attacks.choose(names, self.settings.group("attack"))

    @functools.cached_property
    def signals(self) -> tuple[attack_signals.Signal, ...]:
        """What attacks with references read of every record, each signal once; phi is always there."""
        read = attacks.signals_read(self.reference_attacks).values()
        return tuple(dict.fromkeys((attack_signals.PHI, *read)))

    @functools.cached_property
    def claim(self) -> correction.Options:
        """Which bound on epsilon is claimed."""
        return self.settings.read("attack", correction.Options)

    @property
    def hyper(self) -> types.Hyper:
        """The numbers of training that programs take as arguments."""
        return types.Hyper(self.training.learning_rate, self.network.dropout_rate, self.defences.levels)

    @property
    def central_epochs(self) -> int:
        """Epochs of the centralised target."""
        return self.settings.get("federation.centralised_epochs") or self.rounds.local_epochs

    @functools.cached_property
    def _paths(self) -> dict[int, tuple[np.ndarray, Schedule]]:
        """Orders and their schedules, by who drew them, as far as they were asked for."""
        return {}

    def order(self, replicate: int = 0, reference: int | None = None) -> np.ndarray:
        """Returns who trains when, i32[C, N], in a replicate and its shadows, or in a reference federation.

        Where the order is shared it is that of replicate 0 everywhere.
        """
        return self._path(replicate, reference)[0]

    def schedule(self, replicate: int = 0, reference: int | None = None) -> Schedule:
        """Returns who trained each snapshot that is attacked from which, and who received it."""
        return self._path(replicate, reference)[1]

    def _path(self, replicate: int, reference: int | None) -> tuple[np.ndarray, Schedule]:
        """The order of a federation and its schedule."""
        own = replicate if reference is None else reference_records.FIRST_REFERENCE + reference
        drawn_by = 0 if self.rounds.order_shared else own
        if drawn_by not in self._paths:
            order = self._draw_order(drawn_by)
            self._paths[drawn_by] = (order, self.make_schedule(order).of_cycles(self.scored_cycles))
        return self._paths[drawn_by]

    def _draw_order(self, drawn_by: int) -> np.ndarray:
        """Draws an order, and lets the defences change it."""
        seed, purpose = self.settings.get("seed"), randomness.Purpose.ORDER
        generator = randomness.make_generator(seed, drawn_by, purpose)
        order = protocols_contract.draw_order(
            self.rounds.order, generator, nodes=self.rounds.nodes, cycles=self.rounds.cycles
        )
        for place, hook in self.defences.make().hooks("order"):
            order = hook(randomness.make_generator(seed, drawn_by, purpose, place + 1), order)
        return order

    def make_schedule(self, order: np.ndarray) -> Schedule:
        """Returns the protocol's schedule of all cycles of an order."""
        with registry.calling(self.rounds.kind, field="federation.kind"):
            made = self.protocol.schedule(order)
            if not isinstance(made, Schedule):
                raise TypeError(f"its schedule is a {type(made).__name__}, Schedule expected")
            return made

    @functools.cached_property
    def scored_cycles(self) -> tuple[int, ...]:
        """Cycles whose snapshots are attacked, counted from 0."""
        return protocols_contract.scored_cycles(self.rounds)

    @property
    def snapshots_per_cycle(self) -> int:
        """P."""
        return len(self.schedule()) // max(len(self.scored_cycles), 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One independent repetition of one point: its settings and the records that it drew."""

    plans: Plans
    values: Mapping[str, Any]  # what sets the point apart, by dotted name
    replicate: int
    dataset: datasets.Dataset
    dealt: pools.Pools
    shards: pools.Shards  # [N, n], trained on
    split: pools.ShadowSplit
    audit: reference_records.Audit | None = None
    tossed: pools.Shards | None = None  # [N, n], records of which coins decided whether they are trained on

    @property
    def settings(self) -> schema.Settings:
        """All settings of the point."""
        return self.plans.settings

    @functools.cached_property
    def scored(self) -> np.ndarray:
        """Rows of the scored records, i32[M]: the federation's pool, then the test pool; or those of the audit."""
        if self.audit is not None:
            return self.audit.rows
        return np.concatenate([self.dealt.federation, self.dealt.test])

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

    @property
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


def hyper(runs: Sequence[Run]) -> types.Hyper:
    """Returns the traced numbers of training of every run, leaves f32[len(runs)]."""
    return jax.tree.map(lambda *values: jnp.array(values, jnp.float32), *(run.plans.hyper for run in runs))


def check(plans: Plans) -> None:
    """Checks the names of registered things, before records are read.

    Raises:
      InputError: no such network, attack, view, protocol or defence; attacks that want references without any; a
        defence that the engine cannot honour.
    """
    sizes.check(plans.settings)
    data.find(plans.settings.get("data.name"))
    networks.make_network(plans.network, num_classes=2)
    attacks.check(plans.settings.get("attack.names"))
    attacks.make_model_attacks(plans.model_attacks, num_classes=2)
    _check_answers(plans)
    correction.check(plans.claim)
    _check_views(plans)


def _check_views(plans: Plans) -> None:
    """Checks views against the federation's schedule, and that attacks with references have some."""
    schedule = plans.schedule() if plans.rounds.cycles else Schedule.cyclic(nodes=plans.rounds.nodes, cycles=1)
    counted = np.bincount(plans.make_schedule(plans.order()).cycle, minlength=plans.rounds.cycles)
    if len(counted) > plans.rounds.cycles or (counted != counted[:1]).any():
        raise errors.InputError(
            f"federation.kind={plans.rounds.kind!r}: its schedule has {counted.tolist()} snapshots in its cycles; "
            f"{plans.rounds.cycles} cycles must leave as many each"
        )
    names = plans.settings.get("attack.views")
    _check_orders(plans, names)
    parties = [party for name in names for party in views.make_view(name, schedule)]
    if not parties:
        raise errors.InputError(f"attack.views={names!r}: name a view; {views.KNOWN}")
    setup = attacks_contract.Setup.of(schedule, [party.mask for party in parties])
    attacks.make_reference_attacks(plans.reference_attacks, setup)
    if plans.reference_attacks.names and not plans.references.federations:
        raise errors.InputError(
            f"shadow.federations=0: attack.names={plans.reference_attacks.names[0]!r} compares with reference "
            "federations; set some, 16 or more"
        )


def _check_answers(plans: Plans) -> None:
    """Checks that an outsider is there, where a defence changes what it is answered."""
    if not plans.answered:
        return
    made = zip(plans.defences.names, plans.defences.make().defences, strict=True)
    name = next(name for name, defence in made if defence.answer is not None)
    if "outsider" not in plans.settings.get("attack.views") or not plans.references.federations:
        raise errors.InputError(
            f"defense.names={name!r}: acts on what an outsider is answered, and nobody asks; name outsider in "
            "attack.views and set shadow.federations"
        )
    if plans.shadows.kind == "federated":
        raise errors.InputError(
            f"defense.names={name!r}: acts on what an outsider is answered, which shadow.kind='federated' cannot "
            "honour; take centralised shadows"
        )


def _check_orders(plans: Plans, names: Sequence[str]) -> None:
    """Checks that there is an order that a party might not know, where a view says so."""
    unordered = next((name for name in names if views.needs_drawn_order(name)), None)
    if unordered is None:
        return
    rounds, kind = plans.rounds, plans.shadows.kind
    if rounds.order_shared or not protocols_contract.is_drawn(rounds.order, nodes=rounds.nodes):
        raise errors.InputError(
            f"attack.views={unordered!r}: federation.order={rounds.order!r} of {rounds.nodes} nodes with "
            f"federation.order_shared={rounds.order_shared} is known to whoever trains references; set a random order "
            "of two nodes or more, and federation.order_shared=False"
        )
    if kind == "federated":
        raise errors.InputError(
            f"attack.views={unordered!r}: shadow.kind={kind!r} trains shadows in the target's order, and so knows it; "
            "take centralised shadows"
        )


def prepare(points: Sequence[sweeps.Point]) -> list[Run]:
    """Reads the records of every point and draws those of its replicates; what points share is made once.

    Raises:
      InputError: unusable records, or records that do not suffice for the pools, nodes or shadows.
    """
    every = [(Plans(point.settings), point.values) for point in points]
    sizes.check_count(plans.settings for plans, _ in every)
    for plans, _ in every:
        check(plans)
    read = functools.cache(data.read)
    check_network = functools.cache(networks.check)
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
            check_network(plans.network, run.module, num_features=run.dataset.features.shape[1])
            if plans.rounds.cycles:
                programs.check_protocol(
                    run.learning,
                    plans.rounds.kind,
                    plans.protocol_options,
                    nodes=plans.rounds.nodes,
                    num_snapshots=plans.snapshots_per_cycle,
                )
            if plans.defences.names:
                programs.check_training(run.learning, run.dataset.features.dtype)
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


def _solve(plans: Plans, of_point: Sequence[Run]) -> Sequence[Run]:
    """The replicates of a point with what their defences solve for as settings like any other; no promise is void."""
    solved = {f"defense.{name}": value for name, value in plans.defences.solve([run.use for run in of_point]).items()}
    if solved:
        items = tuple((name, solved.get(name, value)) for name, value in plans.settings.items)
        plans = Plans(schema.Settings(items))
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
    """Data set, pools, shards, shadow records, audited and tossed records of one replicate, as `Run` takes them."""
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
    return dataset, dealt, shards, split, audit, everyone if dealing.canary_rate else None
