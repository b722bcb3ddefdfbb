"""The attacks by name: one file a family, one of two contracts, one line each in a registry.

An attack on one model is a fit and a score. `fit` sees the adversary's own shadows, whose membership it knows; `score`
then reads the signals of any snapshot. An attack with references reads one signal of all snapshots, phi or another that
its factory names, and compares it with reference federations. Thresholds come from shadows and references, never from
the records under attack.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from fedmia_jax import errors, options, registry
from fedmia_jax.attacks import (
    base,
    calibration,
    contract,
    delta,
    lira,
    network,
    network_per_class,
    peers,
    rmia,
    sequence,
    shapes,
    signals,
    stacked,
    thresholds,
    trajectory,
)

ATTACKS: dict[str, contract.Factory] = {
    "network": network.NETWORK,
    "network_per_class": network_per_class.NETWORK_PER_CLASS,
    **thresholds.FACTORIES,
    "lira_online": lira.ONLINE,
    "lira_offline": lira.OFFLINE,
    "rmia_online": rmia.ONLINE,
    "rmia_offline": rmia.OFFLINE,
    "base_online": base.ONLINE,
    "base_offline": base.OFFLINE,
    "calibration": calibration.CALIBRATION,
    **delta.FACTORIES,
    "peers": peers.PEERS,
    "sequence_lira": sequence.SEQUENCE_LIRA,
    "trajectory": trajectory.TRAJECTORY,
    "stacked": stacked.STACKED,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Which attacks run."""

    names: tuple[str, ...] = options.option(
        ("network",), "attacks to run, by their names in attacks.ATTACKS or package.module:name"
    )


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Attacks by name with the values of all of their options; hashable.

    Attributes:
      names: in the order in which they are reported.
      values: option and value, sorted by option; exactly those that these attacks declare.
    """

    names: tuple[str, ...] = ()
    values: tuple[tuple[str, Any], ...] = ()


def find(name: str) -> contract.Factory:
    """Returns the factory of an attack by its name here, or by `package.module:name`.

    Raises:
      InputError: no such attack.
    """
    return registry.find(name, ATTACKS, contract.Factory, field="attack.names")


def on_one_model(names: Sequence[str]) -> tuple[str, ...]:
    """Returns those of the names that stand for attacks on one model."""
    return tuple(name for name in names if isinstance(find(name), contract.ModelAttackFactory))


def with_references(names: Sequence[str]) -> tuple[str, ...]:
    """Returns those of the names that stand for attacks with reference federations."""
    return tuple(name for name in names if isinstance(find(name), contract.ReferenceAttackFactory))


def check(names: Sequence[str]) -> None:
    """Checks that an experiment can run these attacks.

    Raises:
      InputError: an unknown name, a name twice, or no attack on one model.
    """
    if len(set(names)) < len(names):
        raise errors.InputError(f"attack.names={tuple(names)!r}: names an attack twice; name each once")
    if not on_one_model(names):
        known = f"must be some of {', '.join(ATTACKS)}"
        raise errors.InputError(f"attack.names={tuple(names)!r}: name one on one model, such as network; {known}")


def choose(names: Sequence[str], values: Mapping[str, Any]) -> Chosen:
    """Picks the options of some attacks out of a mapping that may hold more.

    Raises:
      InputError: no such attack.
    """
    declared = options.declared(*(find(name).options for name in names))
    return Chosen(tuple(names), tuple((option, values[option]) for option in sorted(declared)))


def make_model_attacks(chosen: Chosen, *, num_classes: int) -> dict[str, contract.ModelAttack]:
    """Returns the attacks on one model among the chosen ones, in their order.

    Args:
      chosen: attacks and the values of their options.
      num_classes: K.
    """
    made = {}
    for name in chosen.names:
        factory = find(name)
        if isinstance(factory, contract.ModelAttackFactory):
            with registry.calling(name, field="attack.names"):
                made[name] = factory.make(options.read(factory.options, dict(chosen.values)), num_classes)
                if ":" in name:  # those of the package are tested
                    _refuse(name, shapes.check_model_attack(made[name], num_classes=num_classes))
    return made


def make_reference_attacks(chosen: Chosen, setup: contract.Setup) -> dict[str, contract.ReferenceAttack]:
    """Returns the attacks with references among the chosen ones, in their order.

    Args:
      chosen: attacks and the values of their options.
      setup: the federation, and the views that the attacks will be asked for.
    """
    made = {}
    for name in chosen.names:
        factory = find(name)
        if isinstance(factory, contract.ReferenceAttackFactory):
            with registry.calling(name, field="attack.names"):
                made[name] = factory.make(options.read(factory.options, dict(chosen.values)), setup)
                if ":" in name:
                    _refuse(name, shapes.check_reference_attack(made[name], setup))
    return made


def _refuse(name: str, problem: str | None) -> None:
    """Raises where an attack does not give what its contract says."""
    if problem is not None:
        raise errors.InputError(f"attack.names={name!r}: {problem}")


def signals_read(chosen: Chosen) -> dict[str, signals.Signal]:
    """Returns the signal that each attack with references among the chosen ones reads, by the attack's name.

    Raises:
      InputError: a foreign attack whose `signal` gives something else.
    """
    read = {}
    for name in chosen.names:
        factory = find(name)
        if isinstance(factory, contract.ReferenceAttackFactory):
            with registry.calling(name, field="attack.names"):
                read[name] = factory.signal(options.read(factory.options, dict(chosen.values)))
            if not isinstance(read[name], signals.Signal):
                raise errors.InputError(
                    f"attack.names={name!r}: its signal is a {type(read[name]).__name__}, not Signal"
                )
    return read
