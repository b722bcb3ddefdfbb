"""The attacks: one file a family, one of two contracts, one line each in a registry.

An attack on one model is a fit and a score. `fit` sees the adversary's own shadows, whose membership it knows; `score`
then reads the signals of any snapshot. A comparison reads phi of all snapshots and compares it with reference
federations. Thresholds come from shadows and references, never from the records under attack.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from fedmia_jax import config, errors
from fedmia_jax.attacks import (
    calibration,
    contract,
    delta,
    lira,
    network,
    network_per_class,
    peers,
    rmia,
    sequence,
    thresholds,
    trajectory,
)

ATTACKS: dict[str, Callable[..., contract.Attack]] = {
    "network": network.make_attack,
    "network_per_class": network_per_class.make_attack,
    **{value: functools.partial(thresholds.make_attack, value=value) for value in thresholds.VALUES},
    **{
        f"{value}_per_class": functools.partial(thresholds.make_attack, value=value, per_class=True)
        for value in ("confidence", "entropy", "modified_entropy")
    },
}

COMPARISONS: dict[str, Callable[..., contract.Comparison]] = {  # (settings, *, nodes, masks)
    "lira_online": lambda settings, **_: lira.make_attack(settings, online=True),
    "lira_offline": lambda settings, **_: lira.make_attack(settings, online=False),
    "rmia_online": lambda settings, **_: rmia.make_attack(settings, online=True),
    "rmia_offline": lambda settings, **_: rmia.make_attack(settings, online=False),
    "calibration": lambda settings, **_: calibration.make_attack(settings),
    **{
        kind: lambda settings, *, nodes, kind=kind, **_: delta.make_attack(settings, kind=kind, nodes=nodes)
        for kind in delta.KINDS
    },
    "peers": lambda settings, *, nodes, **_: peers.make_attack(settings, nodes=nodes),
    "sequence_lira": lambda settings, **_: sequence.make_attack(settings),
    "trajectory": trajectory.make_attack,
}


def on_one_model(settings: config.Attack) -> config.Attack:
    """Returns the settings with the attacks on one model alone, and without what only comparisons read.

    Raises:
      InputError: a name in neither registry, or no attack on one model.
    """
    known = f"must be some of {', '.join([*ATTACKS, *COMPARISONS])}"
    for name in settings.names:
        if name not in ATTACKS and name not in COMPARISONS:
            raise errors.InputError(f"attack.names={settings.names!r}: no attack {name!r}; {known}")
    names = tuple(name for name in settings.names if name in ATTACKS)
    if not names:
        raise errors.InputError(f"attack.names={settings.names!r}: name one on one model, such as network; {known}")
    plain = config.Attack()
    return dataclasses.replace(
        settings, names=names, views=plain.views, variance=plain.variance, gamma=plain.gamma, offline_a=plain.offline_a
    )


def make_attacks(settings: config.Attack, *, num_classes: int) -> dict[str, contract.Attack]:
    """Returns the attacks on one model that the settings name, in their order.

    Raises:
      InputError: see `on_one_model`.
    """
    names = on_one_model(settings).names
    return {name: ATTACKS[name](settings, num_classes=num_classes) for name in names}


def make_comparisons(
    settings: config.Attack, *, nodes: int, masks: Sequence[np.ndarray]
) -> dict[str, contract.Comparison]:
    """Returns the comparisons that the settings name, in their order.

    Args:
      settings: names and numbers.
      nodes: N.
      masks: bool[T] each, the views that they will be asked for.
    """
    names = [name for name in settings.names if name in COMPARISONS]
    return {name: COMPARISONS[name](settings, nodes=nodes, masks=masks) for name in names}
