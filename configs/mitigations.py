"""What protection buys: every defence at several levels, by what it costs and what it still leaks.

    python launch.py --config=configs/mitigations.py          # synthetic records
    python launch.py --config=configs/mitigations.py:quick    # three nodes, few levels, a few minutes
    python launch.py --config=configs/mitigations.py --config.data.name=baskets --config.data.path=retail.dat.gz

Shadows and references train under the same defence as the targets. Expected: `report.md` begins with the frontier, the
least leakage for 1, 2, 5 and 10 points of test accuracy and how to get it, and a recommendation in words.
"""

from typing import Any

import ml_collections

from fedmia_jax import config as configs

# Levels of each family, from little to much; what a family does not name stays at its default, which does nothing.
FAMILIES: dict[str, dict[str, tuple[float, ...]]] = {
    "randomised_response": {"defense.flip_probability": (0.01, 0.03, 0.06)},
    "update_noise": {"defense.update_noise": (0.0005, 0.001, 0.002)},
    "output_perturbation": {"defense.output_noise": (0.002, 0.004, 0.008)},
    "dp_training": {"defense.noise_multiplier": (0.05, 0.2, 0.5)},
    "weight_decay": {"defense.weight_decay": (0.3, 1.0, 3.0)},
    "label_smoothing": {"defense.label_smoothing": (0.2, 0.5, 0.8)},
}
CLIP = 20.0  # norm that updates are clipped to, above that of most visits


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Returns the sweep, or its `quick` form."""
    config = configs.make_config()
    configs.check_arg(arg, known=("", "quick"))
    config.replicates = 3
    config.data.num_federation = 2_500
    config.data.num_test = 2_500
    config.federation.nodes = 10
    config.federation.local_epochs = 25
    config.shadow.federations = 32
    config.attack.names = ("network", "loss", "lira_online", "delta_phi", "sequence_lira", "stacked")
    config.attack.views = ("outsider", "insider", "bracket", "coordinator")
    config.defense.update_clip = CLIP
    config.defense.output_clip = CLIP
    families = FAMILIES
    if arg == "quick":
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
        families = {name: FAMILIES[name] for name in ("randomised_response", "label_smoothing")}
    config.sweep = make_points(families)
    return config


def make_points(families: dict[str, dict[str, tuple[float, ...]]]) -> list[dict[str, Any]]:
    """Returns the points of a sweep: first none, then every level of every family."""
    fields = {name for levels in families.values() for name in levels}
    nothing = {"defense.names": (), **dict.fromkeys(sorted(fields), 0.0)}
    points = [nothing]
    for family, levels in families.items():
        for name, values in levels.items():
            points += [nothing | {"defense.names": (family,), name: value} for value in values]
    return points
