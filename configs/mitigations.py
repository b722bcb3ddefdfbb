"""What protection buys: every defence at several levels, by what it costs and what it still leaks.

    python launch.py --config=configs/mitigations.py             # every defence, synthetic records
    python launch.py --config=configs/mitigations.py --config.data.name=baskets --config.data.path=retail.dat.gz
    python launch.py --config=configs/mitigations.py:order       # who trains when, and who knows it
    python launch.py --config=configs/mitigations.py:cycles      # fewer epochs, more cycles
    python launch.py --config=configs/mitigations.py:parallel    # one model after the other, or all side by side
    python launch.py --config=configs/mitigations.py:records     # records of a node, or number of nodes
    python launch.py --config=configs/mitigations.py:audit       # stated epsilons against audited ones
    python launch.py --config=configs/mitigations.py:quick       # three nodes, few levels, a few minutes

Shadows and references train under the same defence as the targets. Expected: `report.md` begins with the frontier, the
least leakage for 1, 2, 5 and 10 points of test accuracy and how to get it, and a recommendation in words.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ml_collections

from fedmia_jax import config as configs
from fedmia_jax.config import parsing

# Levels of each family, from little to much; what a family does not name stays at its default, which does nothing.
FAMILIES: dict[str, dict[str, tuple[float, ...]]] = {
    "randomised_response": {"defense.flip_probability": (0.01, 0.02, 0.04, 0.1, 0.2)},
    "update_noise": {"defense.update_noise": (0.001, 0.004, 0.008)},
    "output_perturbation": {"defense.output_noise": (0.0005, 0.002, 0.004)},
    "dp_training": {"defense.noise_multiplier": (0.05, 0.35, 0.5, 0.8)},
    "weight_decay": {"defense.weight_decay": (1.0, 3.0)},
    "label_smoothing": {"defense.label_smoothing": (0.2, 0.5)},
}
ALONE: tuple[dict[str, Any], ...] = (  # single levels, and settings that are no defence by name
    {"model.dropout_rate": 0.9},
    {"defense.names": ("early_stopping",)},
    {"defense.names": ("temperature",), "defense.answer_temperature": 4.0},
    {"defense.names": ("rounding",), "defense.answer_digits": 1.0},
    {"defense.names": ("top_classes",), "defense.answer_classes": 1.0},
)
CLIP = 20.0  # norm that updates are clipped to, above that of most visits
WORK = 200  # local epochs of all visits of a node together
EPSILONS = (1.0, 2.0, 4.0, 8.0)
Point = Mapping[str, Any]


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Returns the sweep of defences, its `quick` form, or another comparison."""
    config = configs.make_config()
    configs.check_arg(arg, known=("", "quick", *FORMS))
    config.replicates = 3
    config.data.num_federation = 2_500
    config.data.num_test = 2_500
    config.federation.nodes = 10
    config.federation.local_epochs = 25
    config.shadow.federations = 32
    config.attack.names = ("network", "loss", "lira_online", "delta_phi", "sequence_lira", "stacked")
    config.attack.views = ("outsider", "insider", "bracket", "coordinator", "coordinator_p2p")
    config.defense.update_clip = CLIP
    config.defense.output_clip = CLIP
    if arg == "quick":
        _shrink(config)
        levels = {name: FAMILIES[name] for name in ("randomised_response", "label_smoothing")}
        config.sweep = make_points(config, make_levels(levels))
    elif arg:
        config.sweep = make_points(config, FORMS[arg](config))
    else:
        config.sweep = make_points(config, [*make_levels(FAMILIES), *ALONE])
    return config


def make_levels(families: Mapping[str, Mapping[str, Iterable[float]]]) -> list[Point]:
    """Returns every level of every family."""
    return [
        {"defense.names": (family,), name: value}
        for family, levels in families.items()
        for name, values in levels.items()
        for value in values
    ]


