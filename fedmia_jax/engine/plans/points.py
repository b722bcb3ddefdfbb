"""What the settings of a point say to each part of the science, and what of it is refused before records are read."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedmia_jax import attacks, data, defenses, errors, protocols, randomness, registry, types
from fedmia_jax.attacks import contract as attacks_contract
from fedmia_jax.attacks import signals as attack_signals
from fedmia_jax.audit import correction, views
from fedmia_jax.config import schema
from fedmia_jax.data import pools
from fedmia_jax.data import references as reference_records
from fedmia_jax.engine.plans import sizes
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
        return _draw_path(self.rounds, self.defences.static, self.settings.get("seed"), drawn_by)

    def make_schedule(self, order: np.ndarray) -> Schedule:
        """Returns the protocol's schedule of all cycles of an order."""
        return _make_schedule(self.rounds, order)

    @functools.cached_property
    def scored_cycles(self) -> tuple[int, ...]:
        """Cycles whose snapshots are attacked, counted from 0."""
        return protocols_contract.scored_cycles(self.rounds)

    @property
    def snapshots_per_cycle(self) -> int:
        """P."""
        return len(self.schedule()) // max(len(self.scored_cycles), 1)


@functools.lru_cache(maxsize=1024)
def _draw_path(
    rounds: protocols_contract.Options, chosen: defenses.Chosen, seed: int, drawn_by: int
) -> tuple[np.ndarray, Schedule]:
    """Draws an order, lets the defences change it, and makes its schedule; points of a sweep share them."""
    purpose = randomness.Purpose.ORDER
    generator = randomness.make_generator(seed, drawn_by, purpose)
    order = protocols_contract.draw_order(rounds.order, generator, nodes=rounds.nodes, cycles=rounds.cycles)
    for place, hook in chosen.make().hooks("order"):
        order = hook(randomness.make_generator(seed, drawn_by, purpose, place + 1), order)
    return order, _make_schedule(rounds, order).of_cycles(protocols_contract.scored_cycles(rounds))


def _make_schedule(rounds: protocols_contract.Options, order: np.ndarray) -> Schedule:
    """The protocol's schedule of all cycles of an order."""
    with registry.calling(rounds.kind, field="federation.kind"):
        made = protocols.find(rounds.kind).schedule(order)
        if not isinstance(made, Schedule):
            raise TypeError(f"its schedule is a {type(made).__name__}, Schedule expected")
        return made


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