def make_points(config: ml_collections.ConfigDict, changes: Iterable[Point]) -> list[dict[str, Any]]:
    """Returns the points of a sweep: first the config as it stands, then the same with each of some changes."""
    changes = [{"defense.names": ()}, *changes]
    fields = sorted({name for change in changes for name in change})
    values = parsing.flat(parsing.plain(config))
    first = {name: values[name] for name in fields}
    return [first | dict(change) for change in changes]


def _shrink(config: ml_collections.ConfigDict) -> None:
    """Makes a form of a minute or two."""
    config.replicates = 2
    config.data.num_records = 6_000
    config.data.num_classes = 20
    config.data.num_federation = 600
    config.data.num_test = 600
    config.federation.nodes = 3
    config.federation.cycles = 2
    config.federation.local_epochs = 10
    config.shadow.federations = 12
    config.shadow.count = 2
    config.attack.names = ("loss", "lira_online", "sequence_lira")
    config.attack.strongest = "sequence_lira"


def _order(config: ml_collections.ConfigDict) -> list[Point]:
    """The order of the nodes: fixed, drawn and known to all, drawn and known to none.

    Where it is drawn for each federation by itself, the same models are attacked by who knows it and by who does not.
    """
    config.attack.views = ("insider", "coalition:{1,2}", "coordinator")
    unknown = tuple(f"{view}_unordered" for view in config.attack.views)
    orders = ("random", "random_no_repeat")
    return [{"federation.order": order} for order in orders] + [
        {
            "federation.order": order,
            "federation.order_shared": False,
            "attack.views": (*config.attack.views, *unknown),
        }
        for order in orders
    ]


def _cycles(config: ml_collections.ConfigDict) -> list[Point]:
    """Equal work in more cycles of fewer epochs, optimizer afresh at each visit or handed on; then less work."""
    config.federation.scored_cycles = 5
    config.federation.cycles, config.federation.local_epochs = 1, WORK
    more = [{"federation.cycles": cycles, "federation.local_epochs": WORK // cycles} for cycles in (5, 20, 50, 200)]
    carried = {"federation.carry_optimizer_state": True}
    less = [{"federation.local_epochs": epochs} for epochs in (100, 50)]
    return [*more, carried, *(change | carried for change in more), *less]


def _parallel(config: ml_collections.ConfigDict) -> list[Point]:
    """One model that goes round, or the mean of what all nodes make of the last one; few long rounds, or many short."""
    config.federation.scored_cycles = 5
    config.attack.views = ("outsider", "insider", "coordinator")
    averaged = {"federation.kind": "fedavg", "attack.views": (*config.attack.views, "coordinator_secure")}
    short = {"federation.cycles": 25, "federation.local_epochs": 5}
    return [averaged, short, averaged | short]


def _records(config: ml_collections.ConfigDict) -> list[Point]:
    """Records of a node at a fixed number of nodes, and nodes at a fixed number of records of each."""
    first = config.data.num_federation
    few = first * 3 // 10
    return [
        {"data.num_federation": few, "federation.nodes": 3},
        {"data.num_federation": first, "federation.nodes": 3},
        {"data.num_federation": few, "federation.nodes": 10},
    ]


def _audit(config: ml_collections.ConfigDict) -> list[Point]:
    """Forty runs without a defence, forty clipped but without the noise, and forty at each stated epsilon."""
    _shrink(config)
    config.replicates = 1
    config.data.canary_rate = 0.5
    config.data.num_federation = 1_200
    config.attack.names = ("loss", "sequence_lira")
    config.attack.views = ("coordinator",)
    config.attack.epsilon_delta = 1e-5
    clipped = {"defense.names": ("dp_training",)}
    defended = [clipped | {"defense.noise_multiplier": 0.0}]
    defended += [clipped | {"defense.target_epsilon": epsilon} for epsilon in EPSILONS]
    seeds = range(40)
    return [{"seed": seed} for seed in seeds[1:]] + [{"seed": seed} | point for point in defended for seed in seeds]


FORMS: dict[str, Callable[[ml_collections.ConfigDict], list[Point]]] = {
    "order": _order,
    "cycles": _cycles,
    "parallel": _parallel,
    "records": _records,
    "audit": _audit,
}
